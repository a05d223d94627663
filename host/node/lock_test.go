package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRunFolderOfAKilledNodeGoesAtTheNextStart(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	home := t.TempDir()
	dir, err := runFolder(home)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "socket")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := runFolder(home)
	if err != nil || again != dir {
		t.Fatalf("%s, then %s, %v", dir, again, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what the killed node left is still there: %v", err)
	}
	other, err := runFolder(t.TempDir())
	if err != nil || other == dir {
		t.Errorf("another home has the folder %s, %v", other, err)
	}
}
