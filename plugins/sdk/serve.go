package sdk

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"inos/plugins/sdk/wire"
)

// unixConn is the channel's type, named once.
type unixConn = net.UnixConn

// Serve runs the plugin until the node stops it, and does not return. It prints
// what is wrong with the manifest and exits with 1 when the plugin cannot be
// served.
func Serve(p *Plugin) {
	m, err := p.Manifest()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(wire.Handshake.MagicCookieKey) != wire.Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s %s is a plugin of an INOS node: %s\nIt does nothing by itself. Put it into the node's plugins folder and start the node with inos run.\n",
			m.Name, m.Version, m.Description)
		os.Exit(1)
	}
	log := hclog.New(&hclog.LoggerOptions{Name: m.Name, Level: hclog.Info, JSONFormat: true, Output: os.Stderr})
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: wire.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{
			wire.ProtocolVersion: {wire.PluginName: &wire.ModulePlugin{New: func(b *goplugin.GRPCBroker) wire.Lifecycle {
				return &lifecycle{plugin: p, manifest: m, log: log, broker: b}
			}}},
		},
		GRPCServer: wire.NewServer,
		Logger:     log,
	})
}

// fileConn turns an inherited descriptor into a connection.
func fileConn(f *os.File) (*unixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the channel: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("the channel is no unix socket"), c.Close())
	}
	return u, nil
}
