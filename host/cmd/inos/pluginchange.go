package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/plugins/sdk/wire"
)

// changing is a command's change of what serves.
type changing struct {
	do func(ctx context.Context, c *api.Client, name, version string) (api.Plugin, error)
	// verdict says what a change that went well, in these steps, has led to.
	verdict func(p api.Plugin, steps []api.Event) string
	// cut is what the user should know who interrupts the command.
	cut string
}

// change is what --json says of one.
type change struct {
	Plugin *api.Plugin `json:"plugin,omitempty"` // as it is after it; absent when it failed
	Steps  []api.Event `json:"steps"`            // what happened to it meanwhile
	Error  *api.Error  `json:"error,omitempty"`
}

// changing makes a command of a change.
func (a *app) changing(cmd *cobra.Command, ch changing) *cobra.Command {
	cmd.Args = operands
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		version := ""
		if len(args) > 1 {
			version = args[1]
		}
		return a.withNode(func(c *api.Client) error { return a.change(cmd.Context(), c, ch, args[0], version) })
	}
	return cmd
}

// change changes what serves. It shows each step as it comes, and then the verdict.
func (a *app) change(ctx context.Context, c *api.Client, ch changing, name, version string) error {
	all := change{Steps: []api.Event{}}
	show := newSteps(a.out)
	err := alongside(ctx, c, name, func(e api.Event) {
		if all.Steps = append(all.Steps, e); !a.json {
			show.change(e)
		}
	}, func() error {
		p, err := ch.do(ctx, c, name, version)
		if err == nil {
			all.Plugin = &p
		}
		return err
	})
	err = advise(err, name)
	switch all.Error = api.AsError(err); {
	case a.json:
		return errors.Join(err, printJSON(a.out, all))
	case ctx.Err() != nil:
		fmt.Fprintln(a.err, ch.cut)
	case err != nil:
		a.showRemaining(ctx, c, name)
	default:
		fmt.Fprintln(a.out, plain(ch.verdict(*all.Plugin, all.Steps)))
	}
	return err
}

// showRemaining says what serves after a change that failed. A plugin that is not
// there, or a node that is gone, is what the change failed for.
func (a *app) showRemaining(ctx context.Context, c *api.Client, name string) {
	p, err := c.Plugin(ctx, name)
	if err != nil || p.Version == "" {
		return
	}
	fmt.Fprintf(a.out, "%s %s is %s as before\n", plain(p.Name), plain(p.Version), plain(phase(p.Phase)))
}

// advise adds what to do to a failure that does not say.
func advise(err error, name string) error {
	var known *wire.Error
	if !errors.As(err, &known) || known.Hint != "" {
		return err
	}
	told := *wire.AsError(err)
	told.Hint = "inos events --plugin " + name + " shows what led to it; mend the plugin and put it into the folder again"
	return &told
}

// alongside does something to a plugin, and calls show with what happens to it
// meanwhile, as it happens.
func alongside(ctx context.Context, c *api.Client, plugin string, show func(api.Event), do func() error) error {
	before, err := c.Events(ctx, api.EventQuery{Plugin: plugin, Limit: 1})
	if err != nil {
		return err
	}
	q := api.EventQuery{Plugin: plugin, Since: before.Last}
	look := func(ctx context.Context, wait bool) error {
		q.Wait = wait
		news, err := c.Events(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range news.Events {
			show(e)
		}
		q.Since = news.Last
		return nil
	}
	watch, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for look(watch, true) == nil { // what it does not tell is asked for below
		}
	}()
	err = do()
	stop()
	<-over
	_ = look(ctx, false) // whether it was done, and why not, is known by now
	return err
}
