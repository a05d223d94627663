package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/protocols/compute/v1"
)

func (a *app) jobRunCommand() *cobra.Command {
	var r api.RunRequest
	var in, out string
	var durable, wait bool
	cmd := &cobra.Command{
		Use:   "run CAPABILITY",
		Short: "Run a job and wait for what comes of it",
		Long: `Run a job and wait for what comes of it. Interrupting the command cancels the job.

A file that --out names is replaced when the job has succeeded, and not touched
before. With --json, how the job ended is printed as JSON: on standard output
when --out names a file, and on standard error when the job's own output goes to
standard output.

With --durable, the command hands the job over, prints its number and returns: it
and its input are on the node's disk then, it runs in the background, whatever
happens to the node or to the command, and inos job result gives what came of it.
With --wait too, the command waits for that and writes it to --out; interrupting it
ends the waiting alone. Run again with the same --key, it finds the job that has the
key already.

Parameters are checked against what the capability takes: see inos plugin info.`,
		Example: `  inos job run storage.list
  inos job run storage.put --param name=notes --in notes.txt
  inos job run storage.get --param name=notes --out notes.txt --deadline 30s --json
  tar c . | inos job run storage.put --param name=backup --in -
  inos job run storage.put --param name=notes --in notes.txt --durable --key notes-1`,
		Args: operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Capability = args[0]
			if r.Deadline < 0 {
				return usagef("--deadline %s: give a time ahead", r.Deadline)
			}
			if err := checkRequest(r); err != nil {
				return err
			}
			switch {
			case wait && !durable:
				return usagef("--wait is for --durable: without it the command waits anyway")
			case durable && !wait && cmd.Flags().Changed("out"):
				return usagef("--out needs --wait; or use inos job result later")
			}
			return a.withNode(func(c *api.Client) error {
				if in != "" {
					f, size, err := a.openInput(in)
					if err != nil {
						return err
					}
					defer f.Close()
					r.Input, r.Size = f, size
				}
				if durable {
					return a.runDurable(cmd.Context(), c, r, out, wait)
				}
				return a.runJob(cmd.Context(), c, r, out)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in, "in", "", "file to give as input, - for standard input (default no input)")
	flags.StringVar(&out, "out", "-", "file for the output, - for standard output")
	flags.StringArrayVar(&r.Params, "param", nil, "a parameter, as name=value; may be repeated")
	flags.DurationVar(&r.Deadline, "deadline", 0, "how long the job may take, as 1m30s (default as long as its capability allows)")
	flags.Uint64Var(&r.Budget, "budget", 0, "micro-credits that it may cost (default no bound)")
	flags.StringVar(&r.Priority, "priority", "", "low, normal, high, critical or emergency (default normal)")
	flags.StringVar(&r.Key, "key", "", "refuse the job while another with this key is under way; with --durable, find that one")
	flags.BoolVar(&durable, "durable", false, "hand the job over: it survives the node, and its result is kept")
	flags.BoolVar(&wait, "wait", false, "with --durable: wait for the result and write it to --out")
	return cmd
}

// checkRequest finds what no node would accept.
func checkRequest(r api.RunRequest) error {
	if r.Priority != "" && compute.PriorityFromString(r.Priority).String() != r.Priority {
		return usagef("--priority %q: use low, normal, high, critical or emergency", r.Priority)
	}
	for _, p := range r.Params {
		if name, _, found := strings.Cut(p, "="); !found || name == "" {
			return usagef("--param %q: write name=value", p)
		}
	}
	return nil
}

func (a *app) runJob(ctx context.Context, c *api.Client, r api.RunRequest, out string) error {
	dst, err := a.createOutput(out)
	if err != nil {
		return err
	}
	defer dst.discard()
	r.Output = dst
	res, err := c.Run(ctx, r)
	if err == nil {
		err = dst.commit()
	}
	return a.report(res, out, err)
}

// whole makes sure that in, of a known size, had not more to give: a file that
// grew while it was read was not taken as a whole.
func whole(name string, in io.Reader, size int64) error {
	var more [1]byte
	if n, _ := in.Read(more[:]); n > 0 {
		return fmt.Errorf("%s grew while it was read: only its first %d bytes were taken; run the command again", name, size)
	}
	return nil
}

// openInput opens a file, or standard input for "-". The size is below 0 when not
// known: files of the kernel's say 0 and have more.
func (a *app) openInput(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a folder; pack it first, with tar for instance", name)
	case info.Mode().IsRegular() && info.Size() > 0:
		return f, info.Size(), nil
	default:
		return f, -1, nil
	}
	f.Close()
	return nil, 0, err
}
