package policy

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos/plugins/sdk/wire"
)

// full is a policy with every field set.
const full = `{
  "names": ["storage", "web"],
  "default": {
    "arena": "commons", "arena_bytes": 4096, "grants": ["log"], "max_instances": 3, "settings": {"a": "b"}, "disabled": false,
    "require_signature": true, "publishers": ["acme"], "capabilities": ["*"],
    "memory_bytes": 1048576, "cpu_percent": 150, "processes": 7, "open_files": 99,
    "swap": "manual", "canary": {"percent": 10, "for": "1m30s"}, "probation": "20s", "drain_timeout": "0s"
  },
  "plugins": {
    "web": {
      "arena": "private", "arena_bytes": 8192, "grants": [], "max_instances": 1, "settings": {}, "disabled": true,
      "require_signature": false, "publishers": [], "capabilities": ["web.*", "http.*"],
      "memory_bytes": 1, "cpu_percent": 2, "processes": 3, "open_files": 4,
      "swap": "auto", "canary": {"percent": 0, "for": "0s"}, "probation": "0s", "drain_timeout": "24h"
    }
  }
}`

// loaded loads a policy from its text.
func loaded(t *testing.T, text string) *Policy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryFieldIsReadAndInherited(t *testing.T) {
	p := loaded(t, full)
	for field, value := range reflect.ValueOf(p.Default).Fields() {
		if value.IsZero() {
			t.Errorf("this test says nothing of %s", field.Name)
		}
	}
	want := Rule{
		Arena: Commons, ArenaBytes: 4096, Grants: []string{"log"}, MaxInstances: 3, Settings: map[string]string{"a": "b"}, Disabled: new(false),
		RequireSignature: new(true), Publishers: []string{"acme"}, Capabilities: []string{"*"},
		MemoryBytes: 1 << 20, CPUPercent: 150, Processes: 7, OpenFiles: 99,
		Swap: Manual, Canary: &Canary{10, Duration(90 * time.Second)}, Probation: new(Duration(20 * time.Second)), DrainTimeout: new(Duration(0)),
	}
	if got := p.For("storage"); !reflect.DeepEqual(got, want) {
		t.Errorf("storage inherits\n%+v\nwant\n%+v", got, want)
	}
	// What a plugin's rule says holds, also where it says zero by a pointer or an
	// empty list.
	if got := p.For("web"); !reflect.DeepEqual(got, p.Plugins["web"]) {
		t.Errorf("web has\n%+v\nwant\n%+v", got, p.Plugins["web"])
	}
}

func TestRuleOfTheDefaultPolicyIsComplete(t *testing.T) {
	want := Rule{
		Arena: Private, MaxInstances: MaxInstances, Grants: DefaultGrants(), Disabled: new(false), RequireSignature: new(false),
		Swap: Auto, Probation: new(Duration(10 * time.Second)), DrainTimeout: new(Duration(30 * time.Second)),
	}
	if got := new(Policy).For("x"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestOnlyNamedModulesServe(t *testing.T) {
	p := &Policy{Names: []string{"storage"}, Plugins: map[string]Rule{"web": {Disabled: new(false)}}}
	for name, disabled := range map[string]bool{"storage": false, "web": true, "other": true} {
		if got := *p.For(name).Disabled; got != disabled {
			t.Errorf("%s: disabled is %v", name, got)
		}
	}
	p.Names = nil
	if *p.For("other").Disabled {
		t.Error("without names, not every module serves")
	}
}

func TestForChangesNothingInThePolicy(t *testing.T) {
	p := loaded(t, full)
	before, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Names = []string{"nobody"}
	*p.For("storage").Disabled = true
	p.Names = []string{"storage", "web"}
	if after, err := json.Marshal(p); err != nil || string(after) != string(before) {
		t.Errorf("it is now %s, was %s, %v", after, before, err)
	}
}

func TestAdmitsNamesWhatThePolicyForbids(t *testing.T) {
	for _, c := range []struct {
		name      string
		rule      Rule
		publisher string
		want      string // of the error, "" for none
	}{
		{"nothing said", Rule{}, "", ""},
		{"nothing said, signed", Rule{}, "acme", ""},
		{"disabled", Rule{Disabled: new(true)}, "acme", "disables web"},
		{"signature required", Rule{RequireSignature: new(true)}, "", "demands a signature of web"},
		{"signature required and there", Rule{RequireSignature: new(true)}, "anybody", ""},
		{"publishers, unsigned", Rule{Publishers: []string{"acme"}}, "", "demands a signature of web"},
		{"publishers, another", Rule{Publishers: []string{"acme", "local"}}, "evil", "signed by evil, and the operator's policy takes it from acme, local only"},
		{"publishers, one of them", Rule{Publishers: []string{"acme", "local"}}, "local", ""},
		{"publishers are names, not patterns", Rule{Publishers: []string{"*"}}, "acme", "takes it from"},
		{"no publishers are any", Rule{Publishers: []string{}}, "", ""},
		{"capabilities fit", Rule{Capabilities: []string{"web.*", "http"}}, "", ""},
		{"capabilities by their names", Rule{Capabilities: []string{"web.get", "http"}}, "", ""},
		{"one does not fit", Rule{Capabilities: []string{"web.*"}}, "", "does not let web serve http"},
		{"a pattern is for the whole name", Rule{Capabilities: []string{"web", "http"}}, "", "does not let web serve web.get"},
		{"no pattern is none", Rule{Capabilities: []string{}}, "", "does not let web serve web.get"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Policy{Plugins: map[string]Rule{"web": c.rule}}
			m := &wire.Manifest{Name: "web", Capabilities: []wire.Capability{{Name: "web.get"}, {Name: "http"}}}
			err := p.For("web").Admits(m, c.publisher)
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			var e *wire.Error
			if !errors.As(err, &e) || !errors.Is(err, wire.ErrPermissionDenied) || e.Hint == "" || !strings.Contains(e.Message, c.want) {
				t.Errorf("got %v, want %q with a hint", err, c.want)
			}
		})
	}
}

func TestCommonsAreForSignedPluginsOnly(t *testing.T) {
	for _, c := range []struct {
		rule      Arena
		publisher string
		want      Arena
		noted     bool
	}{
		{Private, "", Private, false}, {Private, "acme", Private, false}, {"", "", Private, false},
		{Commons, "acme", Commons, false}, {Commons, "", Private, true},
	} {
		p := &Policy{Default: Rule{Arena: c.rule}}
		a, note := p.For("x").ArenaFor(c.publisher)
		if a != c.want || (note != "") != c.noted {
			t.Errorf("%q signed by %q: %q, %q", c.rule, c.publisher, a, note)
		}
	}
}

func TestSharesSaysWhetherThereAreCommons(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		want bool
	}{
		{Policy{}, false},
		{Policy{Default: Rule{Arena: Private}, Plugins: map[string]Rule{"x": {}}}, false},
		{Policy{Default: Rule{Arena: Commons}}, true},
		{Policy{Plugins: map[string]Rule{"x": {}, "y": {Arena: Commons}}}, true},
	} {
		if got := c.p.Shares(); got != c.want {
			t.Errorf("%+v: %v", c.p, got)
		}
	}
}

