package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

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
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
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
			if err != nil {
				return err
			}
			return a.print(map[string]any{"dir": dir, "files": files, "capability": p.Capability()}, func() {
				fmt.Fprintf(a.out, "%s is in %s. Try it:\n\n", p.Name, dir)
				fmt.Fprintf(a.out, "  cd %s\n  go test ./...\n  mkdir -p plugins && go build -o plugins/%s .\n", dir, p.Name)
				fmt.Fprintf(a.out, "  inos run --plugins plugins\n  inos job run %s --param name=Ada\n", p.Capability())
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to make (default NAME here)")
	cmd.Flags().StringVar(&source, "inos", "", "folder with the sources of INOS (default found from this program or from here)")
	return cmd
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
