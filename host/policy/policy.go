// Package policy holds what the operator allows each plugin: who may have made it,
// which syscalls it may make and which capabilities it may have, which arena, how
// much memory and processor, how many instances, and how a new version takes the
// place of an old one. It reads one JSON file and decides; it enforces nothing
// itself.
package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
)

// Arena names where a module's blocks lie.
type Arena string

const (
	// Private is an arena that the host shares with one module alone.
	Private Arena = "private"
	// Commons is the arena that modules trusting each other share, so that blocks
	// pass between them without a copy.
	Commons Arena = "commons"
)

// Rule is what one plugin may do.
type Rule struct {
	// Arena its blocks lie in, default private.
	Arena Arena `json:"arena,omitempty"`
	// ArenaBytes is the size of a private arena, 0 for what the manifest asks,
	// within the node's bounds.
	ArenaBytes uint64 `json:"arena_bytes,omitempty"`
	// Grants are the syscalls it may make if its manifest asks for them. Nil
	// means DefaultGrants.
	Grants []string `json:"grants,omitempty"`
	// MaxInstances bounds how many processes of it run at once, default
	// MaxInstances, at most MostInstances.
	MaxInstances int `json:"max_instances,omitempty"`
	// Settings are handed to the plugin as they are.
	Settings map[string]string `json:"settings,omitempty"`
	// Disabled keeps the plugin out of service, default false. A rule of a plugin
	// can say false where Default says true.
	Disabled *bool `json:"disabled,omitempty"`

	// RequireSignature keeps out what no trusted key signed, default false.
	RequireSignature *bool `json:"require_signature,omitempty"`
	// Publishers are the trusted keys that may have signed it, by their names. Nil
	// means any, and none where no signature is required.
	Publishers []string `json:"publishers,omitempty"`
	// Capabilities are patterns, as path.Match has them, of which one must fit each
	// capability. Nil means any.
	Capabilities []string `json:"capabilities,omitempty"`

	// MemoryBytes bounds the memory of each of its processes, its share of the segment
	// apart, 0 for no bound. CPUPercent bounds their processor time, 100 for one core.
	// Processes and OpenFiles bound what each may start and open.
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	CPUPercent  uint64 `json:"cpu_percent,omitempty"`
	Processes   uint64 `json:"processes,omitempty"`
	OpenFiles   uint64 `json:"open_files,omitempty"`

	// Swap is "auto", the default, or "manual": a new version in the folder waits for
	// the operator's inos plugin swap.
	Swap Mode `json:"swap,omitempty"`
	// Canary says which share of the jobs a new version gets before all of them, and
	// for how long. The default is none. A plugin with state has no canary.
	Canary *Canary `json:"canary,omitempty"`
	// Probation is how long a new version has to prove itself, default 10 s.
	Probation *Duration `json:"probation,omitempty"`
	// DrainTimeout is how long the jobs of a version that was replaced may go on where
	// they are, default 30 s.
	DrainTimeout *Duration `json:"drain_timeout,omitempty"`
}

// Mode says what a new version in the folder does.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"
	Manual Mode = "manual"
)

// Canary is the trial of a new version on a share of the jobs.
type Canary struct {
	Percent int      `json:"percent"`
	For     Duration `json:"for"`
}

// Duration is a time.Duration that is "1m30s" in JSON.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 || v > longest {
		return fmt.Errorf("%q is no duration of at most %s, like 1m30s", text, longest)
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Defaults and bounds of the times.
const (
	longest      = 24 * time.Hour
	probation    = 10 * time.Second
	drainTimeout = 30 * time.Second
)

// Policy is the operator's file.
type Policy struct {
	// Default holds for plugins that Plugins does not name. A rule of a plugin
	// takes what it leaves out from here.
	Default Rule `json:"default"`
	// Names are the modules that may be served, by manifest name. Empty means any.
	Names []string `json:"names,omitempty"`
	// Plugins holds the rule of each plugin, by manifest name.
	Plugins map[string]Rule `json:"plugins,omitempty"`
}

