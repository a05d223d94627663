package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"inos/host/cmd/inos/internal/doctor"
	"inos/host/cmd/inos/internal/units"
	"inos/protocols/system/v1"
)

func (a *app) doctorCommand() *cobra.Command {
	var plugins, segment string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine can run a node",
		Long: `Check whether this machine can run a node: features of the kernel, limits, memory,
folders and their permissions, the policy, a GPU. Each line is ok, warn or fail, and says what
to do. The exit code is 1 when a check failed. No node has to be running.`,
		Example: "  inos doctor\n  inos doctor --plugins bin/plugins --segment 4GiB",
		Args:    operands,
		RunE: func(*cobra.Command, []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			size, err := units.ParseSize(segment)
			if err != nil {
				return usageError{err}
			}
			if plugins == "" {
				plugins = filepath.Join(home, "plugins")
			}
			findings := doctor.Examine(doctor.Options{Home: home, Plugins: plugins, Segment: size})
			err = a.print(map[string]any{"findings": findings}, func() { a.showFindings(findings) })
			if err == nil && doctor.Worst(findings) == doctor.Fail {
				err = errReported
			}
			return err
		},
	}
	cmd.Flags().StringVar(&plugins, "plugins", "", "plugins folder to look at (default plugins in the home folder)")
	cmd.Flags().StringVar(&segment, "segment", units.Size(system.SegmentDefault), "size of the shared memory that a node would have")
	return cmd
}

func (a *app) showFindings(findings []doctor.Finding) {
	t := newTable(a.out, "RESULT", "RESULT", "CHECK", "FOUND")
	for _, f := range findings {
		t.row(string(f.Level), f.Check, f.Detail)
	}
	t.end()
	for _, f := range findings {
		if f.Level != doctor.OK && f.Advice != "" {
			fmt.Fprintf(a.out, "\n%s: %s\n", f.Check, f.Advice)
		}
	}
	switch doctor.Worst(findings) {
	case doctor.OK:
		fmt.Fprintln(a.out, "\nA node runs well here.")
	case doctor.Warn:
		fmt.Fprintln(a.out, "\nA node runs here.")
	default:
		fmt.Fprintln(a.out, "\nA node does not run here before what failed is mended.")
	}
}
