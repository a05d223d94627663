package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"inos/plugins/sdk/wire"
)

// Why a module cannot start.
var (
	errMissing = errors.New("a dependency is missing")
	errCycle   = errors.New("dependencies form a cycle")
)

// order sorts modules so that each comes after what it depends on. Modules that
// cannot start are left out, each with the reason: a dependency is missing, has
// the wrong version, cannot start itself, or they depend on each other.
//
// Stages may be started one after the other; the modules within one, side by
// side.
func order(manifests map[string]*wire.Manifest) (stages [][]string, refused map[string]error) {
	refused = make(map[string]error)
	level := make(map[string]int)
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		if err, ok := refused[name]; ok {
			return err
		}
		if _, ok := level[name]; ok {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			return fmt.Errorf("%w: %s", errCycle, strings.Join(append(slices.Clone(path[i:]), name), " -> "))
		}
		path = append(path, name)
		defer func() { path = path[:len(path)-1] }()
		at := 0
		for _, d := range manifests[name].Dependencies {
			before := maps.Clone(refused)
			on, err := resolve(manifests, d, visit)
			if err != nil {
				if d.Optional {
					// What goes in a circle through this wish can start without it.
					maps.DeleteFunc(refused, func(n string, err error) bool { return before[n] == nil && errors.Is(err, errCycle) })
					continue
				}
				refused[name] = err
				return err
			}
			at = max(at, level[on]+1)
		}
		level[name] = at
		return nil
	}
	names := make([]string, 0, len(manifests))
	for n := range manifests {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if visit(n) != nil {
			continue
		}
		for len(stages) <= level[n] {
			stages = append(stages, nil)
		}
		stages[level[n]] = append(stages[level[n]], n)
	}
	return stages, refused
}

// resolve finds the module that satisfies a dependency: the one named, or the
// first alternative that does.
func resolve(manifests map[string]*wire.Manifest, d wire.Dependency, visit func(string) error) (string, error) {
	var errs []error
	for _, name := range append([]string{d.Module}, d.Alternatives...) {
		m, ok := manifests[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%w: %s is not among the plugins", errMissing, name))
		case !accepts(d, m.Version):
			errs = append(errs, fmt.Errorf("%w: %s is %s, and %s to %s is needed", errMissing, name, m.Version, d.Min, d.Max))
		default:
			if err := visit(name); err != nil {
				errs = append(errs, fmt.Errorf("%s cannot start: %w", name, err))
				continue
			}
			return name, nil
		}
	}
	return "", errors.Join(errs...)
}

// accepts reports whether a dependency is content with a version.
func accepts(d wire.Dependency, v wire.Version) bool {
	return v.Compare(d.Min) >= 0 && v.Compare(d.Max) <= 0
}
