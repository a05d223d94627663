package house_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// module is the path that our own imports begin with.
const module = "inos"

// rule reads a tree and returns its complaints, each "file:line: what is wrong
// and what to do".
type rule func(fsys fs.FS) []string

// project is the tree that this package belongs to.
func project(t *testing.T) fs.FS {
	t.Helper()
	fsys := os.DirFS("../..")
	if _, err := fs.Stat(fsys, "go.mod"); err != nil {
		t.Fatalf("the root of the module is not where these tests look for it: %v", err)
	}
	return fsys
}

// holds fails t once for each complaint that r has about the project.
func holds(t *testing.T, r rule) {
	t.Helper()
	for _, complaint := range r(project(t)) {
		t.Error(complaint)
	}
}

// example is an invented tree: file names and what is in them.
type example map[string]string

// complains checks that r says of e exactly what want says, in any order. Each
// of want is a part of one complaint.
func (e example) complains(t *testing.T, r rule, want ...string) {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range e {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	got := r(fsys)
	for _, part := range want {
		i := slices.IndexFunc(got, func(c string) bool { return strings.Contains(c, part) })
		if i < 0 {
			t.Errorf("no complaint has %q in it; left are %q", part, got)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if len(got) > 0 {
		t.Errorf("complaints that nobody expected: %q", got)
	}
}

// file is one file of the tree.
type file struct {
	path string // from the root, with slashes
	text []byte
}

// files returns the text files of the tree in order of their paths. It leaves
// out what is built (bin), folders whose name begins with a dot, except .ci, and
// what a test of another package removes while it reads.
func files(fsys fs.FS) []file {
	var list []file
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && p != ".":
			return nil
		case err != nil:
			return err
		case d.IsDir():
			if hidden := strings.HasPrefix(d.Name(), ".") && p != "." && p != ".ci"; hidden || p == "bin" {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		text, err := fs.ReadFile(fsys, p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if bytes.IndexByte(text, 0) < 0 {
			list = append(list, file{p, text})
		}
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("house: the tree cannot be read: %v", err))
	}
	return list
}

// source is one parsed Go file of our module.
type source struct {
	file
	*ast.File
	fset      *token.FileSet
	test      bool // named _test.go
	generated bool // opens with "Code generated ... DO NOT EDIT."
}

func (s source) dir() string { return path.Dir(s.path) }

// at renders a complaint about the code at pos.
func (s source) at(pos token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(pos).Line, fmt.Sprintf(format, args...))
}

// ours returns the files that the go command counts as part of the module: those
// in no testdata folder, no folder that begins with "_" and no module of its own.
func ours(fsys fs.FS) []file {
	all := files(fsys)
	var nested []string
	for _, f := range all {
		if path.Base(f.path) == "go.mod" && f.path != "go.mod" {
			nested = append(nested, path.Dir(f.path))
		}
	}
	return slices.DeleteFunc(all, func(f file) bool {
		for part := range strings.SplitSeq(f.path, "/") {
			if part == "testdata" || strings.HasPrefix(part, "_") {
				return true
			}
		}
		return within(f.path, nested...)
	})
}

// sources parses the Go files of the module. What does not parse is a complaint.
func sources(fsys fs.FS) (parsed []source, complaints []string) {
	for _, f := range ours(fsys) {
		if path.Ext(f.path) != ".go" {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, f.path, f.text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			complaints = append(complaints, fmt.Sprintf("does not parse: %v", err))
			continue
		}
		parsed = append(parsed, source{
			file: f, File: tree, fset: fset,
			test: strings.HasSuffix(f.path, "_test.go"), generated: ast.IsGenerated(tree),
		})
	}
	return parsed, complaints
}

// within reports whether p is one of the folders or lies below one of them.
func within(p string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return p == folder || strings.HasPrefix(p, folder+"/")
	})
}

func TestTreeLeavesOutWhatTheGoCommandLeavesOut(t *testing.T) {
	e := example{
		"go.mod": "", "a/a.go": "package a\n", "a/testdata/x.go": "not Go", "bin/b.go": "not Go", "tools/go.mod": "", "tools/x.go": "not Go",
		"_old/x.go": "not Go", ".git/x.go": "not Go", "broken/x.go": "not Go",
	}
	e.complains(t, func(fsys fs.FS) []string { _, c := sources(fsys); return c }, "broken/x.go:1:1")
}
