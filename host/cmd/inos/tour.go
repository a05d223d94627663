package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/tour"
	"inos/host/cmd/inos/internal/units"
)

func (a *app) tourCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tour",
		Short: "Give every plugin its self-test",
		Long: `Give every plugin of the running node one real job: the self-test that its
manifest declares. If somebody serves storage, a file of 8 MiB goes there and back
and is compared bit for bit. No other capability is called, since nobody knows
what it does: a plugin without a self-test is skipped, which is no failure. The
exit code is 1 when a job failed, a plugin does not serve, or nobody did anything.
Files that the node refused are listed and do not count.`,
		Example: "  inos tour\n  inos tour --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(func(c *api.Client) error { return a.tour(cmd.Context(), c) })
		},
	}
}

// tour makes the tour, shows it, and fails when something on it did.
func (a *app) tour(ctx context.Context, c *api.Client) error {
	stops, err := tour.Run(ctx, c)
	if err != nil {
		return err
	}
	if err := a.print(map[string]any{"tour": stops, "ok": tour.Good(stops)}, func() { a.showTour(stops) }); err != nil {
		return err
	}
	if !tour.Good(stops) {
		return errReported
	}
	return nil
}

func (a *app) showTour(stops []tour.Stop) {
	t := newTable(a.out, "RESULT", "PLUGIN", "CAPABILITY", "RESULT", "TIME", "BYTES")
	for _, s := range stops {
		took := ""
		if s.TookNs > 0 {
			took = units.Duration(time.Duration(s.TookNs))
		}
		t.row(s.Plugin, s.Capability, s.Result, took, orDash(s.Bytes))
	}
	t.end()
	for _, s := range stops {
		if s.Why != "" {
			fmt.Fprintf(a.out, "%s: %s: %s\n", plain(s.Plugin), s.Result, plain(s.Why))
		}
	}
	if !slices.ContainsFunc(stops, func(s tour.Stop) bool { return s.Result == tour.OK || s.Result == tour.Failed }) {
		fmt.Fprintln(a.out, "No plugin had a job to do, so nobody did anything.")
	}
}
