package registry

import (
	"errors"
	"strings"
	"testing"
)

func TestValidateNamesEveryProblem(t *testing.T) {
	m := ml()
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", MaxName+1)
	many := make([]Capability, MaxCapabilities+1)
	for name, c := range map[string]struct {
		change func(*Module)
		want   []string
	}{
		"id":           {func(m *Module) { m.ID = "Ml" }, []string{"an id is"}},
		"empty id":     {func(m *Module) { m.ID = "" }, []string{"an id is"}},
		"dot in id":    {func(m *Module) { m.ID = "a.b" }, []string{"an id is"}},
		"long id":      {func(m *Module) { m.ID = long }, []string{"an id is"}},
		"state":        {func(m *Module) { m.State = StateNone }, []string{"no state"}},
		"capability":   {func(m *Module) { m.Capabilities[0].Name = "1up" }, []string{`"1up"`}},
		"twice":        {func(m *Module) { m.Capabilities[0] = m.Capabilities[1] }, []string{"twice"}},
		"memory":       {func(m *Module) { m.Capabilities[0].MinMemory = 1 << 44 }, []string{"bytes of memory"}},
		"too many":     {func(m *Module) { m.Capabilities = many }, []string{"257 capabilities"}},
		"dependency":   {func(m *Module) { m.Dependencies[0].Module = "" }, []string{"not a module id"}},
		"dependencies": {func(m *Module) { m.Dependencies = make([]Dependency, 65) }, []string{"65 dependencies"}},
		"alternatives": {func(m *Module) { m.Dependencies[0].Alternatives = make([]string, 9) }, []string{"9 alternatives"}},
		"alternative":  {func(m *Module) { m.Dependencies[0].Alternatives = []string{"A"} }, []string{`"A"`}},
		"range":        {func(m *Module) { m.Dependencies[0].Max = Version{} }, []string{"no version is from 1.0.0 to 0.0.0"}},
		"exclusive":    {func(m *Module) { m.Resources.Exclusive = []string{""} }, []string{"exclusive resource"}},
		"exclusives":   {func(m *Module) { m.Resources.Exclusive = make([]string, 17) }, []string{"17 exclusive"}},
		"description":  {func(m *Module) { m.Description = "\xff" }, []string{"not UTF-8"}},
		"long text":    {func(m *Module) { m.Description = strings.Repeat("x", 1025) }, []string{"1025 bytes"}},
		"all at once":  {func(m *Module) { m.ID, m.State, m.Description = "", 0, "\xff" }, []string{"an id is", "no state", "not UTF-8"}},
	} {
		m := ml()
		c.change(&m)
		err := m.Validate()
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q says nothing of %q", name, err, want)
			}
		}
		w, _, _ := newTable(t)
		if _, _, err := w.Register(m); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: registered: %v", name, err)
		}
	}
}

func TestDependencyAcceptsVersionsInItsRange(t *testing.T) {
	d := Dependency{Min: Version{1, 2, 3}, Max: Version{2, 0, 0}}
	for v, want := range map[Version]bool{
		{1, 2, 2}: false, {1, 2, 3}: true, {1, 65535, 0}: true, {2, 0, 0}: true, {2, 0, 1}: false, {0, 9, 9}: false,
	} {
		if d.Accepts(v) != want {
			t.Errorf("%s: %v", v, !want)
		}
	}
	if any := (Dependency{Max: anyVersion}); !any.Accepts(anyVersion) || !any.Accepts(Version{}) {
		t.Error("a range without bounds refuses something")
	}
}

func TestStatesHaveNames(t *testing.T) {
	if StateServing.String() != "serving" || State(77).String() != "state(77)" {
		t.Error(StateServing, State(77))
	}
}
