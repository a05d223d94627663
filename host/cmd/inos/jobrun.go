package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/protocols/compute/v1"
)

func (a *app) jobRunCommand() *cobra.Command {
	var r api.RunRequest
	var in, out string
	cmd := &cobra.Command{
		Use:   "run CAPABILITY",
		Short: "Run a job and wait for what comes of it",
		Long: `Run a job and wait for what comes of it. Interrupting the command cancels the job.

A file that --out names is replaced when the job has succeeded, and not touched
before. With --json, how the job ended is printed as JSON: on standard output
when --out names a file, and on standard error when the job's own output goes to
standard output.

Parameters are checked against what the capability takes: see inos plugin info.`,
		Example: `  inos job run storage.list
  inos job run storage.put --param name=notes --in notes.txt
  inos job run storage.get --param name=notes --out notes.txt --deadline 30s --json
  tar c . | inos job run storage.put --param name=backup --in -`,
		Args: operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Capability = args[0]
			if r.Deadline < 0 {
				return usagef("--deadline %s: give a time ahead", r.Deadline)
			}
			if err := checkRequest(r); err != nil {
				return err
			}
			return a.withNode(func(c *api.Client) error { return a.runJob(cmd.Context(), c, r, in, out) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in, "in", "", "file to give as input, - for standard input (default no input)")
	flags.StringVar(&out, "out", "-", "file for the output, - for standard output")
	flags.StringArrayVar(&r.Params, "param", nil, "a parameter, as name=value; may be repeated")
	flags.DurationVar(&r.Deadline, "deadline", 0, "how long the job may take, as 1m30s (default as long as its capability allows)")
	flags.Uint64Var(&r.Budget, "budget", 0, "micro-credits that it may cost (default no bound)")
	flags.StringVar(&r.Priority, "priority", "", "low, normal, high, critical or emergency (default normal)")
	flags.StringVar(&r.Key, "key", "", "refuse the job while another with this key is under way")
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

func (a *app) runJob(ctx context.Context, c *api.Client, r api.RunRequest, in, out string) error {
	if in != "" {
		f, size, err := a.openInput(in)
		if err != nil {
			return err
		}
		defer f.Close()
		r.Input, r.Size = f, size
	}
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
	report := a.err
	if out != "-" {
		report = a.out
	}
	if a.json {
		return errors.Join(err, printJSON(report, res))
	}
	if err == nil && isTerminal(a.err) {
		took := time.Duration(res.Metrics.WallTimeNs)
		fmt.Fprintf(a.err, "job %s: %s in %s, %s in, %s out, cost %d\n",
			res.Job, res.Status, units.Duration(took), units.Size(res.Metrics.InputBytes), units.Size(res.Bytes), res.Cost)
	}
	return err
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
