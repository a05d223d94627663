// Package policy holds what the operator allows each plugin: which syscalls,
// which arena, how much of it, how many instances. It reads one JSON file and
// decides; it enforces nothing itself.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

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
}

// Policy is the operator's file.
type Policy struct {
	// Default holds for plugins that Plugins does not name. A rule of a plugin
	// takes what it leaves out from here.
	Default Rule `json:"default"`
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

// For returns the complete rule of a plugin.
func (p *Policy) For(name string) Rule {
	r, d := p.Plugins[name], p.Default
	if r.Arena == "" {
		r.Arena = d.Arena
	}
	if r.Arena == "" {
		r.Arena = Private
	}
	if r.ArenaBytes == 0 {
		r.ArenaBytes = d.ArenaBytes
	}
	if r.Grants == nil {
		r.Grants = d.Grants
	}
	if r.Grants == nil {
		r.Grants = DefaultGrants()
	}
	if r.MaxInstances == 0 {
		r.MaxInstances = d.MaxInstances
	}
	if r.MaxInstances == 0 {
		r.MaxInstances = MaxInstances
	}
	if r.Settings == nil {
		r.Settings = d.Settings
	}
	if r.Disabled == nil {
		r.Disabled = d.Disabled
	}
	if r.Disabled == nil {
		r.Disabled = new(bool)
	}
	return r
}

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
