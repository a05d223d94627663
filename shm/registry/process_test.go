package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

// childEnv names the file that the test binary, started anew, maps and reads.
const childEnv = "INOS_REGISTRY_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := readInChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// readInChild is the other process: it prints what it finds in the table.
func readInChild(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, int(totalSize()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	r, err := NewReader(carve(b))
	if err != nil {
		return err
	}
	list, err := r.Snapshot()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

func TestAnotherProcessReadsTheSameModules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(totalSize())); err != nil {
		t.Fatal(err)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(totalSize()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	w, err := NewWriter(carve(b))
	if err != nil {
		t.Fatal(err)
	}
	compare := func(step string) {
		t.Helper()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.Output()
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		var got []Module
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v in %s", step, err, out)
		}
		want := w.Snapshot()
		for i := range want {
			normalise(&want[i])
		}
		if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the other process reads\n%+v\nnot\n%+v", step, got, want)
		}
	}
	compare("empty")
	register(t, w, ml())
	for i := range 70 {
		register(t, w, small(i))
	}
	compare("registered")
	if _, err := w.Update("ml", StateQuarantined, 0, 8); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove("module-3"); err != nil {
		t.Fatal(err)
	}
	compare("changed")
}
