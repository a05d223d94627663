package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/events"
)

const swapHelp = `Put another version of a plugin into service while jobs go on. VERSION is a number
as 1.2.0, or the first digits of a SHA-256, six at least, of a version in the folder
or in inos plugin history. Without it the newest version of the folder comes in,
one that was refused or taken back too. A version that the folder would not choose
by itself is pinned.

The node does this by itself when a file comes into the folder, unless its policy
says that swaps are manual.

Each step is a line, with the time it took; the bar grows by as much for each
tenfold. When a step fails, all of them are undone, the old version serves as
before, and the exit code is 1. After the last step the new version is on
probation: it is taken back if it fails then. inos events --follow shows that.`

func (a *app) pluginSwapCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:     "swap NAME [VERSION]",
		Short:   "Put another version of a plugin into service",
		Long:    swapHelp,
		Example: "  inos plugin swap storage\n  inos plugin swap storage 1.2.0\n  inos plugin swap storage 3f9c21 --json",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, version string) (api.Plugin, error) {
			return c.Swap(ctx, name, version)
		},
		verdict: swapped,
		cut:     "The node undoes a swap that has not come into force; see inos plugin list.",
	})
}

// swapped says what serves after a swap.
func swapped(p api.Plugin, steps []api.Event) string {
	if !slices.ContainsFunc(steps, func(e api.Event) bool { return e.Step == string(events.Flipped) }) {
		return fmt.Sprintf("%s %s serves already", p.Name, p.Version)
	}
	text := fmt.Sprintf("%s %s serves", p.Name, p.Version)
	if p.Previous != "" {
		text += " instead of " + p.Previous
	}
	if p.OnProbation {
		text += ", on probation"
	}
	return text
}

func (a *app) pluginRollbackCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:   "rollback NAME",
		Short: "Go back to the version of a plugin that served before",
		Long: `Go back to the version of a plugin that served before. The version that serves now
stays out until inos plugin swap names it, or its file is replaced. The binary of the
version before is in the node's store, so its file need not be in the folder any more.`,
		Example: "  inos plugin rollback storage",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, _ string) (api.Plugin, error) {
			return c.Rollback(ctx, name)
		},
		verdict: func(p api.Plugin, _ []api.Event) string {
			return fmt.Sprintf("%s %s serves again; see inos plugin history %s", p.Name, p.Version, p.Name)
		},
		cut: "The node undoes a change that has not come into force; see inos plugin list.",
	})
}

func (a *app) pluginPinCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:   "pin NAME [VERSION]",
		Short: "Have one version of a plugin served, whatever comes into the folder",
		Long: `Have one version of a plugin served, whatever comes into the folder, until
inos plugin unpin. VERSION is a number as 1.2.0, or the first digits of a SHA-256,
six at least; without it, the version that serves now. If another one serves, it is
exchanged as by inos plugin swap.`,
		Example: "  inos plugin pin storage\n  inos plugin pin storage 1.1.0",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, version string) (api.Plugin, error) {
			return c.Pin(ctx, name, version)
		},
		verdict: func(p api.Plugin, _ []api.Event) string {
			return fmt.Sprintf("%s %s is pinned until inos plugin unpin %s", p.Name, p.Version, p.Name)
		},
		cut: "The version is pinned if the node has come that far; see inos plugin list.",
	})
}

func (a *app) pluginUnpinCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:     "unpin NAME",
		Short:   "Let the folder decide again which version of a plugin serves",
		Long:    "Let the folder decide again which version of a plugin serves: the newest that is not refused. If that is another one, it comes into service soon; inos events --follow shows it.",
		Example: "  inos plugin unpin storage",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, _ string) (api.Plugin, error) {
			return c.Unpin(ctx, name)
		},
		verdict: func(p api.Plugin, _ []api.Event) string {
			return fmt.Sprintf("the folder decides again which version of %s serves", p.Name)
		},
		cut: "The version may be pinned still; see inos plugin list.",
	})
}

func (a *app) pluginDrainCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:   "drain NAME",
		Short: "Take a plugin out of service: jobs end, new ones wait",
		Long: `Take a plugin out of service, to look after what it works on: its running jobs end,
and new ones wait until inos plugin undrain. The command returns when no job of it
runs any more. Interrupting it ends the waiting alone: the plugin stays out of
service.`,
		Example: "  inos plugin drain storage",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, _ string) (api.Plugin, error) {
			if p, err := c.Plugin(ctx, name); err == nil {
				a.announceDrain(p)
			}
			return c.Drain(ctx, name)
		},
		verdict: func(p api.Plugin, _ []api.Event) string {
			return fmt.Sprintf("%s is held: nothing of it runs, and jobs wait until inos plugin undrain %s", p.Name, p.Name)
		},
		cut: "The plugin stays out of service all the same, until inos plugin undrain.",
	})
}

// announceDrain says for what a drain waits.
func (a *app) announceDrain(p api.Plugin) {
	running := 0
	for _, i := range p.Instances {
		running += i.Running
	}
	if running > 0 {
		fmt.Fprintf(a.err, "waiting for %d running jobs of %s to end\n", running, plain(p.Name))
	}
}

func (a *app) pluginUndrainCommand() *cobra.Command {
	return a.changing(&cobra.Command{
		Use:     "undrain NAME",
		Short:   "Put a plugin back into service after a drain",
		Long:    "Put a plugin back into service after inos plugin drain. Jobs that have waited for it run first.",
		Example: "  inos plugin undrain storage",
	}, changing{
		do: func(ctx context.Context, c *api.Client, name, _ string) (api.Plugin, error) {
			return c.Undrain(ctx, name)
		},
		verdict: func(p api.Plugin, _ []api.Event) string {
			return fmt.Sprintf("%s %s takes jobs", p.Name, p.Version)
		},
		cut: "The plugin may be out of service still; see inos plugin list.",
	})
}
