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
		Short:   "See the node's plugins, or begin a new one",
		Long:    "See the files of the plugins folder and what became of them, or begin a plugin of your own.",
		Example: "  inos plugin list\n  inos plugin info storage\n  inos plugin new greet",
	}, a.pluginListCommand(), a.pluginInfoCommand(), a.pluginNewCommand())
}

func (a *app) pluginListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the files of the plugins folder and what became of them",
		Long:    "List the files of the plugins folder and what became of them: which serve, which were refused, and why.",
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
		fmt.Fprintln(a.out, "The plugins folder is empty. Copy programs of plugins into it, then restart the node:")
		fmt.Fprintln(a.out, "it reads the folder at its start only. inos plugin new begins a plugin.")
		return
	}
	t := newTable(a.out, "PHASE", "PLUGIN", "VERSION", "PHASE", "FOR", "PID", "RUNNING", "WAITING", "RESTARTS", "MEMORY", "CAPABILITIES")
	for _, p := range list {
		var pids []string
		var running int
		var resident uint64
		for _, i := range p.Instances {
			pids = append(pids, fmt.Sprint(i.PID))
			running += i.Running
			resident += i.Resident
		}
		t.row(p.Name, p.Version, p.Phase, age(p.Since), strings.Join(pids, ","), running, p.Waiting, p.Restarts, orDash(resident), len(p.Capabilities))
	}
	t.end()
	for _, p := range list {
		if p.Reason == "" {
			continue
		}
		name := p.Name
		if p.File != name {
			name += " (" + p.File + ")"
		}
		fmt.Fprintf(a.out, "\n%s is %s: %s\n", plain(name), plain(p.Phase), plain(p.Reason))
		if p.Hint != "" {
			fmt.Fprintf(a.out, "  %s\n", plain(p.Hint))
		}
	}
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

func (a *app) pluginInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "info NAME",
		Short:   "Show all that is known of a plugin",
		Long:    "Show all that is known of a plugin: what it says of itself, what it was granted, its processes, and each capability with the parameters it takes. NAME is its own or its file's.",
		Example: "  inos plugin info storage\n  inos plugin info storage --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(func(c *api.Client) error {
				p, err := c.Plugin(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print(p, func() { a.showPlugin(p) })
			})
		},
	}
}

func (a *app) showPlugin(p api.Plugin) {
	t := newList(a.out)
	t.pair("name", p.Name+" "+p.Version)
	t.pair("what for", p.Description)
	t.pair("file", p.File)
	t.pair("SHA-256", p.Digest)
	t.pair("phase", strings.TrimSpace(p.Phase+" "+forAge(p.Since)))
	t.pair("why", p.Reason)
	t.pair("what to do", p.Hint)
	if !p.RetryAt.IsZero() && p.Phase == string(node.BackingOff) {
		t.pair("next start", p.RetryAt.Local().Format(time.TimeOnly))
	}
	t.pair("arena", p.Arena)
	t.pair("granted", strings.Join(p.Grants, ", "))
	if m := p.Manifest; m != nil {
		t.pair("asks for", strings.Join(m.Needs, ", "))
		t.pair("licence", m.License)
		t.pair("ABI", m.ABI+", layout "+m.LayoutHash)
		t.pair("jobs at once", fmt.Sprint(m.Concurrency))
		t.pair("cost", price(m.Cost))
		t.pair("self-test", m.SelfTest)
		for _, d := range m.Dependencies {
			text := fmt.Sprintf("%s %s to %s", d.Module, d.Min, d.Max)
			if d.Optional {
				text += ", optional"
			}
			t.pair("needs", text)
		}
		for _, s := range m.State {
			t.pair("state", fmt.Sprintf("%s, schema %d, up to %s", s.Name, s.Schema, units.Size(s.MaxBytes)))
		}
	}
	for _, i := range p.Instances {
		t.pair("process", fmt.Sprintf("%d, instance %d, %s, running %d jobs, %s, %s of CPU, %d offences",
			i.PID, i.ID, i.Health, i.Running, units.Size(i.Resident), units.Duration(time.Duration(i.CPUTimeNs)), i.Offences))
	}
	t.pair("restarts", fmt.Sprint(p.Restarts))
	if p.StartNs > 0 {
		t.pair("start took", units.Duration(time.Duration(p.StartNs)))
	}
	t.end()
	if p.Manifest == nil {
		return
	}
	for _, c := range p.Manifest.Capabilities {
		streams := ""
		if c.Streams {
			streams = " (streams)"
		}
		fmt.Fprintf(a.out, "\n%s%s  %s\n", plain(c.Name), streams, plain(c.Description))
		t := newList(a.out)
		for _, param := range c.Params {
			t.pair("  "+param.Name, describe(param))
		}
		t.end()
	}
}

// price says what a job costs.
func price(c api.Cost) string {
	if c == (api.Cost{}) {
		return "free"
	}
	return fmt.Sprintf("%d + %d per MiB + %d per second, micro-credits", c.Base, c.PerMB, c.PerSecond)
}

func forAge(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "for " + age(t)
}
