package node

import (
	"errors"
	"slices"
	"testing"

	"inos/plugins/sdk/wire"
)

func on(names ...string) []wire.Dependency {
	var d []wire.Dependency
	for _, n := range names {
		d = append(d, wire.Dependency{Module: n, Max: wire.NewestVersion})
	}
	return d
}

func TestOrderPutsDependenciesFirst(t *testing.T) {
	v := wire.Version{Major: 1, Minor: 2}
	for _, c := range []struct {
		name    string
		deps    map[string][]wire.Dependency
		stages  [][]string
		refused map[string]error
	}{
		{"independent", map[string][]wire.Dependency{"a": nil, "b": nil}, [][]string{{"a", "b"}}, nil},
		{"chain", map[string][]wire.Dependency{"a": on("b"), "b": on("c"), "c": nil}, [][]string{{"c"}, {"b"}, {"a"}}, nil},
		{"diamond", map[string][]wire.Dependency{"a": on("b", "c"), "b": on("d"), "c": on("d"), "d": nil}, [][]string{{"d"}, {"b", "c"}, {"a"}}, nil},
		{"missing", map[string][]wire.Dependency{"a": on("x"), "b": nil}, [][]string{{"b"}}, map[string]error{"a": errMissing}},
		{"missing further down", map[string][]wire.Dependency{"a": on("b"), "b": on("x")}, nil, map[string]error{"a": errMissing, "b": errMissing}},
		{"cycle", map[string][]wire.Dependency{"a": on("b"), "b": on("a"), "c": nil}, [][]string{{"c"}}, map[string]error{"a": errCycle, "b": errCycle}},
		{"itself", map[string][]wire.Dependency{"a": on("a")}, nil, map[string]error{"a": errCycle}},
		{"optional", map[string][]wire.Dependency{"a": {{Module: "x", Optional: true}}}, [][]string{{"a"}}, nil},
		{"circle through a wish", map[string][]wire.Dependency{"a": {{Module: "b", Optional: true, Max: wire.NewestVersion}}, "b": on("c"), "c": on("a")}, [][]string{{"a"}, {"c"}, {"b"}}, nil},
		{"alternative", map[string][]wire.Dependency{"a": {{Module: "x", Max: wire.Version{Major: 9}, Alternatives: []string{"b"}}}, "b": nil}, [][]string{{"b"}, {"a"}}, nil},
		{"too old", map[string][]wire.Dependency{"a": {{Module: "b", Min: wire.Version{Major: 2}, Max: wire.Version{Major: 3}}}, "b": nil}, [][]string{{"b"}}, map[string]error{"a": errMissing}},
		{"too new", map[string][]wire.Dependency{"a": {{Module: "b", Max: wire.Version{Major: 1, Minor: 1, Patch: 9}}}, "b": nil}, [][]string{{"b"}}, map[string]error{"a": errMissing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			manifests := map[string]*wire.Manifest{}
			for n, d := range c.deps {
				manifests[n] = &wire.Manifest{Name: n, Version: v, Dependencies: d}
			}
			stages, refused := order(manifests)
			if !slices.EqualFunc(stages, c.stages, slices.Equal) {
				t.Errorf("stages %v, want %v", stages, c.stages)
			}
			if len(refused) != len(c.refused) {
				t.Errorf("refused %v, want %v", refused, c.refused)
			}
			for n, want := range c.refused {
				if !errors.Is(refused[n], want) {
					t.Errorf("%s: refused with %v, want %v", n, refused[n], want)
				}
			}
		})
	}
}
