package house_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// TestGeneratedFilesAreCurrent runs the generators in a copy of the tree and
// compares. It covers every go:generate line, the Cap'n Proto contracts first.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	compiler, err := exec.LookPath("capnp")
	if err != nil {
		const what = "the capnp compiler is missing; install Debian's package capnproto, or run scripts/setup.sh"
		if os.Getenv("CI") == "true" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	before, dir := project(t), t.TempDir()
	clone(t, before, dir)

	generate := exec.CommandContext(t.Context(), "go", "generate", "./...")
	generate.Dir = dir
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("go generate ./...: %v\n%s", err, out)
	}
	stale := differences(before, os.DirFS(dir))
	for _, complaint := range stale {
		t.Error(complaint)
	}
	if len(stale) > 0 {
		version, err := exec.CommandContext(t.Context(), compiler, "--version").CombinedOutput()
		t.Logf("run make generate and commit what it writes; compiler: %s (%v)", bytes.TrimSpace(version), err)
	}
}

// clone copies the files of the tree into dir, with their permissions.
func clone(t *testing.T, fsys fs.FS, dir string) {
	t.Helper()
	for _, f := range files(fsys) {
		info, err := fs.Stat(fsys, f.path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, f.text, info.Mode().Perm()|0o200); err != nil {
			t.Fatal(err)
		}
	}
}

// differences says which files generating has changed, made or removed.
func differences(before, after fs.FS) (complaints []string) {
	committed := map[string][]byte{}
	for _, f := range files(before) {
		committed[f.path] = f.text
	}
	for _, f := range files(after) {
		text, ok := committed[f.path]
		delete(committed, f.path)
		if !ok {
			complaints = append(complaints, fmt.Sprintf("%s: generated, but not in the tree", f.path))
		} else if !bytes.Equal(text, f.text) {
			complaints = append(complaints, fmt.Sprintf("%s:%d: differs from what its generator writes", f.path, firstDifference(text, f.text)))
		}
	}
	for p := range committed {
		complaints = append(complaints, fmt.Sprintf("%s: removed by its generator", p))
	}
	return complaints
}

func TestStaleGeneratedFilesAreFound(t *testing.T) {
	generator := func(fsys fs.FS) []string {
		return differences(fsys, fstest.MapFS{
			"same.go": {Data: []byte("package a\n")}, "stale.go": {Data: []byte("package a\n\nvar x = 2\n")}, "new.go": {Data: []byte("package a\n")},
		})
	}
	example{"same.go": "package a\n", "stale.go": "package a\n\nvar x = 1\n", "gone.go": "package a\n"}.
		complains(t, generator, "stale.go:3: differs", "new.go: generated", "gone.go: removed")
}
