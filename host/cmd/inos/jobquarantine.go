package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
)

func (a *app) jobQuarantineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "quarantine",
		Short: "List the jobs that ended plugins",
		Long: `List the jobs that were under way when a plugin's process died, the last first. A job
that is suspected runs with no other suspect beside it, so that the right one is
found; after some deaths it is quarantined: it, and the same job submitted again, is
not started any more by that binary. A new version of the plugin gets a new chance
by itself; inos job forgive gives one to the job.`,
		Example: "  inos job quarantine\n  inos job quarantine --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(func(c *api.Client) error {
				list, err := c.Quarantine(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(api.Quarantine{Jobs: list}, func() { a.showQuarantine(list) })
			})
		},
	}
}

func (a *app) showQuarantine(list []api.Quarantined) {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "No job has ended a plugin.")
		return
	}
	t := newTable(a.out, "STATE", "DIGEST", "CAPABILITY", "STATE", "DEATHS", "PLUGIN BINARY", "SINCE", "LAST CAUSE")
	for _, q := range list {
		state := "suspected"
		if q.Quarantined {
			state = "quarantined"
		}
		t.row(beginning(q.JobDigest), q.Capability, state, q.Kills,
			beginning(q.PluginDigest), q.Since.Local().Format(time.DateTime), q.LastCause)
	}
	t.end()
}

func (a *app) jobForgiveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "forgive DIGEST",
		Short:   "Let a quarantined job be started again",
		Long:    "Let a job be started again that ended plugins. DIGEST is that of the job, or its first digits, six at least; see inos job quarantine.",
		Example: "  inos job forgive 3f9c21b7",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			digest := strings.ToLower(args[0])
			if len(digest) < 6 || strings.Trim(digest, "0123456789abcdef") != "" {
				return usagef("%q does not begin the digest of a job; give six digits or more, see inos job quarantine", args[0])
			}
			return a.withNode(func(c *api.Client) error {
				if err := c.Forgive(cmd.Context(), digest); err != nil {
					return err
				}
				return a.print(map[string]string{"forgiven": digest}, func() { fmt.Fprintf(a.out, "jobs %s... may be started again\n", digest) })
			})
		},
	}
}
