package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
)

func (a *app) jobCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "job",
		Short:   "Run jobs, and see or cancel those of others",
		Long:    "Run a job on the node, list the jobs under way and the last ones that ended, look at one, or cancel it. Durable jobs survive the node: hand one over, and fetch its result later.",
		Example: "  inos job run storage.list\n  inos job list\n  inos job cancel 3f21c09a7be4\n  inos job run storage.list --durable\n  inos job result 3f21c09a7be4",
	}, a.jobRunCommand(), a.jobListCommand(), a.jobShowCommand(), a.jobCancelCommand(),
		a.jobWaitCommand(), a.jobResultCommand(), a.jobQuarantineCommand(), a.jobForgiveCommand())
}

func (a *app) jobListCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the jobs under way and the last that ended",
		Long:    "List the jobs under way and the last that ended, the newest first. A node forgets jobs that ended long ago; durable ones are kept until their result is discarded, for a day at most.",
		Example: "  inos job list\n  inos job list --limit 10 --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d: give a number above 0", limit)
			}
			return a.withNode(func(c *api.Client) error {
				jobs, err := c.Jobs(cmd.Context(), limit)
				if err != nil {
					return err
				}
				return a.print(jobs, func() { a.showJobs(jobs) })
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many to list")
	return cmd
}

func (a *app) showJobs(jobs api.Jobs) {
	if len(jobs.Jobs) == 0 {
		fmt.Fprintln(a.out, "The node has had no jobs yet.")
		return
	}
	t := newTable(a.out, "STATE", "JOB", "KIND", "CAPABILITY", "STATE", "DONE", "TOOK", "IN", "OUT", "COST", "SUBMITTED")
	for _, j := range jobs.Jobs {
		t.row(j.ID, kind(j), j.Capability, j.State, share(j.Done, j.Total), units.Duration(time.Duration(j.TookNs)),
			units.Size(j.InBytes), units.Size(j.OutBytes), j.Cost, j.Submitted.Local().Format(time.DateTime))
	}
	t.end()
	if more := jobs.Known - len(jobs.Jobs); more > 0 {
		fmt.Fprintf(a.out, "and %d more; see --limit\n", more)
	}
}

// kind marks jobs that are durable.
func kind(j api.Job) string {
	if j.Durable {
		return "durable"
	}
	return ""
}

// share is how much of a job is done, as its handler says.
func share(done, total uint64) string {
	switch {
	case total > 0:
		return fmt.Sprintf("%.0f%%", 100*min(1, float64(done)/float64(total)))
	case done > 0:
		return fmt.Sprint(done)
	}
	return ""
}

func (a *app) jobShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show what is known of a job",
		Long:    "Show what is known of a job that is under way or ended lately. The first digits of ID do when no other job begins with them.",
		Example: "  inos job show 3f21c09a7be4\n  inos job show 3f21c09a7be4 --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(c *api.Client, id string) error {
				j, err := c.Job(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.print(j, func() { a.showJob(j) })
			})
		},
	}
}

func (a *app) showJob(j api.Job) {
	t := newList(a.out)
	t.pair("job", j.ID)
	capability := j.Capability
	if j.Module != "" {
		capability += " of " + j.Module
	}
	t.pair("capability", capability)
	t.pair("kind", kind(j))
	t.pair("key", j.Key)
	t.pair("state", j.State)
	if j.Error != nil {
		t.pair("why", j.Error.Message)
		t.pair("what to do", j.Error.Hint)
	}
	t.pair("submitted", j.Submitted.Local().Format(time.DateTime))
	t.pair("deadline", moment(j.Deadline))
	t.pair("took", units.Duration(time.Duration(j.TookNs)))
	if j.Durable && j.Over() {
		t.pair("result", "inos job result "+j.ID+"; kept until "+moment(j.Expires))
	}
	t.pair("done", share(j.Done, j.Total))
	t.pair("priority", j.Priority)
	t.pair("attempts", fmt.Sprint(j.Attempts))
	if j.Instance != 0 {
		t.pair("instance", fmt.Sprint(j.Instance))
	}
	t.pair("input", units.Size(j.InBytes))
	t.pair("output", units.Size(j.OutBytes))
	t.pair("cost", fmt.Sprintf("%d micro-credits", j.Cost))
	t.pair("on behalf of", j.Parent)
	t.end()
}

// moment is a time as a person reads it, empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func (a *app) jobCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cancel ID",
		Short:   "Cancel a job",
		Long:    "Cancel a job that waits or runs. Its caller hears at once, and its handler is told. A handler that does not listen within 10 s costs its plugin process its life. The first digits of ID do when no other job begins with them.",
		Example: "  inos job cancel 3f21c09a7be4",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(c *api.Client, id string) error {
				j, err := c.Cancel(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.print(j, func() { fmt.Fprintf(a.out, "job %s is %s\n", plain(j.ID), plain(j.State)) })
			})
		},
	}
}
