package wire

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos/protocols/system/v1"
)

// sound is a manifest that nothing is wrong with.
func sound() *Manifest {
	return &Manifest{
		Name: "storage", Version: Version{1, 2, 3}, Concurrency: 1,
		Capabilities: []Capability{
			{Name: "storage.put", Params: []ParamSpec{
				{Name: "name", Required: true},
				{Name: "level", Kind: system.ParamKind_int, Default: "0x3", Choices: []string{"1", "3"}},
			}},
			{Name: "storage.selftest", Params: []ParamSpec{{Name: "deep", Kind: system.ParamKind_bool}}},
		},
		Dependencies: []Dependency{{Module: "index"}, {Module: "cache", Min: Version{1, 0, 0}, Max: Version{1, 0, 0}, Alternatives: []string{"ram"}}},
		Needs:        []system.Grant{system.Grant_state},
		State:        []StateSpec{{Name: "index", Schema: 2, MaxBytes: 4096, Adopts: []uint32{1}}},
		SelfTest:     "storage.selftest",
	}
}

func TestSoundManifestIsValid(t *testing.T) {
	if err := sound().Validate(); err != nil {
		t.Error(err)
	}
}

func TestManifestProblemsAreNamed(t *testing.T) {
	long := strings.Repeat("x", 5000)
	put := func(m *Manifest) *Capability { return &m.Capabilities[0] }
	level := func(m *Manifest) *ParamSpec { return &m.Capabilities[0].Params[1] }
	tests := []struct {
		spoil func(m *Manifest)
		want  string
	}{
		{func(m *Manifest) { m.Name = "" }, "module name: missing"},
		{func(m *Manifest) { m.Name = "Storage" }, `module name: "Storage" does not match ^[a-z]`},
		{func(m *Manifest) { m.Name = "a.b" }, `module name: "a.b" does not match`},
		{func(m *Manifest) { m.Name = "a\n" }, `module name: "a\n" does not match`},
		{func(m *Manifest) { m.Name = long[:32] }, "has 32 bytes, and at most 31 fit"},
		{func(m *Manifest) { m.Version = Version{} }, "version: 0.0.0 is none"},
		{func(m *Manifest) { m.Description = long }, "description: 5000 bytes, and at most 1024 fit"},
		{func(m *Manifest) { m.License = long }, "license: 5000 bytes"},
		{func(m *Manifest) { m.Concurrency = 0 }, "concurrency: 0 is not from 1 to 65536"},
		{func(m *Manifest) { m.Concurrency = 65537 }, "concurrency: 65537 is not"},
		{func(m *Manifest) { m.Capabilities = make([]Capability, 257) }, "257 capabilities, and at most 256 fit"},
		{func(m *Manifest) { m.Dependencies = make([]Dependency, 65) }, "65 dependencies, and at most 64 fit"},
		{func(m *Manifest) { m.State = make([]StateSpec, 65) }, "65 state blocks, and at most 64 fit"},
		{func(m *Manifest) { m.Resources.Exclusive = make([]string, 257) }, "257 exclusive resources"},
		{func(m *Manifest) { m.Resources.Exclusive = []string{long} }, "exclusive resource: 5000 bytes"},
		{func(m *Manifest) { m.Capabilities = append(m.Capabilities, *put(m)) }, `capability "storage.put": given more than once`},
		{func(m *Manifest) { put(m).Name = "storage put" }, `capability "storage put": name: "storage put" does not match`},
		{func(m *Manifest) { put(m).Name = "100%d" }, `capability "100%d": name: "100%d" does not match`},
		{func(m *Manifest) { put(m).Timeout = -1 }, `capability "storage.put": timeout: -1ns is negative`},
		{func(m *Manifest) { put(m).Description = long }, `capability "storage.put": description: 5000 bytes`},
		{func(m *Manifest) { put(m).InputType = long }, "input type: 5000 bytes"},
		{func(m *Manifest) { put(m).OutputType = long }, "output type: 5000 bytes"},
		{func(m *Manifest) { put(m).Params = make([]ParamSpec, 65) }, `capability "storage.put": 65 parameters, and at most 64 fit`},
		{func(m *Manifest) { put(m).Params = append(put(m).Params, *level(m)) }, `parameter "level": given more than once`},
		{func(m *Manifest) { level(m).Name = "a_b" }, `capability "storage.put": parameter "a_b": name: "a_b" does not match`},
		{func(m *Manifest) { level(m).Kind = 99 }, `parameter "level": there is no kind 99`},
		{func(m *Manifest) { level(m).Description = long }, `parameter "level": description: 5000 bytes`},
		{func(m *Manifest) { level(m).Default = "three" }, `parameter "level": default "three" is not a whole number`},
		{func(m *Manifest) { level(m).Default = "2" }, `parameter "level": default "2" is not among its choices`},
		{func(m *Manifest) { level(m).Required = true }, `it is required, so its default "0x3" is never used`},
		{func(m *Manifest) { level(m).Choices = []string{"3", "many"} }, `parameter "level": choice "many" is not a whole number`},
		{func(m *Manifest) { level(m).Choices = []string{"3", "3"} }, `choice "3": given more than once`},
		{func(m *Manifest) { level(m).Choices = make([]string, 65) }, "65 choices, and at most 64 fit"},
		{func(m *Manifest) { m.Dependencies[0].Module = "storage" }, `dependency "storage": a module cannot depend on itself`},
		{func(m *Manifest) { m.Dependencies[0].Module = "" }, `dependency "": name: missing`},
		{func(m *Manifest) { m.Dependencies[1].Module = "index" }, `dependency "index": given more than once`},
		{func(m *Manifest) { m.Dependencies[1].Min = Version{1, 0, 1} }, "no version is both 1.0.1 or newer and 1.0.0 or older"},
		{func(m *Manifest) { m.Dependencies[1].Alternatives = []string{"ram", "ram"} }, `alternative "ram": given more than once`},
		{func(m *Manifest) { m.Dependencies[1].Alternatives = []string{"cache"} }, `alternative "cache": given more than once`},
		{func(m *Manifest) { m.Dependencies[1].Alternatives = []string{"storage"} }, "cannot be its own alternative"},
		{func(m *Manifest) { m.Dependencies[1].Alternatives = []string{"R"} }, `alternative: "R" does not match`},
		{func(m *Manifest) { m.Dependencies[1].Alternatives = make([]string, 65) }, "65 alternatives"},
		{func(m *Manifest) { m.Needs = []system.Grant{99} }, "needs: there is no grant 99"},
		{func(m *Manifest) { m.Needs = []system.Grant{1, 1} }, `need "fetchChunk": given more than once`},
		{func(m *Manifest) { m.State[0].Name = "" }, "state block: missing"},
		{func(m *Manifest) { m.State[0].MaxBytes = 0 }, `state block "index": say how many bytes`},
		{func(m *Manifest) { m.State = append(m.State, m.State[0]) }, `state block "index": given more than once`},
		{func(m *Manifest) { m.SelfTest = "none" }, `self-test: "none" is not among the capabilities`},
		{func(m *Manifest) { m.SelfTest = "storage.put" }, `self-test "storage.put": its parameter "name" is required`},
	}
	for _, tt := range tests {
		m := sound()
		tt.spoil(m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v; want %q", err, tt.want)
		}
	}
}

