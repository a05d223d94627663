package wire

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"inos/protocols/system/v1"
)

// Bounds of a manifest. Names are as long as the registry has room for.
const (
	maxRegistryName = 31
	maxSentence     = 1 << 10
	maxCapabilities = 256
	maxParams       = 64
	maxChoices      = 64
	maxDependencies = 64
	maxStates       = 64
	maxConcurrency  = system.RingEntriesMaximum
	maxProblems     = 32 // reported at once
)

var (
	plainName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	dottedName = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)
)

// Validate returns every reason why m cannot be served, or nil. It knows nothing
// of other modules, of the host's ABI or of the operator's policy.
func (m *Manifest) Validate() error {
	p := problems{list: new([]error)}
	p.name("module name", m.Name, plainName)
	if m.Version == (Version{}) {
		p.add("version: 0.0.0 is none; count from 0.0.1")
	}
	p.length("description", m.Description, maxSentence)
	p.length("license", m.License, maxName)
	if m.Concurrency < 1 || m.Concurrency > maxConcurrency {
		p.add("concurrency: %d is not from 1 to %d", m.Concurrency, maxConcurrency)
	}
	p.count("capabilities", len(m.Capabilities), maxCapabilities)
	p.count("dependencies", len(m.Dependencies), maxDependencies)
	p.count("state blocks", len(m.State), maxStates)
	p.count("exclusive resources", len(m.Resources.Exclusive), maxList)

	distinct(p, "capability", m.Capabilities, func(c Capability) string { return c.Name })
	for i := range m.Capabilities {
		m.Capabilities[i].validate(p.of("capability %q", m.Capabilities[i].Name))
	}
	distinct(p, "dependency", m.Dependencies, func(d Dependency) string { return d.Module })
	for _, d := range m.Dependencies {
		d.validate(p.of("dependency %q", d.Module), m.Name)
	}
	distinct(p, "state block", m.State, func(s StateSpec) string { return s.Name })
	for _, s := range m.State {
		p.name("state block", s.Name, plainName)
		if s.MaxBytes == 0 {
			p.add("state block %q: say how many bytes it may have", s.Name)
		}
		p.count("schemas that state block "+s.Name+" adopts", len(s.Adopts), maxStates)
		if slices.Contains(s.Adopts, s.Schema) {
			p.add("state block %q: schema %d is its own; adopts is for others", s.Name, s.Schema)
		}
	}
	distinct(p, "need", m.Needs, system.Grant.String)
	for _, g := range m.Needs {
		if g.String() == "" {
			p.add("needs: there is no grant %d", uint16(g))
		}
	}
	distinct(p, "exclusive resource", m.Resources.Exclusive, func(e string) string { return e })
	for _, e := range m.Resources.Exclusive {
		p.length("exclusive resource", e, maxName)
		if e == "" || !utf8.ValidString(e) || strings.ContainsFunc(e, func(r rune) bool { return !unicode.IsPrint(r) }) {
			p.add("exclusive resource %q: name it in printable characters", e)
		}
	}
	m.validateSelfTest(p)
	return p.join()
}

func (m *Manifest) validateSelfTest(p problems) {
	if m.SelfTest == "" {
		return
	}
	for _, c := range m.Capabilities {
		if c.Name != m.SelfTest {
			continue
		}
		for _, s := range c.Params {
			if s.Required {
				p.add("self-test %q: its parameter %q is required, and the host has nothing to give it", m.SelfTest, s.Name)
			}
		}
		return
	}
	p.add("self-test: %q is not among the capabilities", m.SelfTest)
}

func (c *Capability) validate(p problems) {
	p.name("name", c.Name, dottedName)
	p.length("description", c.Description, maxSentence)
	p.length("input type", c.InputType, maxName)
	p.length("output type", c.OutputType, maxName)
	if c.Timeout < 0 {
		p.add("timeout: %v is negative", c.Timeout)
	}
	p.count("parameters", len(c.Params), maxParams)
	distinct(p, "parameter", c.Params, func(s ParamSpec) string { return s.Name })
	for _, s := range c.Params {
		s.validate(p.of("parameter %q", s.Name))
	}
}

func (s ParamSpec) validate(p problems) {
	p.name("name", s.Name, plainName)
	p.length("description", s.Description, maxSentence)
	p.length("default", s.Default, maxText)
	p.count("choices", len(s.Choices), maxChoices)
	if s.Kind.String() == "" {
		p.add("there is no kind %d", uint16(s.Kind))
		return
	}
	distinct(p, "choice", s.Choices, func(c string) string { return c })
	for _, c := range s.Choices {
		p.length("choice", c, maxName)
		if _, err := s.parse(c); err != nil {
			p.add("choice %w", err)
		}
	}
	if s.Default == "" {
		return
	}
	if s.Required {
		p.add("it is required, so its default %q is never used; drop one of the two", s.Default)
	}
	if v, err := s.parse(s.Default); err != nil {
		p.add("default %w", err)
	} else if err := s.choose(v); err != nil {
		p.add("default %w", err)
	}
}

func (d Dependency) validate(p problems, self string) {
	p.name("name", d.Module, plainName)
	if d.Module == self {
		p.add("a module cannot depend on itself")
	}
	if d.Min.Compare(d.newest()) > 0 {
		p.add("no version is both %s or newer and %s or older", d.Min, d.Max)
	}
	p.count("alternatives", len(d.Alternatives), maxDependencies)
	distinct(p, "alternative", append([]string{d.Module}, d.Alternatives...), func(a string) string { return a })
	for _, a := range d.Alternatives {
		p.name("alternative", a, plainName)
		if a == self {
			p.add("a module cannot be its own alternative")
		}
	}
}

// problems collects what is wrong with a thing and its parts, and where.
type problems struct {
	list  *[]error
	where string
}

// of returns the problems of a part. They end up in the same list.
func (p problems) of(format string, args ...any) problems {
	return problems{p.list, p.where + fmt.Sprintf(format, args...) + ": "}
}

func (p problems) add(format string, args ...any) {
	*p.list = append(*p.list, fmt.Errorf("%s%w", p.where, fmt.Errorf(format, args...)))
}

func (p problems) name(what, name string, pattern *regexp.Regexp) {
	switch {
	case name == "":
		p.add("%s: missing", what)
	case len(name) > maxRegistryName:
		p.add("%s: %q has %d bytes, and at most %d fit", what, name, len(name), maxRegistryName)
	case !pattern.MatchString(name):
		p.add("%s: %q does not match %s", what, name, pattern)
	}
}

func (p problems) length(what, text string, most int) {
	if len(text) > most {
		p.add("%s: %d bytes, and at most %d fit", what, len(text), most)
	}
}

func (p problems) count(what string, n, most int) {
	if n > most {
		p.add("%d %s, and at most %d fit", n, what, most)
	}
}

// distinct reports each key that several of the values have.
func distinct[V any](p problems, what string, vs []V, key func(V) string) {
	seen := make(map[string]int, len(vs))
	for _, v := range vs {
		k := key(v)
		if seen[k]++; seen[k] == 2 {
			p.add("%s %q: given more than once", what, k)
		}
	}
}

// join returns all problems as one error, the first of them if they are many.
func (p problems) join() error {
	list := *p.list
	if len(list) > maxProblems {
		list = append(list[:maxProblems:maxProblems], fmt.Errorf("and %d more", len(list)-maxProblems))
	}
	return errors.Join(list...)
}
