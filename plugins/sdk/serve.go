package sdk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
)

// Serve runs the plugin and returns when the node has stopped it; then main
// should return too. When the plugin cannot be served it prints what is wrong with
// the manifest and exits with 1.
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
				return newLifecycle(p, m, log, b)
			}}},
		},
		GRPCServer: wire.NewServer,
		Logger:     log,
	})
}

// channel returns the socket on which the host passes descriptors.
func channel() (*net.UnixConn, error) {
	said := os.Getenv(system.ChannelEnv)
	fd, err := strconv.Atoi(said)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, not a descriptor: the plugin must be started by a node", system.ChannelEnv, said)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "channel")
	defer f.Close() // the connection has a descriptor of its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the channel, descriptor %d: %w", fd, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the channel, descriptor %d, is no unix socket", fd), c.Close())
	}
	return u, nil
}
