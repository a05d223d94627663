package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
)

func TestMissingFileIsTheDefaultPolicy(t *testing.T) {
	p, err := Load(filepath.Join(t.TempDir(), "policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := p.For("anything")
	if r.Arena != Private || r.MaxInstances != MaxInstances || *r.Disabled {
		t.Errorf("default rule is %+v", r)
	}
	got := r.Granted([]system.Grant{system.Grant_spawn, system.Grant_hostCall, system.Grant_sendMessage})
	if slices.Contains(got, system.Grant_spawn) || slices.Contains(got, system.Grant_sendMessage) || !slices.Contains(got, system.Grant_hostCall) {
		t.Errorf("granted by default: %v", got)
	}
}

func TestGrantsAreTheIntersectionOfManifestAndPolicy(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy []string
		needs  []system.Grant
		want   []system.Grant
	}{
		{"asked and allowed", []string{"spawn"}, []system.Grant{system.Grant_spawn}, []system.Grant{system.Grant_spawn}},
		{"asked, not allowed", []string{"log"}, []system.Grant{system.Grant_spawn}, []system.Grant{system.Grant_log}},
		{"allowed, not asked", []string{"spawn", "lease"}, nil, []system.Grant{system.Grant_lease}},
		{"asked twice", []string{"spawn"}, []system.Grant{system.Grant_spawn, system.Grant_spawn}, []system.Grant{system.Grant_spawn}},
		{"nothing allowed", []string{}, []system.Grant{system.Grant_spawn}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (Rule{Grants: c.policy}).Granted(c.needs); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRuleInheritsWhatItLeavesOut(t *testing.T) {
	p := &Policy{
		Default: Rule{Arena: Commons, Grants: []string{"log"}, MaxInstances: 2, Disabled: new(true)},
		Plugins: map[string]Rule{"a": {Arena: Private}, "b": {Disabled: new(false), Grants: []string{}}},
	}
	if a := p.For("a"); a.Arena != Private || a.MaxInstances != 2 || !slices.Equal(a.Grants, []string{"log"}) || !*a.Disabled {
		t.Errorf("a: %+v", a)
	}
	if b := p.For("b"); b.Arena != Commons || *b.Disabled || len(b.Grants) != 0 {
		t.Errorf("b: %+v", b)
	}
}

func TestLoadNamesEverythingWrong(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown field", `{"plugin": {}}`, "plugin"},
		{"not json", `grants: all`, "mend the file"},
		{"unknown grant", `{"default": {"grants": ["root"]}}`, `no grant "root"`},
		{"unknown arena", `{"plugins": {"x": {"arena": "public"}}}`, "plugins.x"},
		{"negative", `{"default": {"max_instances": -1}}`, "between"},
		{"too many", `{"default": {"max_instances": 70000}}`, "between"},
		{"two policies", `{} {"default": {"disabled": true}}`, "behind"},
		{"no end", `{"default": {}`, "mend the file"},
		{"too large", strings.Repeat(" ", 1<<20) + "{}", "larger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policy.json")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not mention %q", err, c.want)
			}
		})
	}
}

func TestNamedPipeIsRefusedAndNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("error %v", err)
	}
}
