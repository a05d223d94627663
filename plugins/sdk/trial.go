package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/state"
)

// Trial is a plugin that was started without a node. Its Host has a data folder and
// settings of the caller's choice, and state blocks in plain memory, and refuses all
// other calls. It is for tests; see package sdktest.
type Trial struct {
	plugin *Plugin
	host   *Host
}

// trialState is the state of a module under trial, which its versions share.
type trialState struct {
	mu     sync.Mutex
	blocks map[trialKey][]byte
}

type trialKey struct {
	name   string
	schema uint32
}

// trialStates opens the blocks of one version.
type trialStates struct {
	plugin *Plugin
	shared *trialState
	frozen atomic.Bool
}

// TryPlugin runs Plugin.Start in this process, without a node.
func (p *Plugin) TryPlugin(ctx context.Context, dataDir string, settings map[string]string) (*Trial, error) {
	t := p.trial(wire.Configuration{DataDir: dataDir, Settings: settings}, &trialState{blocks: map[trialKey][]byte{}})
	return t, t.start(ctx)
}

func (p *Plugin) trial(conf wire.Configuration, shared *trialState) *Trial {
	return &Trial{p, &Host{conf: conf, trial: &trialStates{plugin: p, shared: shared}}}
}

func (t *Trial) start(ctx context.Context) error {
	if t.plugin.Start == nil {
		return nil
	}
	return t.plugin.Start(ctx, t.host)
}

// Upgrade replaces the version that runs by next, as a node does: it is frozen, next
// adopts its state and starts, the old one stops. When next fails, the old one is
// thawed and goes on, and the error says why. No job may run meanwhile.
func (t *Trial) Upgrade(ctx context.Context, next *Plugin) (*Trial, error) {
	m, err := next.Manifest()
	if err != nil {
		return nil, err
	}
	from, err := wire.ParseVersion(t.plugin.Version)
	if err != nil {
		return nil, err
	}
	if t.plugin.Name != next.Name {
		return nil, fmt.Errorf("plugin %s cannot take over from %s", next.Name, t.plugin.Name)
	}
	if err := wire.CanAdopt(t.plugin.State, m); err != nil {
		return nil, err
	}
	if t.plugin.Freeze != nil {
		if err := t.plugin.Freeze(ctx); err != nil {
			return nil, fmt.Errorf("freezing %s: %w", t.plugin.Version, err)
		}
	}
	t.host.trial.frozen.Store(true)
	n := next.trial(t.host.conf, t.host.trial.shared)
	if next.Adopt != nil {
		err = next.Adopt(ctx, n.host, from)
	}
	if err == nil {
		err = n.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("version %s does not take over: %w", next.Version, err), t.thaw(ctx))
	}
	return n, t.Stop(ctx)
}

func (t *Trial) thaw(ctx context.Context) error {
	t.host.trial.frozen.Store(false)
	if t.plugin.Thaw == nil {
		return nil
	}
	return t.plugin.Thaw(ctx)
}

// Stop runs Plugin.Stop.
func (t *Trial) Stop(ctx context.Context) error {
	if t.plugin.Stop == nil {
		return nil
	}
	return t.plugin.Stop(ctx)
}

// open finds or makes a block under the rules of a node.
func (s *trialStates) open(name string, schema uint32, size int) (*state.Block, error) {
	i := slices.IndexFunc(s.plugin.State, func(d StateSpec) bool { return d.Name == name })
	if i < 0 || !slices.Contains(s.plugin.Needs, MayKeepState) {
		return nil, wire.NewError(base.Code_permissionDenied, "declare it in Plugin.State and MayKeepState in Plugin.Needs", "state block %q", name)
	}
	spec := s.plugin.State[i]
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	mem := s.shared.blocks[trialKey{name, schema}]
	switch {
	case slices.Contains(spec.Adopts, schema):
		if mem == nil {
			return nil, wire.NewError(base.Code_notFound, "begin with an empty state", "no state block %q in schema %d", name, schema)
		}
	case schema != spec.Schema:
		return nil, wire.NewError(base.Code_permissionDenied, "declare the schema", "state %q is in schema %d, not %d", name, spec.Schema, schema)
	case uint64(max(size, 0)) > spec.MaxBytes:
		return nil, wire.NewError(base.Code_invalidArgument, "raise MaxBytes", "state %q: %d bytes wanted, %d declared", name, size, spec.MaxBytes)
	case mem == nil:
		mem = make([]byte, state.Size(uint64(max(size, 1))))
		s.shared.blocks[trialKey{name, schema}] = mem
		return state.Format(mem, schema)
	}
	b, err := state.Attach(mem)
	if err == nil && size > len(b.Next()) {
		return nil, fmt.Errorf("state %q: %w: it has %d bytes", name, state.ErrSize, len(b.Next()))
	}
	return b, err
}
