package sdk

import (
	"context"
	"errors"
	"strings"
	"testing"

	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

func TestFrozenPluginIsHealthyAndGoesOnAfterThaw(t *testing.T) {
	var order []string
	note := func(s string) func(context.Context) error {
		return func(context.Context) error { order = append(order, s); return nil }
	}
	p := runs(Capability{Handle: func(*Job) error { return nil }})
	p.Freeze, p.Thaw = note("freeze"), note("thaw")
	h := serve(t, p)
	h.obey(wire.Thaw{}) // it is not frozen: nothing happens
	h.obey(wire.Freeze{})
	if !h.session.frozen.Load() {
		t.Error("it is not frozen")
	}
	if health := h.health(t.Context()); health.Status != system.HealthStatus_healthy {
		t.Errorf("frozen, its health is %s, %q", health.Status, health.Detail)
	}
	h.obey(wire.Thaw{})
	if h.session.frozen.Load() {
		t.Error("it is still frozen")
	}
	if done, _, failure := h.finish(h.submit(arena.Ref{})); status(done) != compute.Status_success {
		t.Errorf("a job after thaw ended as %s, %v", status(done), failure)
	}
	if got := strings.Join(order, " "); got != "freeze thaw" {
		t.Errorf("hooks ran: %s", got)
	}
}

func TestFailedFreezeLeavesThePluginAsItWas(t *testing.T) {
	p := runs(Capability{Handle: func(*Job) error { return nil }})
	p.Freeze = func(context.Context) error { return errors.New("the disk is full") }
	h := serve(t, p)
	if err := h.command(wire.Freeze{}); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("freeze said %v", err)
	}
	if h.session.frozen.Load() {
		t.Error("it is frozen all the same")
	}
}

func TestFailpointFailsACommand(t *testing.T) {
	h := serve(t, runs(Capability{Handle: func(*Job) error { return nil }}))
	restore, err := failpoint.Enable("sdk/freeze/before", "error(torn)")
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	if err := h.command(wire.Freeze{}); err == nil || !strings.Contains(err.Error(), "torn") {
		t.Errorf("freeze said %v", err)
	}
}

// counters are two versions of a plugin that counts; the second has another schema.
func counters() (v1, v2 *Plugin, blocks *[2]*StateBlock) {
	blocks = new([2]*StateBlock)
	plugin := func(i int, version string, spec StateSpec) *Plugin {
		p := runs(Capability{Handle: func(*Job) error { return nil }})
		p.Name, p.Version, p.Needs, p.State = "count", version, []Grant{MayKeepState}, []StateSpec{spec}
		p.Start = func(ctx context.Context, h *Host) (err error) {
			blocks[i], err = h.State(ctx, "n", spec.Schema, 64)
			return err
		}
		return p
	}
	v1 = plugin(0, "1.0.0", StateSpec{Name: "n", Schema: 1, MaxBytes: 64})
	v2 = plugin(1, "2.0.0", StateSpec{Name: "n", Schema: 2, MaxBytes: 64, Adopts: []uint32{1}})
	return v1, v2, blocks
}

func TestUpgradeFreezesTheOldVersionAndAdoptsItsState(t *testing.T) {
	v1, v2, blocks := counters()
	v2.Adopt = func(ctx context.Context, h *Host, from Version) error {
		old, err := h.PriorState(ctx, "n", 1)
		if err != nil || from != (Version{Major: 1}) {
			t.Errorf("from %s: %v", from, err)
		}
		b, err := h.State(ctx, "n", 2, 64)
		if err != nil {
			return err
		}
		b.Next()[0] = old[0] * 2
		if err := blocks[0].Commit(); !errors.Is(err, ErrFrozen) {
			t.Errorf("the frozen version committed: %v", err)
		}
		return b.Commit()
	}
	first, err := v1.TryPlugin(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	blocks[0].Next()[0] = 21
	if err := blocks[0].Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Upgrade(t.Context(), v2); err != nil {
		t.Fatal(err)
	}
	if now, old := blocks[1].Current()[0], blocks[0].Current()[0]; now != 42 || old != 21 {
		t.Errorf("the new version has %d, the old one %d", now, old)
	}
}

func TestFailedAdoptThawsTheOldVersion(t *testing.T) {
	v1, v2, blocks := counters()
	v2.Adopt = func(context.Context, *Host, Version) error { return errors.New("cannot read it") }
	first, err := v1.TryPlugin(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Upgrade(t.Context(), v2); err == nil || !strings.Contains(err.Error(), "cannot read it") {
		t.Errorf("upgrade said %v", err)
	}
	if err := blocks[0].Commit(); err != nil {
		t.Errorf("the old version goes on: %v", err)
	}
}

func TestRegistryIsReadAndWaitedFor(t *testing.T) {
	h := serve(t, runs(Capability{Handle: func(*Job) error { return nil }}))
	node := h.lifecycle.host
	if list, err := node.Modules(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	now, err := node.Changed(t.Context(), 0)
	if err != nil || now == 0 {
		t.Fatalf("%d, %v", now, err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := node.Changed(ctx, now); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing changed: %v", err)
	}
}