// DefaultGrants are the syscalls that harm nobody: they touch the plugin's own
// blocks, or run jobs within the caller's budget. Starting processes and talking
// to other nodes must be granted by name.
func DefaultGrants() []string {
	return []string{"lease", "log", "progress", "metric", "state", "hostCall", "fetchChunk", "storeChunk"}
}

// Bounds on the processes of one plugin: the default, and the largest that a
// policy can set.
const (
	MaxInstances  = 4
	MostInstances = 1024
)

// maxFile bounds the policy file.
const maxFile = 1 << 20

// Load reads the policy at path. A file that does not exist is the default
// policy; anything in it that is not understood is an error.
func Load(path string) (*Policy, error) {
	p := &Policy{}
	// Without O_NONBLOCK the open of a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil:
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("policy: %s is no regular file; move it away to use the default", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	if err == nil {
		err = parse(b, p)
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %s: %w; mend the file, or move it away to use the default", path, err)
	}
	return p, nil
}

// parse reads exactly one policy.
func parse(b []byte, p *Policy) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is something behind the policy, at byte %d", d.InputOffset())
	}
	return p.Validate()
}

// Validate lists everything wrong with the policy.
func (p *Policy) Validate() error {
	errs := []error{p.Default.validate("default")}
	for _, name := range slices.Sorted(maps.Keys(p.Plugins)) {
		errs = append(errs, p.Plugins[name].validate("plugins."+name))
	}
	return errors.Join(errs...)
}

func (r Rule) validate(where string) error {
	var errs []error
	switch r.Arena {
	case "", Private, Commons:
	default:
		errs = append(errs, fmt.Errorf("%s: arena %q is neither private nor commons", where, r.Arena))
	}
	for _, g := range r.Grants {
		if _, ok := grantNamed(g); !ok {
			errs = append(errs, fmt.Errorf("%s: there is no grant %q", where, g))
		}
	}
	if r.MaxInstances < 0 || r.MaxInstances > MostInstances {
		errs = append(errs, fmt.Errorf("%s: max_instances is %d, not between 1 and %d", where, r.MaxInstances, MostInstances))
	}
	for _, c := range r.Capabilities {
		if _, err := path.Match(c, ""); err != nil {
			errs = append(errs, fmt.Errorf("%s: capabilities: %q is no pattern", where, c))
		}
	}
	if r.Swap != "" && r.Swap != Auto && r.Swap != Manual {
		errs = append(errs, fmt.Errorf("%s: swap %q is neither auto nor manual", where, r.Swap))
	}
	switch c := r.Canary; {
	case c == nil:
	case c.Percent < 0 || c.Percent > 100:
		errs = append(errs, fmt.Errorf("%s: a canary of %d percent is not between 0 and 100", where, c.Percent))
	case c.Percent > 0 && c.For == 0:
		errs = append(errs, fmt.Errorf(`%s: a canary must say for how long, as {"percent": %d, "for": "1m"}`, where, c.Percent))
	}
	return errors.Join(errs...)
}

// Shares reports whether any plugin may be let into the commons.
func (p *Policy) Shares() bool {
	if p.Default.Arena == Commons {
		return true
	}
	for _, r := range p.Plugins {
		if r.Arena == Commons {
			return true
		}
	}
	return false
}

