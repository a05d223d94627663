package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/protocols/compute/v1"
)

// runDurable hands a durable job over, and waits for what comes of it if that is
// wanted.
func (a *app) runDurable(ctx context.Context, c *api.Client, r api.RunRequest, out string, wait bool) error {
	var bar progress
	if r.Input != nil {
		bar = a.progress("hand over", r.Size)
		r.Input = bar.reader(r.Input)
	}
	j, err := c.Submit(ctx, r)
	bar.end()
	if err != nil {
		return err
	}
	if !wait {
		return a.print(j, func() {
			fmt.Fprintln(a.out, plain(j.ID))
			if isTerminal(a.out) {
				fmt.Fprintf(a.err, "It is on the node's disk. inos job result %s gives what comes of it.\n", plain(j.ID))
			}
		})
	}
	fmt.Fprintf(a.err, "job %s is on the node's disk\n", plain(j.ID))
	if _, err := a.waitJob(ctx, c, j.ID); err != nil {
		return err
	}
	return a.fetchResult(ctx, c, j.ID, out, false)
}

// waitJob waits until a job has ended.
func (a *app) waitJob(ctx context.Context, c *api.Client, id string) (api.Job, error) {
	j, err := c.WaitJob(ctx, id)
	if err != nil && ctx.Err() != nil {
		fmt.Fprintf(a.err, "job %s goes on; see inos job show %s\n", plain(id), plain(id))
	}
	return j, err
}

// fetchResult writes what a durable job gave to a file, or to standard output.
func (a *app) fetchResult(ctx context.Context, c *api.Client, id, out string, discard bool) error {
	dst, err := a.createOutput(out)
	if err != nil {
		return err
	}
	defer dst.discard()
	regular := dst.to != ""
	res, err := c.Result(ctx, id, dst)
	failed := err != nil && res.Status != "" && res.Status != compute.Status_success.String() // there is nothing to fetch
	if err == nil {
		err = dst.commit()
	}
	if err == nil && discard && regular {
		err = syncFile(out)
	}
	if discard && (err == nil || failed) {
		switch left := c.Discard(ctx, id); {
		case left != nil && failed:
			err = fmt.Errorf("%w; and it could not be discarded: %w", err, left)
		case left != nil:
			err = left
		}
	}
	return a.report(res, out, err)
}

func (a *app) jobResultCommand() *cobra.Command {
	var out string
	var discard bool
	cmd := &cobra.Command{
		Use:   "result ID",
		Short: "Fetch what a durable job gave",
		Long: `Fetch what a durable job gave, which the node keeps until it is discarded or
expires. Of a job that failed, its error is the command's. One that has not ended has
no result: inos job wait waits for it. The first digits of ID do when no other job
begins with them.

A file that --out names is replaced when all of the result has come, and with
--discard the node forgets the job after that.`,
		Example: "  inos job result 3f21c09a7be4\n  inos job result 3f21c09a7be4 -o notes.txt --discard --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(c *api.Client, id string) error {
				return a.fetchResult(cmd.Context(), c, id, out, discard)
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "-", "file for the result, - for standard output")
	cmd.Flags().BoolVar(&discard, "discard", false, "have the node forget the job and its key when all of the result is here")
	return cmd
}

func (a *app) jobWaitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a job has ended",
		Long: `Wait until a job has ended, durable or not, and show what is known of it then. The
exit code is 1 when it did not succeed. Interrupting the command ends the waiting
alone. The first digits of ID do when no other job begins with them.`,
		Example: "  inos job wait 3f21c09a7be4\n  inos job wait 3f21c09a7be4 --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(c *api.Client, id string) error {
				j, err := a.waitJob(cmd.Context(), c, id)
				if err != nil {
					return err
				}
				if err := a.print(j, func() { a.showJob(j) }); err != nil {
					return err
				}
				if j.Err() != nil {
					return errReported // the job's error is on the screen
				}
				return nil
			})
		},
	}
}

// report says how a job ended whose output was written to out.
func (a *app) report(res api.RunResult, out string, err error) error {
	to := a.err
	if out != "-" {
		to = a.out
	}
	if a.json {
		return errors.Join(err, printJSON(to, res))
	}
	if err == nil && isTerminal(a.err) {
		took := time.Duration(res.Metrics.WallTimeNs)
		fmt.Fprintf(a.err, "job %s: %s in %s, %s in, %s out, cost %d\n",
			res.Job, res.Status, units.Duration(took), units.Size(res.Metrics.InputBytes), units.Size(res.Bytes), res.Cost)
	}
	return err
}
