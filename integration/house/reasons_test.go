package house_test

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// modulePath matches a module path between backquotes.
var modulePath = regexp.MustCompile("`([a-z0-9.-]+\\.[a-z]+(?:/[\\w.~-]+)+)`")

// reasons demands that RATIONALE.md names the module of every outside package
// that the sources import.
func reasons(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	text, err := fs.ReadFile(fsys, "RATIONALE.md")
	if err != nil {
		return append(complaints, fmt.Sprintf("RATIONALE.md: %v", err))
	}
	var explained []string
	for _, m := range modulePath.FindAllStringSubmatch(string(text), -1) {
		explained = append(explained, m[1])
	}
	seen := map[string]bool{}
	for _, s := range list {
		for _, spec := range s.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			host, _, _ := strings.Cut(target, "/")
			if !strings.Contains(host, ".") || seen[target] || within(target, explained...) {
				continue
			}
			seen[target] = true
			complaints = append(complaints, s.at(spec.Pos(), "RATIONALE.md does not say why we depend on %s, and what else was considered", target))
		}
	}
	return complaints
}

func TestEveryDependencyHasAReason(t *testing.T) { holds(t, reasons) }

func TestDependenciesWithoutReasonAreFound(t *testing.T) {
	code := "package a\n\nimport (\n\t_ \"example.org/good/v2/x\"\n\t_ \"example.org/goodness\"\n\t_ \"fmt\"\n\t_ \"inos/shm\"\n)\n"
	example{
		"a/a.go": code, "a/b.go": code,
		"RATIONALE.md": "`example.org/good`: it is good, unlike example.org/goodness.\n",
	}.complains(t, reasons, "a/a.go:5")
	example{"a/a.go": code}.complains(t, reasons, "RATIONALE.md: ")
}