func TestManifestProblemsComeAllAtOnce(t *testing.T) {
	m := sound()
	m.Name, m.Version, m.Concurrency, m.SelfTest = "X", Version{}, 0, "none"
	if lines := strings.Split(m.Validate().Error(), "\n"); len(lines) != 4 {
		t.Errorf("%q", lines)
	}
	for i := range 100 {
		m.State = append(m.State, StateSpec{Name: fmt.Sprint(i)})
	}
	lines := strings.Split(m.Validate().Error(), "\n")
	if len(lines) != maxProblems+1 || !strings.HasPrefix(lines[maxProblems], "and ") {
		t.Errorf("%d lines, the last of them %q", len(lines), lines[len(lines)-1])
	}
}

func TestAnyManifestCanBeValidated(t *testing.T) {
	for _, s := range samples() {
		if m, ok := s.value.(Manifest); ok {
			b, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			for i := range b {
				changed := slices.Clone(b)
				changed[i] ^= 0x55
				if m, err := DecodeManifest(changed); err == nil {
					_ = m.Validate() // it must come back, whatever it says
				}
			}
		}
	}
}

func TestDependencyWithoutUpperEndTakesAnyVersion(t *testing.T) {
	b, err := Manifest{Dependencies: []Dependency{{Module: "a", Min: Version{1, 0, 0}}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := m.Dependencies[0]; d.Min != (Version{1, 0, 0}) || d.Max != NewestVersion {
		t.Errorf("%v to %v", d.Min, d.Max)
	}
}

func TestCostCountsUnitsBegun(t *testing.T) {
	c := CostModel{Base: 100, PerMB: 10, PerSecond: 1000}
	tests := []struct {
		c     CostModel
		bytes uint64
		d     time.Duration
		want  uint64
	}{
		{c, 0, 0, 100},
		{c, 0, -time.Hour, 100},
		{c, 1, 0, 110},
		{c, 1 << 20, time.Second, 1110},
		{c, 1<<20 + 1, time.Second + 1, 2120},
		{CostModel{PerMB: math.MaxUint64}, 1<<20 + 1, 0, math.MaxUint64},
		{CostModel{Base: 1, PerMB: math.MaxUint64}, 1, 0, math.MaxUint64},
		{CostModel{PerSecond: math.MaxUint64}, 0, time.Hour, math.MaxUint64},
	}
	for _, tt := range tests {
		if got := tt.c.Of(tt.bytes, tt.d); got != tt.want {
			t.Errorf("%+v of %d bytes and %v: %d, want %d", tt.c, tt.bytes, tt.d, got, tt.want)
		}
	}
}

func TestCostAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := CostModel{rapid.Uint64().Draw(t, "base"), rapid.Uint64().Draw(t, "per MiB"), rapid.Uint64().Draw(t, "per second")}
		n, d := rapid.Uint64().Draw(t, "bytes"), rapid.Int64Min(0).Draw(t, "ns")
		part := func(n, unit, rate uint64) *big.Int {
			p := new(big.Int).Add(new(big.Int).SetUint64(n), new(big.Int).SetUint64(unit-1))
			p.Div(p, new(big.Int).SetUint64(unit))
			return p.Mul(p, new(big.Int).SetUint64(rate))
		}
		want := new(big.Int).SetUint64(c.Base)
		want.Add(want, part(n, 1<<20, c.PerMB)).Add(want, part(uint64(d), 1e9, c.PerSecond))
		if !want.IsUint64() {
			want.SetUint64(math.MaxUint64)
		}
		if got := c.Of(n, time.Duration(d)); got != want.Uint64() {
			t.Fatalf("%d, want %v", got, want)
		}
	})
}
