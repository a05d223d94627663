package scaffold

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// source is the root of the module that this package belongs to.
func source(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := FindSource(here)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNewPluginIsShortAndComplete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "greet")
	files, err := Plugin{Name: "greet", Dir: dir, Source: source(t)}.Write()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 {
		t.Errorf("files %v, want main.go, a test, go.mod, go.sum and README.md", files)
	}
	main, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(main), "\n"); n >= 40 {
		t.Errorf("main.go has %d lines, want less than 40", n)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "{{.") || strings.Contains(string(text), "<no value>") {
			t.Errorf("%s was not filled in:\n%s", f, text)
		}
	}
}

// TestNewPluginBuildsAndPassesItsTest is what an author does first. It needs no
// network: every module is that of INOS itself.
func TestNewPluginBuildsAndPassesItsTest(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a module")
	}
	dir := filepath.Join(t.TempDir(), "greet")
	if _, err := (Plugin{Name: "greet", Dir: dir, Source: source(t)}).Write(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"test", "./..."}, {"build", "-o", filepath.Join(dir, "greet"), "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestNamesThatNoManifestAcceptsAreRefused(t *testing.T) {
	for _, name := range []string{"", "Greet", "1st", "a.b", "a/b", "..", "a_b", strings.Repeat("a", 32)} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := (Plugin{Name: name, Dir: dir, Source: source(t)}).Write(); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v, want ErrName", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: the folder was made", name)
		}
	}
}

func TestLongNamesGiveAValidCapability(t *testing.T) {
	for _, name := range []string{"a", strings.Repeat("a", 31), strings.Repeat("a", 24) + "-bcdefg"} {
		if c := (Plugin{Name: name}).Capability(); len(c) > maxCapability || strings.Contains(c, "-.") || !strings.HasSuffix(c, ".hello") {
			t.Errorf("%s: %q", name, c)
		}
	}
}

func TestFolderWithSomethingInItIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "main.go")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Plugin{Name: "greet", Dir: dir, Source: source(t)}).Write(); !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" {
		t.Errorf("main.go is %q now, %v", text, err)
	}
}

func TestSourcesMustBeThere(t *testing.T) {
	if _, err := (Plugin{Name: "greet", Dir: filepath.Join(t.TempDir(), "new"), Source: t.TempDir()}).Write(); !errors.Is(err, ErrSource) {
		t.Errorf("error %v, want ErrSource", err)
	}
	if dir, err := FindSource(t.TempDir()); !errors.Is(err, ErrSource) {
		t.Errorf("found %q, %v; want ErrSource", dir, err)
	}
}

func TestRequirementsAreReadInEveryForm(t *testing.T) {
	release, got := requirements([]byte("module inos\n\ngo 1.26.0\n\ntool x/y\n\nrequire a/b v1.0.0\n\nrequire (\n\tc/d v2.0.0 // indirect\n\te v0.1.0\n)\n"))
	if want := "a/b v1.0.0|c/d v2.0.0|e v0.1.0"; release != "1.26.0" || strings.Join(got, "|") != want {
		t.Errorf("%q %q", release, got)
	}
}
