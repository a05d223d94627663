package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
)

func (a *app) segmentCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "segment",
		Short:   "Look at the shared memory",
		Long:    "Look at the memory that the node shares with its plugins.",
		Example: "  inos segment show",
	}, a.segmentShowCommand())
}

func (a *app) segmentShowCommand() *cobra.Command {
	var regions bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what the shared memory consists of and who has how much",
		Long: `Show what the shared memory consists of and who has how much of it: arenas with
their blocks by class and owner, the links to the plugins with their rings, state
blocks that outlive their process.

COPIED counts bytes that the host wrote into an arena: each byte of a job's input
once, on its way in, and once more only when it has to pass to a module in
another arena. What passes between processes of one arena is a reference.`,
		Example: "  inos segment show\n  inos segment show --regions\n  inos segment show --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(func(c *api.Client) error {
				s, err := c.Segment(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(s, func() {
					a.showSegment(s)
					if regions {
						a.showRegions(s)
					}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&regions, "regions", false, "show every region with its offset and who may write it")
	return cmd
}

func (a *app) showSegment(s api.Segment) {
	fmt.Fprintf(a.out, "%s in all, %s not given to anybody\nCopied since the start: %s into the segment, %s between arenas, nothing between processes of one arena\n\n",
		units.Size(s.Size), units.Size(s.Free), units.Size(s.Copied), units.Size(s.Crossed))
	plugins := map[uint32]string{0: "host"}
	for _, o := range s.Owners {
		plugins[o.Instance] = o.Plugin
	}
	owner := func(instance uint32) string {
		if name, ok := plugins[instance]; ok {
			return name
		}
		return "gone"
	}
	t := newTable(a.out, "", "ARENA", "FOR", "SIZE", "USED", "PEAK", "BLOCKS", "LONGEST FREE", "COPIED")
	for _, r := range s.Arenas {
		t.row(r.ID, arenaName(r), units.Size(r.Size), units.Size(r.Used), units.Size(r.Peak), r.Blocks, units.Size(r.Largest), units.Size(r.Copied))
	}
	t.end()

	fmt.Fprintln(a.out)
	t = newTable(a.out, "", "ARENA", "OWNER", "INSTANCE", "BLOCKS", "BYTES")
	for _, r := range s.Arenas {
		for _, o := range r.Owners {
			t.row(r.ID, owner(o.Owner), o.Owner, o.Blocks, units.Size(o.Bytes))
		}
	}
	t.end()

	fmt.Fprintln(a.out)
	t = newTable(a.out, "", "ARENA", "CLASS", "BLOCKS", "ROOM")
	for _, r := range s.Arenas {
		for _, c := range r.Classes {
			if c.Room > 0 {
				t.row(r.ID, units.Size(c.Size), c.Blocks, c.Room)
			}
		}
	}
	t.end()

	fmt.Fprintln(a.out)
	t = newTable(a.out, "", "LINK", "PLUGIN", "INCARNATION", "SIZE", "RING", "SUBMITTED", "COMPLETED", "LEASES", "HEARTBEAT")
	for _, l := range s.Links {
		t.row(l.Instance, owner(l.Instance), l.Incarnation, units.Size(l.Size), l.RingEntries, l.Submitted, l.Completed, l.Credited, l.Heartbeat)
	}
	t.end()
	if len(s.States) == 0 {
		return
	}
	fmt.Fprintln(a.out)
	t = newTable(a.out, "", "STATE", "PLUGIN", "SCHEMA", "SIZE")
	for _, b := range s.States {
		t.row(b.Name, b.Module, b.Schema, units.Size(b.Size))
	}
	t.end()
}

func arenaName(r api.Arena) string {
	name := r.Module
	if name == "" {
		name = "commons"
	}
	if r.Leaving {
		name += " (leaving)"
	}
	return name
}

func (a *app) showRegions(s api.Segment) {
	fmt.Fprintln(a.out)
	t := newTable(a.out, "", "PART", "REGION", "OFFSET", "SIZE", "OWNER", "MAY BE WRITTEN BY")
	for _, r := range s.Regions {
		t.row(r.Part, r.Name, fmt.Sprintf("%#x", r.Offset), units.Size(r.Size), r.Owner, r.Writer)
	}
	t.end()
}
