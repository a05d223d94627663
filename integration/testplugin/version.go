package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"inos/plugins/sdk"
)

// versioned recognises names of the form MODULE-vVERSION[-CONDUCT...]: a version
// of a module, so that one binary can play all of them. What follows says how the
// version behaves:
//
//	unwell     says that it is not healthy
//	failing    fails every job of .work
//	schema2    keeps its counter in schema 2, and takes over schema 1
//	alien      keeps its counter in schema 9, and takes over nothing
//	exclusive  holds the device "gadget" for itself
//	needy      depends on a module that is not there
//	changed    has a capability of probe's
//	circular   depends on "dependent"
//	stateless  keeps no state
//	huge       holds 1 GiB of state
//	failingtest fails its self-test
//	crash      ends by itself soon after it started
//	and those that misbehave knows.
var versioned = regexp.MustCompile(`^(.+?)-v(\d+\.\d+\.\d+)((?:-[a-z0-9]+)*)$`)

// conduct splits the name of a binary.
func conduct(name string) (module, version string, ways []string) {
	m := versioned.FindStringSubmatch(name)
	if m == nil {
		return name, "", nil
	}
	return m[1], m[2], strings.Split(strings.TrimPrefix(m[3], "-"), "-")
}

// behave changes a plugin as its version is meant to.
func behave(p *sdk.Plugin, version string, ways []string) {
	has := func(way string) bool { return slices.Contains(ways, way) }
	name := p.Name
	p.Version = version
	p.Capabilities = append(p.Capabilities, sdk.Capability{
		Name: name + ".work", Description: "says which version works, after so many milliseconds", Idempotent: true,
		Params: []sdk.ParamSpec{{Name: "ms", Kind: sdk.Uint}},
		Handle: func(j *sdk.Job) error {
			if has("failing") {
				return errors.New("this version always fails")
			}
			if err := pause(j); err != nil {
				return err
			}
			_, err := fmt.Fprint(j, version)
			return err
		},
	}, sdk.Capability{
		Name: name + ".chore", Description: "like work, but not to be repeated",
		Params: []sdk.ParamSpec{{Name: "ms", Kind: sdk.Uint}},
		Handle: func(j *sdk.Job) error {
			if err := pause(j); err != nil {
				return err
			}
			_, err := fmt.Fprint(j, version)
			return err
		},
	})
	schema := uint32(1)
	switch {
	case has("schema2"):
		schema = 2
		p.State[0].Schema, p.State[0].Adopts = 2, []uint32{1}
		p.Adopt = func(ctx context.Context, h *sdk.Host, from sdk.Version) error {
			old, err := h.PriorState(ctx, "counter", 1)
			if err != nil || old == nil {
				return err
			}
			st, err := h.State(ctx, "counter", 2, 64)
			if err != nil {
				return err
			}
			// Schema 2 counts downwards from the top, so that nobody takes one for the other.
			binary.LittleEndian.PutUint64(st.Next(), ^binary.LittleEndian.Uint64(old))
			return st.Commit()
		}
	case has("alien"):
		schema = 9
		p.State[0].Schema = 9
	}
	p.Capabilities = append(p.Capabilities, sdk.Capability{
		Name: name + ".tally", Description: "counts its calls in a block that versions hand on",
		Handle: func(j *sdk.Job) error {
			st, err := j.Host().State(j.Context(), "counter", schema, 64)
			if err != nil {
				return err
			}
			n := binary.LittleEndian.Uint64(st.Current())
			if schema == 2 {
				n = ^n
			}
			n++
			put := n
			if schema == 2 {
				put = ^n
			}
			binary.LittleEndian.PutUint64(st.Next(), put)
			if err := st.Commit(); err != nil {
				return err
			}
			_, err = fmt.Fprint(j, n)
			return err
		},
	})
	if has("stateless") {
		p.State = nil
	}
	if has("huge") {
		p.State = append(p.State, sdk.StateSpec{Name: "huge", Schema: 1, MaxBytes: huge})
		p.Start = hold
	}
	if has("exclusive") {
		p.Resources.Exclusive = []string{"gadget"}
	}
	if has("needy") {
		p.Dependencies = []sdk.Dependency{{Module: "nobody"}}
	}
	if has("circular") {
		p.Dependencies = []sdk.Dependency{{Module: "dependent"}}
	}
	if has("changed") {
		p.Capabilities[0].Name = "probe.echo"
		p.SelfTest = ""
	}
	if has("failingtest") {
		p.SelfTest = name + ".plain"
	}
	var started atomic.Bool
	if has("unwell") {
		p.Health = func(context.Context) error { return errors.New("this version is not well") }
	}
	if has("crash") {
		start := p.Start
		p.Start = func(ctx context.Context, h *sdk.Host) error {
			if !started.Swap(true) {
				time.AfterFunc(300*time.Millisecond, func() { panic("this version does not last") })
			}
			return start(ctx, h)
		}
	}
}

// huge is the size of a large state.
const huge = 1 << 30

// hold makes sure that the large state is there, whoever wrote it.
func hold(ctx context.Context, h *sdk.Host) error {
	st, err := h.State(ctx, "huge", 1, huge)
	if err != nil || st.Commits() > 0 {
		return err
	}
	next := st.Next()
	for i := 0; i < len(next); i += 8 {
		binary.LittleEndian.PutUint64(next[i:], uint64(i))
	}
	return st.Commit()
}

// pause waits as long as the job says.
func pause(j *sdk.Job) error {
	t := time.NewTimer(time.Duration(j.Params().Uint("ms")) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-j.Context().Done():
		return j.Context().Err()
	}
}