func TestManualSwapWaits(t *testing.T) {
	for swap, want := range map[Mode]bool{"": false, Auto: false, Manual: true} {
		p := &Policy{Default: Rule{Swap: swap}}
		if got := p.For("x").Waits(); got != want {
			t.Errorf("%q: %v", swap, got)
		}
	}
}

func TestLoadNamesWhatIsWrongWithASwap(t *testing.T) {
	for _, c := range []struct{ name, rule, want string }{
		{"mode", `{"swap": "later"}`, `swap "later"`},
		{"pattern", `{"capabilities": ["a[" ]}`, `"a[" is no pattern`},
		{"canary below", `{"canary": {"percent": -1, "for": "1s"}}`, "not between 0 and 100"},
		{"canary above", `{"canary": {"percent": 101, "for": "1s"}}`, "not between 0 and 100"},
		{"canary without a time", `{"canary": {"percent": 5}}`, "how long"},
		{"canary field", `{"canary": {"share": 5}}`, "share"},
		{"duration without a unit", `{"probation": "10"}`, `"10" is no duration`},
		{"duration below", `{"probation": "-1s"}`, `"-1s" is no duration`},
		{"duration above", `{"drain_timeout": "24h0m1s"}`, "at most 24h"},
		{"duration as a number", `{"probation": 10}`, "number"},
		{"negative bytes", `{"memory_bytes": -1}`, "memory_bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, text := range []string{`{"default": ` + c.rule + `}`, `{"plugins": {"x": ` + c.rule + `}}`} {
				path := filepath.Join(t.TempDir(), "policy.json")
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mend the file") {
					t.Errorf("%s: error %v does not mention %q", text, err, c.want)
				}
			}
		})
	}
}

func TestDurationIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, int64(longest)).Draw(t, "duration"))
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Duration
		if err := json.Unmarshal(text, &back); err != nil || back != d {
			t.Fatalf("%d is written as %s and read as %d, %v", d, text, back, err)
		}
	})
	if text, err := json.Marshal(map[string]*Duration{"a": new(Duration(90 * time.Second)), "b": nil}); err != nil || string(text) != `{"a":"1m30s","b":null}` {
		t.Errorf("written as %s, %v", text, err)
	}
}

// A policy is read from whatever bytes are there, and one that is read is whole.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{full, "{}", "null", `{"plugins": {"x": null}}`, `{"default": {"canary": null, "probation": "1s"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Policy
		if parse(text, &p) != nil {
			return
		}
		for _, name := range append(slices.Sorted(maps.Keys(p.Plugins)), "unnamed") {
			r := p.For(name)
			if r.Disabled == nil || r.RequireSignature == nil || r.Probation == nil || r.DrainTimeout == nil || r.Grants == nil || r.Swap == "" {
				t.Fatalf("the rule of %q is %+v", name, r)
			}
			if err := r.validate(name); err != nil {
				t.Fatalf("a rule that was read: %v", err)
			}
			_ = r.Admits(&wire.Manifest{Name: name, Capabilities: []wire.Capability{{Name: "a.b"}}}, "acme")
		}
		written, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := parse(written, new(Policy)); err != nil {
			t.Fatalf("%s cannot be read again: %v", written, err)
		}
	})
}
