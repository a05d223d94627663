package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"inos/host/api"
)

func (a *app) eventsCommand() *cobra.Command {
	var q api.EventQuery
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "See what happened to the plugins, step by step",
		Long: `See what happened to the plugins, step by step: which file was seen, which version
was launched, tested, put into service or rolled back, how long each step took, and
why one failed. A node remembers the last few thousand events of its life.

Each line has the number of the event, when it was, the plugin, how the step went,
how long it took and what there is to say of it. With --follow the command goes on
with what comes, until it is interrupted or the node stops; with --json too, each
event is one line of JSON.`,
		Example: "  inos events\n  inos events --follow --plugin storage\n  inos events --since 120 --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case q.Limit < 0:
				return usagef("--limit %d: give a number above 0, or 0 for all", q.Limit)
			case q.Since > 0 && !cmd.Flags().Changed("limit"):
				q.Limit = 0
			}
			return a.withNode(func(c *api.Client) error {
				if follow {
					return a.followEvents(cmd.Context(), c, q)
				}
				list, err := c.Events(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.print(list, func() { a.showEvents(list.Events) })
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	flags.StringVar(&q.Plugin, "plugin", "", "only those of one plugin, by its name or its file's")
	flags.Uint64Var(&q.Since, "since", 0, "only those after the event of this number")
	flags.IntVar(&q.Limit, "limit", 100, "how many of those there are already, the last ones; 0 for all, as with --since")
	return cmd
}

func (a *app) showEvents(list []api.Event) {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "Nothing has happened to the plugins.")
		return
	}
	show := newSteps(a.out)
	for _, e := range list {
		show.event(e)
	}
}

// followEvents shows events as they come. Whoever interrupts it has seen enough, so
// that is no failure.
func (a *app) followEvents(ctx context.Context, c *api.Client, q api.EventQuery) error {
	show, lines := newSteps(a.out), json.NewEncoder(a.out)
	err := c.Follow(ctx, q, func(e api.Event) error {
		if a.json {
			return lines.Encode(e)
		}
		show.event(e)
		return nil
	})
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}
