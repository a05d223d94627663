package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/host/node"
	"inos/protocols/system/v1"
	"inos/shm/segment"
)

// Bounds on how long a stop takes.
const (
	jobGrace  = 5 * time.Second  // for jobs that run
	stopGrace = 15 * time.Second // for plugins, after that
)

// runOptions are the flags of inos run.
type runOptions struct {
	plugins, segment, logLevel string
	tour, once                 bool
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start a node and stay up",
		Long: `Start a node: make the shared memory, start every plugin of the plugins folder,
listen on a socket in the home folder, and stay up. A file that is no plugin, or
one that cannot start, is refused and named; the node goes on without it. The
folder is followed from then on: a plugin that comes into it is taken into service,
a new version of one is exchanged for the old while jobs go on, and one that goes is
taken out. A folder that --plugins names must exist; that in the home folder is
made.

The first interrupt stops the node: jobs get a moment to end, plugins are told to
stop. A second one ends the process at once, and the plugins with it.`,
		Example: `  inos run --plugins bin/plugins
  inos run --plugins bin/plugins --segment 1GiB --tour
  INOS_HOME=/tmp/second inos run --tour --once`,
		Args: operands,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.plugins, "plugins", "", "plugins folder (default plugins in the home folder)")
	flags.StringVar(&o.segment, "segment", units.Size(system.SegmentDefault), "size of the shared memory, as 64MiB")
	flags.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn, error or off")
	flags.BoolVar(&o.tour, "tour", false, "give every plugin its self-test when all are up, as inos tour does")
	flags.BoolVar(&o.once, "once", false, "stop then; with --tour the exit code is the tour's")
	return cmd
}

func (a *app) run(ctx context.Context, o runOptions) (err error) {
	size, err := units.ParseSize(o.segment)
	if err != nil {
		return usageError{err}
	}
	level := hclog.LevelFromString(o.logLevel)
	if level == hclog.NoLevel {
		return usagef("--log-level %q: use trace, debug, info, warn, error or off", o.logLevel)
	}
	if err := checkPlugins(o.plugins); err != nil {
		return err
	}
	home, err := a.homeDir()
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "inos", Level: level, Output: a.err, Color: hclog.ColorOff})
	if isTerminal(a.err) {
		log = hclog.New(&hclog.LoggerOptions{Name: "inos", Level: level, Output: a.err, Color: hclog.AutoColor})
	}
	n, err := node.Open(ctx, node.Options{Home: home, PluginsDir: o.plugins, Segment: size, Version: versionName(), Logger: log})
	if errors.Is(err, segment.ErrOptions) {
		return usageError{fmt.Errorf("--segment %s: %w", o.segment, err)}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeNode(n)) }()
	return a.serve(ctx, n, o, log)
}

// checkPlugins checks a plugins folder that was named. A path with a slip in it
// would start a node without any plugin, so nobody makes such a folder.
func checkPlugins(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("--plugins %s: there is no such folder; make it or correct the path", dir)
	case err != nil:
		return usagef("--plugins: %w", err)
	case !info.IsDir():
		return usagef("--plugins %s: it is not a folder; correct the path", dir)
	}
	return nil
}

func closeNode(n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	return n.Close(ctx)
}

// serve opens the door of a node that is up and keeps it open until ctx ends.
func (a *app) serve(ctx context.Context, n *node.Node, o runOptions, log hclog.Logger) (err error) {
	l, err := api.Listen(n.Socket())
	if err != nil {
		return err
	}
	server := api.NewServer(n, api.Options{Logger: log})
	broken := make(chan error, 1)
	go func() { broken <- server.Serve(l) }()
	defer func() {
		grace, cancel := context.WithTimeout(context.Background(), jobGrace)
		defer cancel()
		if late := server.Close(grace); late != nil {
			log.Warn("jobs that ran were canceled", "after", jobGrace)
		}
	}()
	c, err := api.Dial(n.Socket())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := a.welcome(ctx, c, n); err != nil {
		return err
	}
	if o.tour {
		fmt.Fprintln(a.err, "\nThe tour: every plugin that declares a self-test does that job.")
		if err := a.tour(ctx, c); o.once || err != nil && ctx.Err() != nil {
			return err
		}
	}
	if o.once {
		return nil
	}
	fmt.Fprintln(a.err, "\nThe node is up. Interrupt it to stop.")
	select {
	case err := <-broken:
		return err
	case <-ctx.Done():
		fmt.Fprintln(a.err, "The node stops. Interrupt again to end it at once.")
		return nil
	}
}

// welcome says where the node is and what became of its plugins.
func (a *app) welcome(ctx context.Context, c *api.Client, n *node.Node) error {
	list, err := c.Plugins(ctx)
	if err != nil {
		return err
	}
	i := n.Info()
	if a.json {
		return printJSON(a.out, map[string]any{"node": i.ID, "socket": i.Socket, "home": i.Home, "plugins": list})
	}
	fmt.Fprintf(a.out, "Node %s listens on %s\nPlugins are from %s, shared memory is %s\n\n", i.ID, i.Socket, i.Plugins, units.Size(i.Segment))
	a.showPlugins(list)
	return nil
}
