package house_test

import (
	"bytes"
	"fmt"
	"go/format"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// saysNothing are names of packages that do not tell what a package holds.
var saysNothing = []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "types", "misc"}

// tellingNames demands that packages are named for what they hold.
func tellingNames(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s.dir()] {
			continue
		}
		seen[s.dir()] = true
		for _, name := range []string{strings.TrimSuffix(s.Name.Name, "_test"), path.Base(s.dir())} {
			if slices.Contains(saysNothing, name) {
				complaints = append(complaints, s.at(s.Name.Pos(), "the name %q does not say what the package holds", name))
				break
			}
		}
	}
	return complaints
}

// formatted demands that every Go file reads as gofmt writes it.
func formatted(fsys fs.FS) (complaints []string) {
	for _, f := range ours(fsys) {
		if path.Ext(f.path) != ".go" {
			continue
		}
		want, err := format.Source(f.text)
		switch {
		case err != nil:
			complaints = append(complaints, fmt.Sprintf("%s: %v", f.path, err))
		case !bytes.Equal(want, f.text):
			complaints = append(complaints, fmt.Sprintf("%s:%d: not as gofmt writes it; run gofmt -w %[1]s", f.path, firstDifference(f.text, want)))
		}
	}
	return complaints
}

// firstDifference returns the number of the first line in which a and b differ.
func firstDifference(a, b []byte) int {
	line := 1
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return line
		}
		if a[i] == '\n' {
			line++
		}
	}
	return line
}

// homePath matches an absolute path that exists on one developer's machine only:
// a home folder, or a work folder at the root.
var homePath = regexp.MustCompile(`(^|[^\w.~}-])/(root|work|Users/\w+|home/\w+)/`)

// portablePaths demands that nothing in the tree depends on whose machine it is.
func portablePaths(fsys fs.FS) (complaints []string) {
	for _, f := range files(fsys) {
		line := 0
		for text := range bytes.Lines(f.text) {
			line++
			if found := homePath.Find(text); found != nil {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %q is a path of one machine", f.path, line, found))
			}
		}
	}
	return complaints
}

func TestPackagesAreNamedForWhatTheyHold(t *testing.T) { holds(t, tellingNames) }

func TestGoFilesAreFormatted(t *testing.T) { holds(t, formatted) }

func TestNoFileNamesADevelopersMachine(t *testing.T) { holds(t, portablePaths) }

func TestNamesThatSayNothingAreFound(t *testing.T) {
	example{
		"host/ring/a.go":        "package ring\n",
		"host/utilisation/a.go": "package utilisation\n",
		"host/util/a.go":        "package util\n",
		"host/util/b.go":        "package util\n",
		"host/help/a.go":        "package helpers\n",
		"host/types/a.go":       "package kind\n",
		"host/x/a_test.go":      "package common_test\n",
	}.complains(t, tellingNames, "host/util/a.go:1", "host/help/a.go", "host/types/a.go", "host/x/a_test.go")
}

func TestUnformattedFilesAreFound(t *testing.T) {
	example{
		"a/good.go":   "package a\n\nvar x = 1\n",
		"a/spaces.go": "package a\n\nvar x  =  1\n",
		"a/end.go":    "package a\n\n\n",
		"a/broken.go": "package",
	}.complains(t, formatted, "a/spaces.go:3", "a/end.go:2", "a/broken.go")
}

func TestPathsOfOneMachineAreFound(t *testing.T) {
	// Put together here, so that this file is not found itself.
	in := func(folder, rest string) string { return "/" + folder + "/" + rest }
	example{
		"a.md":        "see " + in("root", "go"),
		"b.go":        "package b\n\nconst p = \"" + in("work", "x") + "\"\n",
		".ci/run":     "cd " + in("home/ann", "src") + "\n",
		"c.yml":       "dir: " + in("Users/ann", "src"),
		"d.md":        "file://" + in("home/ann", "x"),
		"good.md":     "https://example.org" + in("work", "x") + " a" + in("root", "b") + " ~" + in("work", "x") + " $HOME" + in("work", "x"),
		"better.md":   "/usr/lib/go and /proc/self/fd and /home is a folder",
		"bin/x":       in("root", "x"),
		"image.bytes": "\x00" + in("root", "x"),
	}.complains(t, portablePaths, "a.md:1", "b.go:3", ".ci/run:1", "c.yml:1", "d.md:1")
}
