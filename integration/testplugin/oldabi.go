package main

import (
	"context"

	goplugin "github.com/hashicorp/go-plugin"

	"inos/plugins/sdk/wire"
)

// oldABI is a plugin built for an ABI that this node does not serve.
type oldABI struct{ name string }

func (o oldABI) Command(_ context.Context, c wire.Command) (wire.Reply, error) {
	return wire.Reply{ID: c.ID, Manifest: &wire.Manifest{Name: o.name, Version: wire.Version{Major: 1}, ABIMajor: 999}}, nil
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
