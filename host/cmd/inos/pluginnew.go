package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/scaffold"
)

func (a *app) pluginNewCommand() *cobra.Command {
	var dir, source string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a plugin of your own",
		Long: `Begin a plugin of your own: a Go module in a folder of its own, with a capability
that works and a test of it. It builds at once, against the sources of INOS on
this machine. These are looked for above this program and above the current
folder, unless --inos names them.`,
		Example: "  inos plugin new greet\n  inos plugin new greet --dir ~/src/greet --inos ~/src/inos",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				dir = args[0]
			}
			from, err := findSource(source)
			if err != nil {
				return err
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			p := scaffold.Plugin{Name: args[0], Dir: dir, Source: from}
			files, err := p.Write()
			if errors.Is(err, scaffold.ErrName) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			plugins, err := a.nodePlugins(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(map[string]any{"dir": dir, "files": files, "capability": p.Capability()}, func() {
				fmt.Fprintf(a.out, "%s is in %s. Try it:\n\n", p.Name, dir)
				fmt.Fprintf(a.out, "  cd %s\n  go test ./...\n  go build -o %s .\n", dir, p.Name)
				fmt.Fprintf(a.out, "  mkdir -p %s && cp %s %s/\n\n", plugins, p.Name, plugins)
				fmt.Fprintf(a.out, "A node that runs takes it into service by itself; inos run starts one. Then:\n\n")
				fmt.Fprintf(a.out, "  inos job run %s --param name=Ada\n", p.Capability())
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to make (default NAME here)")
	cmd.Flags().StringVar(&source, "inos", "", "folder with the sources of INOS (default found from this program or from here)")
	return cmd
}

// nodePlugins returns the plugins folder of the node that runs, or that which
// one would have.
func (a *app) nodePlugins(ctx context.Context) (string, error) {
	home, err := a.homeDir()
	if err != nil {
		return "", err
	}
	if c, err := api.Dial(api.SocketPath(home)); err == nil {
		defer c.Close()
		if n, err := c.Node(ctx); err == nil {
			return n.Plugins, nil
		}
	}
	return filepath.Join(home, "plugins"), nil
}

func findSource(named string) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	var from []string
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		from = append(from, filepath.Dir(self))
	}
	if here, err := os.Getwd(); err == nil {
		from = append(from, here)
	}
	return scaffold.FindSource(from...)
}
