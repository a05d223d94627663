package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inos/host/api"
)

func TestNodeWithoutPluginsAnswers(t *testing.T) {
	plugins := t.TempDir()
	if err := os.WriteFile(filepath.Join(plugins, "notes.txt"), []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, plugins, "--log-level", "off")
	if !strings.Contains(r.out.String(), r.home) || !strings.Contains(r.out.String(), "notes.txt is refused") {
		t.Errorf("it said\n%s", r.out)
	}
	r.inos(t, "plugin", "list").wants(t, exitOK, "notes.txt", "refused")
	var list api.Plugins
	if err := json.Unmarshal([]byte(r.inos(t, "plugin", "list", "--json").out), &list); err != nil || len(list.Plugins) != 1 || list.Plugins[0].Phase != "refused" {
		t.Errorf("%+v, %v", list, err)
	}
	r.inos(t, "plugin", "info", "notes.txt").wants(t, exitOK, "why", "what to do")
	r.inos(t, "plugin", "info", "none").wants(t, exitNotFound, "plugin list")
	r.inos(t, "capability", "list").wants(t, exitOK, "CAPABILITY")
	r.inos(t, "job", "list").wants(t, exitOK, "no jobs yet")
	r.inos(t, "job", "show", "12ab").wants(t, exitNotFound, "job list")
	r.inos(t, "job", "cancel", "12ab").wants(t, exitNotFound)
	r.inos(t, "job", "show", "what").wants(t, exitUsage, "not the number of a job")
	r.inos(t, "job", "run", "no.thing").wants(t, exitNotFound, "no.thing")
	r.inos(t, "job", "run", "no.thing", "--in", filepath.Join(plugins, "none")).wants(t, exitFailed, "no such file")
	r.inos(t, "job", "run", "no.thing", "--in", plugins).wants(t, exitFailed, "is a folder")
	r.inos(t, "job", "run", "no.thing", "--priority", "urgent").wants(t, exitUsage, "emergency")
	r.inos(t, "store", "ls").wants(t, exitNotFound, "storage.list")
	if err := os.WriteFile(filepath.Join(plugins, "late"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	r.inos(t, "store", "ls").wants(t, exitNotFound, "notes.txt is refused: see inos plugin list")
	r.inos(t, "segment", "show", "--regions").wants(t, exitOK, "16 MiB in all", "commons", "registry")
	r.inos(t, "tour").wants(t, exitFailed, "notes.txt")
	inos(t, "run", "--home", r.home, "--plugins", plugins, "--log-level", "off").wants(t, exitFailed, "another node", "--home")
	r.interrupt(t)
	r.inos(t, "plugin", "list").wants(t, exitNotRunning)
}

func TestPluginsFolderThatIsNamedMustExist(t *testing.T) {
	home, none := privateDir(t), filepath.Join(t.TempDir(), "none")
	args := []string{"run", "--home", home, "--segment", "8MiB", "--log-level", "off", "--once"}
	inos(t, append(args, "--plugins", none)...).wants(t, exitUsage, "make it or correct the path")
	if _, err := os.Stat(none); !os.IsNotExist(err) {
		t.Errorf("it was made: %v", err)
	}
	inos(t, append(args, "--plugins", os.DevNull)...).wants(t, exitUsage, "not a folder")
	inos(t, args...).wants(t, exitOK, filepath.Join(home, "plugins"), "Copy programs", "as they come")
}

func TestRunOnceStopsAndTellsHowTheTourWas(t *testing.T) {
	home, plugins := privateDir(t), t.TempDir()
	args := []string{"run", "--home", home, "--plugins", plugins, "--segment", "8MiB", "--log-level", "off", "--once"}
	inos(t, args...).wants(t, exitOK, home, "empty")
	inos(t, append(args, "--tour")...).wants(t, exitFailed, "nobody did anything")
	if _, err := os.Stat(api.SocketPath(home)); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestNodeThatCannotBeMadeSaysWhy(t *testing.T) {
	home, plugins := privateDir(t), t.TempDir()
	args := []string{"run", "--once", "--log-level", "off", "--plugins", plugins}
	inos(t, append(args, "--home", home, "--segment", "1MiB")...).wants(t, exitUsage, "4 MiB")
	inos(t, append(args, "--home", home, "--segment", "100TiB")...).wants(t, exitFailed, "memory")
	file := filepath.Join(home, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inos(t, append(args, "--home", file)...).wants(t, exitFailed, "not a directory")
	if err := os.Chmod(home, 0o755); err != nil { // what is tested
		t.Fatal(err)
	}
	inos(t, append(args, "--home", home, "--segment", "8MiB")...).wants(t, exitFailed, "chmod 700")
}

func TestInterruptDuringStartEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errInterrupted)
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs}
	code := a.execute(ctx, []string{"run", "--home", privateDir(t), "--plugins", t.TempDir(), "--segment", "8MiB", "--log-level", "off"})
	if code != exitInterrupted {
		t.Errorf("exit code %d\n%s%s", code, &out, &errs)
	}
}

func TestDoctorFailsOnAHomeOpenToOthers(t *testing.T) {
	home := privateDir(t)
	s := inos(t, "doctor", "--home", home, "--json")
	var report struct {
		Findings []struct{ Check, Level string }
	}
	if err := json.Unmarshal([]byte(s.out), &report); err != nil || len(report.Findings) < 10 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := os.Chmod(home, 0o755); err != nil { // what is tested
		t.Fatal(err)
	}
	inos(t, "doctor", "--home", home).wants(t, exitFailed, "fail", "chmod 700", "does not run here")
}

func TestPluginNewSaysHowToGoOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "greet")
	inos(t, "plugin", "new", "greet", "--dir", dir).wants(t, exitOK, "go build", "greet.hello", "cp greet ", "by itself")
	inos(t, "plugin", "new", "greet", "--dir", dir).wants(t, exitFailed, "not empty")
	inos(t, "plugin", "new", "Greet", "--dir", dir+"2").wants(t, exitUsage, "small letters")
	inos(t, "plugin", "new", "greet", "--dir", dir+"2", "--inos", t.TempDir()).wants(t, exitFailed, "--inos")
}

