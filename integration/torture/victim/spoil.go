package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"inos/plugins/sdk"
	"inos/plugins/sdk/wire"
)

// misbehave goes wrong before the plugin serves. It reports whether the process has
// nothing more to do.
func misbehave(ways []string, name string) bool {
	switch {
	case has(ways, "crash"):
		panic("the campaign asked for it")
	case has(ways, "exit"):
		fmt.Fprintln(os.Stderr, "this version cannot go on")
		os.Exit(3)
	case has(ways, "hang"):
		select {}
	case has(ways, "noise"):
		fmt.Println("hello, this is no handshake")
	case has(ways, "abi"):
		serveOldABI(name)
	default:
		return false
	}
	return true
}

// spoil changes an honest plugin in the ways that show when it serves:
//
//	test     its self-test fails
//	unwell   it says that it is not healthy
//	failing  every probe after its self-test fails
//	dying    it ends by itself soon after it started
//	lacking  it depends on a module that is not there
//	circle   it depends on a module that depends on it
//	clash    it claims a capability of the module steady
//	alien    its state has a schema that takes over nothing
func spoil(p *sdk.Plugin, ways []string) {
	probe := &p.Capabilities[0]
	honest := probe.Handle
	var probes int
	switch {
	case has(ways, "test"):
		probe.Handle = func(*sdk.Job) error { return errors.New("this version fails its test") }
	case has(ways, "unwell"):
		p.Health = func(context.Context) error { return errors.New("this version is not well") }
	case has(ways, "failing"):
		// One job at a time, so that the test is the first.
		gate := make(chan struct{}, 1)
		probe.Handle = func(j *sdk.Job) error {
			gate <- struct{}{}
			defer func() { <-gate }()
			if probes++; probes == 1 {
				return honest(j)
			}
			return errors.New("this version fails its probes")
		}
	case has(ways, "dying"):
		start := p.Start
		p.Start = func(ctx context.Context, h *sdk.Host) error {
			time.AfterFunc(400*time.Millisecond, func() { panic("this version does not last") })
			return start(ctx, h)
		}
	case has(ways, "lacking"):
		p.Dependencies = []sdk.Dependency{{Module: "nobody"}}
	case has(ways, "circle"):
		p.Dependencies = []sdk.Dependency{{Module: "reliant"}}
	case has(ways, "clash"):
		p.Capabilities = append(p.Capabilities, sdk.Capability{Name: "steady.probe", Handle: honest})
	case has(ways, "alien"):
		p.State = []sdk.StateSpec{{Name: "count", Schema: 9, MaxBytes: 64}}
	}
	if p.Name == "reliant" {
		p.Dependencies = []sdk.Dependency{{Module: "mill"}}
	}
}

// oldABI is a plugin built for an ABI that no node serves any more.
type oldABI struct{ name string }

func (o oldABI) Command(_ context.Context, c wire.Command) (wire.Reply, error) {
	return wire.Reply{ID: c.ID, Manifest: &wire.Manifest{Name: o.name, Version: wire.Version{Major: 9}, ABIMajor: 999}}, nil
}

func serveOldABI(name string) {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: wire.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{
			wire.ProtocolVersion: {wire.PluginName: &wire.ModulePlugin{New: func(*goplugin.GRPCBroker) wire.Lifecycle { return oldABI{name} }}},
		},
		GRPCServer: wire.NewServer,
	})
}
