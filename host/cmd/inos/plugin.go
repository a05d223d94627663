package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/host/node"
)

func (a *app) pluginCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "plugin",
		Short:   "See the node's plugins, exchange them, or begin a new one",
		Long:    "See the node's plugins and the files of the plugins folder, decide which version of each serves, or begin a plugin of your own. The node follows the folder: a file that comes into it is taken into service, or exchanged for the version that serves.",
		Example: "  inos plugin list\n  inos plugin info storage\n  inos plugin swap storage\n  inos plugin rollback storage\n  inos plugin new greet",
	}, a.pluginListCommand(), a.pluginInfoCommand(), a.pluginHistoryCommand(), a.pluginSwapCommand(), a.pluginRollbackCommand(),
		a.pluginPinCommand(), a.pluginUnpinCommand(), a.pluginDrainCommand(), a.pluginUndrainCommand(), a.pluginNewCommand(),
		a.pluginSignCommand(), a.pluginTrustCommand(), a.pluginVerifyCommand())
}

func (a *app) pluginListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the plugins in service and the files of the plugins folder",
		Long:    "List the plugins in service, and every other file of the plugins folder and what became of it: which stand by, which were refused, and why.",
		Example: "  inos plugin list\n  inos plugin list --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(func(c *api.Client) error {
				list, err := c.Plugins(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(api.Plugins{Plugins: list}, func() { a.showPlugins(list) })
			})
		},
	}
}

// showPlugins prints a table, and below it why some do not serve.
func (a *app) showPlugins(list []api.Plugin) {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "The plugins folder is empty. Copy programs of plugins into it: the node takes them into")
		fmt.Fprintln(a.out, "service as they come. inos plugin new begins a plugin.")
		return
	}
	t := newTable(a.out, "PHASE", "PLUGIN", "VERSION", "PHASE", "FOR", "PID", "RUNNING", "WAITING", "RESTARTS", "MEMORY", "CAPABILITIES", "PUBLISHER", "NOTES")
	for _, p := range list {
		var pids []string
		var running int
		var resident uint64
		for _, i := range p.Instances {
			pids = append(pids, fmt.Sprint(i.PID))
			running += i.Running
			resident += i.Resident
		}
		t.row(p.Name, versions(p), p.Phase, age(p.Since), strings.Join(pids, ","), running, p.Waiting, p.Restarts, orDash(resident), len(p.Capabilities),
			p.Publisher, strings.Join(notes(p), ", "))
	}
	t.end()
	for _, p := range list {
		name := p.Name
		if p.File != "" && p.File != name {
			name += " (" + p.File + ")"
		}
		if p.Note != "" {
			fmt.Fprintf(a.out, "\n%s: %s\n", plain(name), plain(p.Note))
		}
		if p.Reason == "" {
			continue
		}
		fmt.Fprintf(a.out, "\n%s is %s: %s\n", plain(name), plain(phase(p.Phase)), plain(p.Reason))
		if p.Hint != "" {
			fmt.Fprintf(a.out, "  %s\n", plain(p.Hint))
		}
	}
}

// phase is how a sentence says a phase.
func phase(of string) string {
	if of == string(node.Standby) {
		return "on standby"
	}
	return of
}

// versions are that which serves and that which is being brought in.
func versions(p api.Plugin) string {
	if p.Exchanging == "" || p.Exchanging == p.Version {
		return p.Version
	}
	return p.Version + " → " + p.Exchanging
}

// notes say what of a plugin is not as usual.
func notes(p api.Plugin) (notes []string) {
	if p.Pinned {
		notes = append(notes, "pinned")
	}
	if p.OnProbation {
		notes = append(notes, "on probation")
	}
	if p.Held && p.Phase != string(node.Held) {
		notes = append(notes, "held")
	}
	if p.Lingering > 0 {
		notes = append(notes, fmt.Sprintf("%d old with jobs", p.Lingering))
	}
	return notes
}

// age is how long ago something was.
func age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return units.Duration(max(0, time.Since(t)).Round(time.Second))
}

func orDash(bytes uint64) string {
	if bytes == 0 {
		return ""
	}
	return units.Size(bytes)
}