// TestStoreKeepsFilesAndGivesThemBack goes the whole way, with the real plugin.
func TestStoreKeepsFilesAndGivesThemBack(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plugin")
	}
	dir, plugins := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(plugins, "storage"), "inos/plugins/storage")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := start(t, plugins, "--tour", "--log-level", "off")
	if out := r.out.String(); !strings.Contains(out, "storage.put, storage.get") || strings.Contains(out, "failed") {
		t.Errorf("the tour:\n%s", out)
	}
	want := bytes.Repeat([]byte("what is kept comes back\n"), 200_000)
	file := filepath.Join(dir, "notes")
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	r.inos(t, "store", "ls").wants(t, exitOK, "Nothing is kept.")
	r.inos(t, "store", "ls", "zzz").wants(t, exitOK, `Nothing is kept whose name begins with "zzz".`)
	r.inos(t, "capability", "list").wants(t, exitOK, "STREAMS", "yes")
	r.inos(t, "store", "put", file).wants(t, exitOK, "kept notes", "chunks")
	inosWith(t, string(want), "store", "put", "-", "other", "--compression", "none", "--home", r.home).wants(t, exitOK, "kept other")
	r.inos(t, "store", "put", file, "--compression", "zip").wants(t, exitFailed, "brotli")
	r.inos(t, "store", "ls").wants(t, exitOK, "notes", "other", "zstd", "none")
	var list objectList
	if err := json.Unmarshal([]byte(r.inos(t, "store", "ls", "no", "--json").out), &list); err != nil || len(list.Objects) != 1 || list.Objects[0].Size != uint64(len(want)) {
		t.Errorf("%+v, %v", list, err)
	}
	r.inos(t, "store", "stat", "notes").wants(t, exitOK, "BLAKE3")
	r.inos(t, "store", "verify", "notes").wants(t, exitOK, "is whole")
	for _, name := range []string{"notes", "other"} {
		back := filepath.Join(dir, name+".back")
		r.inos(t, "store", "get", name, back).wants(t, exitOK, "got "+name)
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back, %v", name, len(got), err)
		}
	}
	if s := r.inos(t, "store", "get", "notes", "-"); s.code != exitOK || s.out != string(want) {
		t.Errorf("on standard output: %d, %d bytes", s.code, len(s.out))
	}
	outcome := r.inos(t, "job", "run", "storage.get", "--param", "name=notes", "--out", filepath.Join(dir, "job"), "--json")
	var res api.RunResult
	if err := json.Unmarshal([]byte(outcome.out), &res); err != nil || res.Status != "success" || res.Bytes != uint64(len(want)) {
		t.Errorf("%+v, %v", res, err)
	}
	r.inos(t, "job", "show", res.Job).wants(t, exitOK, "storage.get of storage", "success")
	r.inos(t, "job", "list").wants(t, exitOK, res.Job)
	r.inos(t, "job", "cancel", res.Job).wants(t, exitFailed, "has ended already")
	r.inos(t, "plugin", "info", "storage").wants(t, exitOK, "(streams)", "compression", "one of zstd, s2, brotli, none")
	r.inos(t, "store", "get", "none", filepath.Join(dir, "none")).wants(t, exitNotFound)
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("a file that was never kept left something: %v", err)
	}
	r.inos(t, "store", "rm", "notes", "other").wants(t, exitOK, "removed notes", "removed other")
	r.inos(t, "store", "rm", "notes").wants(t, exitNotFound)
	r.inos(t, "segment", "show").wants(t, exitOK, "storage")
}
