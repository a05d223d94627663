package node

import (
	"testing"

	"inos/plugins/sdk/wire"
)

func TestSameModuleNoticesWhatJobsRelyOn(t *testing.T) {
	was := wire.Manifest{
		Name: "a", Version: wire.Version{Major: 1}, Description: "first",
		Capabilities: []wire.Capability{{Name: "a.x"}, {Name: "a.y", Streams: true}},
	}
	for _, c := range []struct {
		name   string
		change func(m *wire.Manifest)
		same   bool
	}{
		{"nothing", func(*wire.Manifest) {}, true},
		{"description", func(m *wire.Manifest) { m.Description = "second" }, true},
		{"name", func(m *wire.Manifest) { m.Name = "b" }, false},
		{"version", func(m *wire.Manifest) { m.Version.Minor++ }, false},
		{"fewer", func(m *wire.Manifest) { m.Capabilities = m.Capabilities[:1] }, false},
		{"other order", func(m *wire.Manifest) {
			m.Capabilities = []wire.Capability{m.Capabilities[1], m.Capabilities[0]}
		}, false},
		{"no stream", func(m *wire.Manifest) { m.Capabilities = []wire.Capability{{Name: "a.x"}, {Name: "a.y"}} }, false},
	} {
		is := was
		c.change(&is)
		if err := sameModule(&was, &is); (err == nil) != c.same {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
