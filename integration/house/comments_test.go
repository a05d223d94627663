package house_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"strings"
	"testing"
)

// packageComments demands that every folder with Go in it says what it is for,
// in a file that is no test.
func packageComments(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	commented := map[string]bool{}
	for _, s := range list {
		says := s.Doc.Text()
		commented[s.dir()] = commented[s.dir()] || !s.test && says != "" &&
			(s.Name.Name == "main" || strings.HasPrefix(says, "Package "+s.Name.Name+" "))
	}
	for _, s := range list {
		if !commented[s.dir()] {
			commented[s.dir()] = true // one complaint for each folder
			complaints = append(complaints, s.at(s.Package, "package %s has no comment; say in a file that is no test what it is for, beginning with \"Package %[1]s \"", s.Name.Name))
		}
	}
	return complaints
}

// selfExplaining are methods whose meaning is given by an interface of the
// standard library.
var selfExplaining = map[string]bool{
	"Error": true, "String": true, "Unwrap": true, "Is": true, "Read": true, "Write": true, "ServeHTTP": true,
	"Len": true, "Less": true, "Swap": true, "MarshalJSON": true, "UnmarshalJSON": true,
}

// nameComments demands a doc comment on every exported name of the packages that
// people write. A comment on a group counts for the constants and variables in
// it, not for types.
func nameComments(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	for _, s := range list {
		if s.test || s.generated || s.Name.Name == "main" {
			continue
		}
		bare := func(name *ast.Ident, docs ...*ast.CommentGroup) {
			if !name.IsExported() {
				return
			}
			for _, d := range docs {
				if d.Text() != "" {
					return
				}
			}
			complaints = append(complaints, s.at(name.Pos(), "exported %s has no comment", name.Name))
		}
		for _, d := range s.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || receiver(d).IsExported() && !selfExplaining[d.Name.Name] {
					bare(d.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						if d.Lparen == token.NoPos {
							bare(spec.Name, d.Doc)
						} else {
							bare(spec.Name, spec.Doc, spec.Comment)
						}
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							bare(name, d.Doc, spec.Doc, spec.Comment)
						}
					}
				}
			}
		}
	}
	return complaints
}

// receiver returns the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) *ast.Ident {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x
		default:
			return ast.NewIdent("_")
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) { holds(t, packageComments) }

func TestEveryExportedNameIsDocumented(t *testing.T) { holds(t, nameComments) }

func TestPackagesWithoutCommentAreFound(t *testing.T) {
	example{
		"a/a.go":      "// Package a holds letters.\npackage a\n",
		"a/more.go":   "package a\n",
		"b/b.go":      "package b\n",
		"b/more.go":   "package b\n",
		"c/c_test.go": "// Package c is only a test.\npackage c\n",
		"d/d.go":      "// Something else.\npackage d\n",
		"e/e.go":      "// Letters begins with D, not with Package.\npackage main\n",
		"f/f.go":      "//go:build linux\n\npackage main\n",
	}.complains(t, packageComments, "b/b.go:1", "c/c_test.go:2", "d/d.go:2", "f/f.go:3")
}

func TestExportedNamesWithoutCommentAreFound(t *testing.T) {
	tests := []struct {
		name, code string
		want       []string
	}{
		{"function", "func F() {}", []string{"exported F"}},
		{"documented function", "// F does.\nfunc F() {}", nil},
		{"directive is no comment", "//go:noinline\nfunc F() {}", []string{"exported F"}},
		{"own function", "func f() {}", nil},
		{"type", "type T int", []string{"exported T"}},
		{"types in a group", "// Types.\ntype (\n\tT int\n\t// U is.\n\tU int\n)", []string{"exported T"}},
		{"method", "// T is.\ntype T int\nfunc (t *T) M() {}", []string{"exported M"}},
		{"method of a generic type", "// T is.\ntype T[K any] struct{}\nfunc (T[K]) M() {}", []string{"exported M"}},
		{"method of a type of one's own", "type t int\nfunc (t) M() {}", nil},
		{"method that explains itself", "// T is.\ntype T int\nfunc (T) String() string { return \"\" }", nil},
		{"constant", "const C = 1", []string{"exported C"}},
		{"constants in a group", "// Some.\nconst (\n\tC = 1\n\tD = 2\n)", nil},
		{"constants with remarks", "const (\n\tC = 1 // one\n\tD = 2\n)", []string{"exported D"}},
		{"variables", "var A, b = 1, 2", []string{"exported A"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			example{"a/a.go": "package a\n\n" + tt.code + "\n"}.complains(t, nameComments, tt.want...)
		})
	}
	t.Run("what nobody reads as documentation", func(t *testing.T) {
		example{
			"a/a_test.go": "package a\n\nfunc F() {}\n",
			"b/b.go":      "// Code generated by hand. DO NOT EDIT.\n\npackage b\n\nfunc F() {}\n",
			"c/c.go":      "package main\n\nfunc F() {}\n",
		}.complains(t, nameComments)
	})
}
