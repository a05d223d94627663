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
				n, err := c.Node(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(p, func() { a.showPlugin(p, n.Means) })
			})
		},
	}
}

func (a *app) showPlugin(p api.Plugin, means api.Means) {
	t := newList(a.out)
	t.pair("name", p.Name+" "+p.Version)
	t.pair("what for", p.Description)
	t.pair("file", p.File)
	publisher := p.Publisher
	if publisher == "" && p.Digest != "" {
		publisher = "not known: no trusted key signed it"
	}
	t.pair("publisher", publisher)
	t.pair("SHA-256", p.Digest)
	t.pair("phase", strings.TrimSpace(p.Phase+" "+forAge(p.Since)))
	t.pair("why", p.Reason)
	t.pair("what to do", p.Hint)
	if !p.RetryAt.IsZero() && p.Phase == string(node.BackingOff) {
		t.pair("next start", p.RetryAt.Local().Format(time.TimeOnly))
	}
	t.pair("also", strings.Join(notes(p), ", "))
	if p.Exchanging != p.Version {
		t.pair("coming in", p.Exchanging)
	}
	if p.Previous != "" {
		t.pair("before", p.Previous+"; see inos plugin history "+p.Name)
	}
	t.pair("note", p.Note)
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
		part := ""
		if !i.Serving {
			part = ", not in service as " + i.Version
		}
		t.pair("process", fmt.Sprintf("%d, instance %d%s, %s, running %d jobs, %s, %s of CPU, %d offences",
			i.PID, i.ID, part, i.Health, i.Running, units.Size(i.Resident), units.Duration(time.Duration(i.CPUTimeNs)), i.Offences))
	}
	if len(p.Instances) > 0 {
		t.pair("limits", bounds(p.Instances[0].Limits, means))
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

// bounds says what limits are in force for a process, and by what means.
func bounds(l api.Limits, by api.Means) string {
	var list []string
	for _, b := range []struct {
		is    uint64
		text  string
		means string
	}{
		{l.Memory, units.Size(l.Memory) + " of memory", by.Memory}, {l.CPUPercent, fmt.Sprintf("%d%% of a core", l.CPUPercent), by.CPU},
		{l.Processes, fmt.Sprintf("%d processes", l.Processes), by.Processes}, {l.AddressSpace, units.Size(l.AddressSpace) + " of addresses", "rlimit"},
		{l.OpenFiles, fmt.Sprintf("%d open files", l.OpenFiles), "rlimit"},
	} {
		if b.is > 0 {
			list = append(list, b.text+" ("+b.means+")")
		}
	}
	if len(list) == 0 {
		return "none; set them in policy.json"
	}
	return strings.Join(list, ", ")
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
