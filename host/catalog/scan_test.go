package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const script = "#!/bin/sh\necho served\n"

// put writes a file with a mode that no umask changes.
func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// folder makes a folder that nobody else can write.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// only scans a folder with one candidate.
func only(t *testing.T, dir string) Candidate {
	t.Helper()
	list, err := Scan(dir, Limits{})
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v; want one candidate", list, err)
	}
	return list[0]
}

func TestScanSaysWhatBecomesOfEachFile(t *testing.T) {
	dir, elsewhere := folder(t), folder(t)
	put(t, filepath.Join(elsewhere, "target"), script, 0o755)
	put(t, filepath.Join(dir, "a-script"), script, 0o755)
	put(t, filepath.Join(dir, "b-program"), string(tiny(t, nil)), 0o755)
	put(t, filepath.Join(dir, "c-text"), "hello", 0o755)
	put(t, filepath.Join(dir, "d-idle"), script, 0o644)
	put(t, filepath.Join(dir, "e-cut"), string(tiny(t, nil)[:70]), 0o755)
	put(t, filepath.Join(dir, "f-public"), script, 0o777)
	put(t, filepath.Join(dir, "g-huge"), script, 0o755)
	if err := os.Truncate(filepath.Join(dir, "g-huge"), 1<<20); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "h-\x1b[2J"), script, 0o755)
	put(t, filepath.Join(dir, "i-orphan"), "#!/nonexistent/interpreter\n", 0o755)
	for name, target := range map[string]string{
		"j-link": filepath.Join(elsewhere, "target"), "k-dangling": "nowhere", "l-loop": "l-loop", "m-folder": elsewhere,
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "n-pipe"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".hidden", "a-script.sha256", "a-script.minisig", "README.md", "SHA256SUMS"} {
		put(t, filepath.Join(dir, name), "not looked at", 0o777)
	}
	if err := os.Mkdir(filepath.Join(dir, "z-folder"), 0o700); err != nil {
		t.Fatal(err)
	}

	list, err := Scan(dir, Limits{MaxBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name string
		kind Kind
		err  error
	}{
		{"a-script", Script, nil},
		{"b-program", ELF, nil},
		{"c-text", 0, NotAPlugin},
		{"d-idle", Script, NotExecutable},
		{"e-cut", 0, Truncated},
		{"f-public", 0, UnsafePermissions},
		{"g-huge", 0, TooLarge},
		{"h-\x1b[2J", 0, BadName},
		{"i-orphan", Script, MissingInterpreter},
		{"j-link", Script, nil},
		{"k-dangling", 0, Unreadable},
		{"l-loop", 0, Unreadable},
		{"n-pipe", 0, NotAPlugin},
	}
	if len(list) != len(want) {
		t.Fatalf("%d candidates, want %d: %+v", len(list), len(want), list)
	}
	for i, w := range want {
		c := list[i]
		if c.Name != w.name || c.Kind != w.kind || !errors.Is(c.Err, w.err) {
			t.Errorf("candidate %d is %q %v %v, want %q %v %v", i, c.Name, c.Kind, c.Err, w.name, w.kind, w.err)
		}
		var r *Refusal
		if errors.As(c.Err, &r) && (r.File != c.Path || r.Detail == "" || r.Hint == "") {
			t.Errorf("%q: incomplete refusal %+v", c.Name, r)
		}
		if c.Err != nil && strings.ContainsRune(c.Err.Error(), '\x1b') {
			t.Errorf("%q: the message carries the control character", c.Name)
		}
		if linked := w.name == "j-link"; c.Err == nil && c.Linked() != linked {
			t.Errorf("%q: linked %v", c.Name, c.Linked())
		}
	}
}

func TestScanRefusesAFolderThatOthersCanWrite(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	if err := os.Chmod(dir, 0o757); err != nil {
		t.Fatal(err)
	}
	var r *Refusal
	if c := only(t, dir); !errors.As(c.Err, &r) || r.Reason != UnsafePermissions || r.Hint != "chmod go-w "+dir {
		t.Fatalf("got %+v", c)
	}
}

func TestScanRefusesALinkIntoAFolderThatOthersCanWrite(t *testing.T) {
	dir, elsewhere := folder(t), folder(t)
	put(t, filepath.Join(elsewhere, "target"), script, 0o755)
	if err := os.Chmod(elsewhere, 0o757); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "target"), filepath.Join(dir, "plugin")); err != nil {
		t.Fatal(err)
	}
	if c := only(t, dir); !errors.Is(c.Err, UnsafePermissions) {
		t.Fatalf("got %v", c.Err)
	}
}

func TestScanIsBoundedAndInOrder(t *testing.T) {
	dir := folder(t)
	for i := range 7 {
		put(t, filepath.Join(dir, fmt.Sprintf("plugin-%d", 6-i)), script, 0o755)
	}
	list, err := Scan(dir, Limits{MaxFiles: 5})
	if err != nil || len(list) != 7 {
		t.Fatalf("got %d, %v", len(list), err)
	}
	if !slices.IsSortedFunc(list, func(a, b Candidate) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not in order of the names")
	}
	for i, c := range list {
		if i < 5 && c.Err != nil || i >= 5 && !errors.Is(c.Err, TooMany) {
			t.Errorf("file %d: %v", i, c.Err)
		}
	}
}

func TestScanNeedsAFolder(t *testing.T) {
	if _, err := Scan(filepath.Join(t.TempDir(), "nowhere"), Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestInspectSeesWhatScanSees(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	if c, ok := Inspect(filepath.Join(dir, "plugin"), Limits{}); !ok || c != only(t, dir) {
		t.Errorf("got %+v, %v", c, ok)
	}
	for _, name := range []string{".plugin", "plugin.sha256", "."} {
		if _, ok := Inspect(filepath.Join(dir, name), Limits{}); ok {
			t.Errorf("%q counts as a plugin", name)
		}
	}
}

func TestStampChangesWithTheFile(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "plugin")
	put(t, path, script, 0o755)
	before := only(t, dir)
	if again := only(t, dir); again.Stamp != before.Stamp {
		t.Fatal("the stamp of an untouched file changed")
	}
	put(t, path+".new", script, 0o755)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if after := only(t, dir); after.Stamp == before.Stamp {
		t.Fatal("another file of the same size and content has the same stamp")
	}
}
