package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
)

// digits of a digest that are shown: enough to name what it is of.
const digits = 12

// beginning is as much of a digest as a person copies.
func beginning(digest string) string { return digest[:min(digits, len(digest))] }

func (a *app) pluginHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history NAME",
		Short: "List the versions of a plugin that the node knows",
		Long: `List the versions of a plugin that the node knows, the newest first: which serves,
which were refused or rolled back, and why. One that is kept can be put into service
again with inos plugin swap, even when its file is gone from the folder.`,
		Example: "  inos plugin history storage\n  inos plugin history storage --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(func(c *api.Client) error {
				list, err := c.History(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print(api.History{Versions: list}, func() { a.showHistory(list) })
			})
		},
	}
}

func (a *app) showHistory(list []api.Version) {
	t := newTable(a.out, "OUTCOME", "VERSION", "OUTCOME", "NOW", "SHA-256", "PUBLISHER", "SIZE", "ADMITTED", "FILE")
	for _, v := range list {
		t.row(v.Version, v.Outcome, now(v), beginning(v.Digest), v.Publisher, units.Size(uint64(max(0, v.Size))), moment(v.Admitted), v.File)
	}
	t.end()
	for _, v := range list {
		if v.Reason != "" {
			fmt.Fprintf(a.out, "\n%s (%s) was %s: %s\n", plain(v.Version), plain(beginning(v.Digest)), plain(v.Outcome), plain(v.Reason))
		}
	}
}

// now says what a version is at present.
func now(v api.Version) string {
	var is []string
	switch {
	case v.Serving:
		is = append(is, "serving")
	case v.Stored:
		is = append(is, "kept")
	}
	if v.Pinned {
		is = append(is, "pinned")
	}
	return strings.Join(is, ", ")
}
