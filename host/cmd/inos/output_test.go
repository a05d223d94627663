package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOutputAppearsOnlyWhenItIsWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{out: io.Discard}
	content := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		commit bool
		want   string
	}{{false, "old"}, {true, "new"}} {
		o, err := a.createOutput(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(o, "new"); err != nil {
			t.Fatal(err)
		}
		if got := content(); got != "old" {
			t.Errorf("before the end it is %q", got)
		}
		if c.commit {
			if err := o.commit(); err != nil {
				t.Fatal(err)
			}
		}
		o.discard()
		if got := content(); got != c.want {
			t.Errorf("commit %v: it is %q, want %q", c.commit, got, c.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestOutputMayBeADevice(t *testing.T) {
	a := &app{out: io.Discard}
	o, err := a.createOutput("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(o, "gone"); err != nil {
		t.Error(err)
	}
	if err := o.commit(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Errorf("the device was replaced: %v, %v", info, err)
	}
}

func TestTextFromOthersDoesNothingToATerminal(t *testing.T) {
	var b bytes.Buffer
	tab := newTable(&b, "STATE", "NAME", "STATE")
	tab.row("a\x1b[2Jb\nc\td\u202e", "serving")
	tab.row("", "é")
	tab.end()
	if want := "NAME         STATE\na?[2Jb?c?d?  serving\n-            é\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestColoursKeepColumnsAligned(t *testing.T) {
	for word := range colours {
		if got, none := len(colour(word))-len(word), len(colour("x"))-1; got != none {
			t.Errorf("%s takes %d bytes more than it shows, others %d", word, got, none)
		}
	}
	if !strings.Contains(colour("failed"), "31m") {
		t.Error("what failed is not red")
	}
}
