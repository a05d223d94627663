package tour

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"inos/host/api"
)

// hall is a node that is not there: it answers from memory.
type hall struct {
	plugins []api.Plugin
	served  []api.Capability
	fail    map[string]error
	damage  func([]byte) []byte
	kept    map[string][]byte
	ran     []string
}

func (h *hall) Plugins(context.Context) ([]api.Plugin, error)          { return h.plugins, nil }
func (h *hall) Capabilities(context.Context) ([]api.Capability, error) { return h.served, nil }

func (h *hall) Run(_ context.Context, r api.RunRequest) (api.RunResult, error) {
	h.ran = append(h.ran, r.Capability)
	if err := h.fail[r.Capability]; err != nil {
		return api.RunResult{}, err
	}
	key := strings.Join(r.Params, " ")
	switch r.Capability {
	case putCapability:
		b, err := io.ReadAll(r.Input)
		if err != nil {
			return api.RunResult{}, err
		}
		h.kept[key] = b
	case getCapability:
		b := h.kept[key]
		if h.damage != nil {
			b = h.damage(bytes.Clone(b))
		}
		n, err := io.Copy(r.Output, bytes.NewReader(b))
		return api.RunResult{Bytes: uint64(n)}, err
	case deleteCapability:
		delete(h.kept, key)
	}
	return api.RunResult{Status: "success", Bytes: 5}, nil
}

func serving(name, selfTest string, capabilities ...string) api.Plugin {
	return api.Plugin{Name: name, Phase: "serving", Capabilities: capabilities, Manifest: &api.Manifest{SelfTest: selfTest}}
}

func capability(name string, required ...string) api.Capability {
	c := api.Capability{Name: name, Module: strings.Split(name, ".")[0]}
	for _, p := range required {
		c.Params = append(c.Params, api.Param{Name: p, Required: true})
	}
	c.Params = append(c.Params, api.Param{Name: "optional"})
	return c
}

func TestTourCallsNothingButSelfTests(t *testing.T) {
	h := &hall{
		plugins: []api.Plugin{serving("a", "a.test", "a.first", "a.test"), serving("b", "", "b.hard", "b.easy", "b.other"), serving("c", "", "c.hard")},
		served:  []api.Capability{capability("a.first"), capability("a.test"), capability("b.hard", "x"), capability("b.easy"), capability("b.other"), capability("c.hard", "x")},
	}
	stops, err := Run(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.ran, " "); got != "a.test" {
		t.Errorf("ran %q, want a.test alone", got)
	}
	if len(stops) != 3 || stops[0].Result != OK || stops[0].Bytes != 5 || stops[1].Result != Skipped || stops[1].Why != "no self-test declared" || stops[2].Result != Skipped {
		t.Errorf("stops %+v", stops)
	}
	if !Good(stops) {
		t.Error("a tour on which all went well is not good")
	}
}

func TestTourFailsWithAPluginThatDoesNotServe(t *testing.T) {
	h := &hall{
		plugins: []api.Plugin{serving("a", "a.test", "a.test"), {Name: "b", Phase: "restarting", Reason: "it died"}, {Name: "c", Phase: "refused", Reason: "not a program"}},
		served:  []api.Capability{capability("a.test")},
	}
	stops, err := Run(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if stops[1].Result != Failed || !strings.Contains(stops[1].Why, "it died") || stops[2].Result != Refused || Good(stops) {
		t.Errorf("stops %+v", stops)
	}
	if refused := []Stop{stops[0], stops[2]}; !Good(refused) {
		t.Error("a file that the node refused spoils the tour of the others")
	}
}

func TestTourIsNotGoodWhenNobodyDidAnything(t *testing.T) {
	if Good(nil) || Good([]Stop{{Result: Skipped}, {Result: Refused}}) {
		t.Error("nothing done counts as good")
	}
}

func TestTourComparesWhatStorageGivesBack(t *testing.T) {
	served := []api.Capability{capability(putCapability, "name"), capability(getCapability, "name"), capability(deleteCapability, "name")}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		fail   map[string]error
		why    string // empty when it goes well
	}{
		{"unharmed", nil, nil, ""},
		{"one bit", func(b []byte) []byte { b[5_000_000] ^= 4; return b }, nil, "byte 5000000 came back"},
		{"short", func(b []byte) []byte { return b[:len(b)-1] }, nil, "8388607 came out"},
		{"long", func(b []byte) []byte { return append(b, 0) }, nil, "8388608"},
		{"put fails", nil, map[string]error{putCapability: errors.New("disk full")}, "put: disk full"},
		{"get fails", nil, map[string]error{getCapability: errors.New("wrong key")}, "get: wrong key"},
		{"delete fails", nil, map[string]error{deleteCapability: errors.New("busy")}, "delete: busy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &hall{served: served, damage: c.damage, fail: c.fail, kept: map[string][]byte{}}
			stops, err := Run(t.Context(), h)
			if err != nil || len(stops) != 1 {
				t.Fatalf("%+v, %v", stops, err)
			}
			s := stops[0]
			if s.Plugin != "storage" || Good(stops) != (c.why == "") || !strings.Contains(s.Why, c.why) {
				t.Errorf("%+v, want it to say %q", s, c.why)
			}
			if c.fail[deleteCapability] == nil && len(h.kept) > 0 {
				t.Error("the file was left behind")
			}
		})
	}
}

func TestTourEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := &hall{plugins: []api.Plugin{serving("a", "a.test", "a.test"), serving("b", "b.test", "b.test")}}
	if _, err := Run(ctx, h); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	if len(h.ran) > 1 {
		t.Errorf("ran %v after its end", h.ran)
	}
}

func TestFileIsTheSameForTheSameSeed(t *testing.T) {
	read := func(seed uint64, step int) []byte {
		var b bytes.Buffer
		f := io.LimitReader(newFile(seed), 300_000)
		if _, err := io.CopyBuffer(&b, struct{ io.Reader }{f}, make([]byte, step)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(read(7, 1000), read(7, 4096)) {
		t.Error("two readings of one file differ")
	}
	if bytes.Equal(read(7, 1000), read(8, 1000)) {
		t.Error("two seeds make one file")
	}
}