// For returns the complete rule of a plugin: no pointer in it but Canary's is nil.
func (p *Policy) For(name string) Rule {
	r, d := p.Plugins[name], p.Default
	r.Arena = cmp.Or(r.Arena, d.Arena, Private)
	r.ArenaBytes = cmp.Or(r.ArenaBytes, d.ArenaBytes)
	r.MaxInstances = cmp.Or(r.MaxInstances, d.MaxInstances, MaxInstances)
	r.MemoryBytes = cmp.Or(r.MemoryBytes, d.MemoryBytes)
	r.CPUPercent = cmp.Or(r.CPUPercent, d.CPUPercent)
	r.Processes = cmp.Or(r.Processes, d.Processes)
	r.OpenFiles = cmp.Or(r.OpenFiles, d.OpenFiles)
	r.Swap = cmp.Or(r.Swap, d.Swap, Auto)
	r.Canary = cmp.Or(r.Canary, d.Canary)
	r.Probation = cmp.Or(r.Probation, d.Probation, new(Duration(probation)))
	r.DrainTimeout = cmp.Or(r.DrainTimeout, d.DrainTimeout, new(Duration(drainTimeout)))
	r.RequireSignature = cmp.Or(r.RequireSignature, d.RequireSignature, new(false))
	named := len(p.Names) == 0 || slices.Contains(p.Names, name)
	if r.Disabled = cmp.Or(r.Disabled, d.Disabled, new(false)); !named {
		r.Disabled = new(true)
	}
	for _, list := range []struct {
		own      *[]string
		fallback []string
	}{{&r.Grants, d.Grants}, {&r.Publishers, d.Publishers}, {&r.Capabilities, d.Capabilities}} {
		if *list.own == nil {
			*list.own = list.fallback
		}
	}
	if r.Grants == nil {
		r.Grants = DefaultGrants()
	}
	if r.Settings == nil {
		r.Settings = d.Settings
	}
	return r
}

// Admits checks everything that a rule, which must be complete, as For returns it,
// forbids a plugin from the start. Publisher is the name of the trusted key that
// signed it, "" for none.
func (r Rule) Admits(m *wire.Manifest, publisher string) error {
	if err := r.AdmitsPublisher(m.Name, publisher); err != nil {
		return err
	}
	if r.Capabilities == nil {
		return nil
	}
	for _, c := range m.Capabilities {
		if !slices.ContainsFunc(r.Capabilities, func(pattern string) bool { ok, _ := path.Match(pattern, c.Name); return ok }) {
			return denied("add a pattern for it in the node's policy.json", "the operator's policy does not let %s serve %s", m.Name, c.Name)
		}
	}
	return nil
}

// AdmitsPublisher is the part of Admits that can be told without the manifest: of a
// plugin of that name, signed by that publisher.
func (r Rule) AdmitsPublisher(name, publisher string) error {
	switch {
	case *r.Disabled:
		return denied("change that in the node's policy.json", "the operator's policy disables %s", name)
	case publisher == "" && (*r.RequireSignature || len(r.Publishers) > 0):
		return denied("sign it with inos plugin sign, and trust the key with inos plugin trust",
			"the operator's policy demands a signature of %s by a trusted key, and it has none", name)
	case len(r.Publishers) > 0 && !slices.Contains(r.Publishers, publisher):
		return denied("add the publisher in the node's policy.json",
			"%s is signed by %s, and the operator's policy takes it from %s only", name, publisher, strings.Join(r.Publishers, ", "))
	}
	return nil
}

func denied(hint, format string, args ...any) error {
	return wire.NewError(base.Code_permissionDenied, hint, format, args...)
}

// ArenaFor says where the blocks of a plugin lie that the named key signed, and,
// where that is not what the rule asks for, why. Only what a trusted key signed is
// let into the commons, since plugins there trust each other with their memory.
func (r Rule) ArenaFor(publisher string) (a Arena, note string) {
	if r.Arena == Commons && publisher == "" {
		return Private, "the policy lets it into the commons, but no trusted key signed it"
	}
	return r.Arena, ""
}

// Waits reports whether a new version waits for the operator.
func (r Rule) Waits() bool { return r.Swap == Manual }

// Granted returns which of the grants that a manifest asks for the rule allows.
// Blocks to write to, progress and log lines belong to every plugin's work, so
// those need not be asked for.
func (r Rule) Granted(needs []system.Grant) []system.Grant {
	var list []system.Grant
	for _, g := range append([]system.Grant{system.Grant_lease, system.Grant_progress, system.Grant_log}, needs...) {
		if slices.Contains(r.Grants, g.String()) && !slices.Contains(list, g) {
			list = append(list, g)
		}
	}
	return list
}

// grantNamed finds a grant by its name in the schema.
func grantNamed(name string) (system.Grant, bool) {
	for g := system.Grant_lease; g <= system.Grant_state; g++ {
		if g.String() == name {
			return g, true
		}
	}
	return 0, false
}
