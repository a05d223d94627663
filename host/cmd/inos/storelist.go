package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// objectList is a page of what is kept.
type objectList struct {
	Objects []object `json:"objects"`
	Next    string   `json:"next"` // where the next page goes on, empty for the last
}

// pageSize is how many objects are asked for at once.
const pageSize = 1000

func (a *app) storeListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls [PREFIX]",
		Short:   "List what is kept",
		Long:    "List what is kept, sorted by name; with PREFIX only what begins with it.",
		Example: "  inos store ls\n  inos store ls photos/ --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			return a.withNode(func(c *api.Client) error {
				all := objectList{Objects: []object{}}
				for after := ""; ; {
					page, err := listPage(cmd.Context(), c, prefix, after)
					if err != nil {
						return err
					}
					all.Objects = append(all.Objects, page.Objects...)
					if page.Next == "" {
						break
					}
					if page.Next <= after {
						return wire.NewError(base.Code_internal, "report it to the plugin's author", "storage.list goes round in circles at %q", page.Next)
					}
					after = page.Next
				}
				return a.print(all, func() { a.showObjects(prefix, all.Objects) })
			})
		},
	}
}

func listPage(ctx context.Context, c *api.Client, prefix, after string) (page objectList, err error) {
	params := []string{"limit=" + strconv.Itoa(pageSize)}
	if prefix != "" {
		params = append(params, "prefix="+prefix)
	}
	if after != "" {
		params = append(params, "after="+after)
	}
	return page, ask(ctx, c, request("storage.list", params...), &page)
}

func (a *app) showObjects(prefix string, list []object) {
	if len(list) == 0 && prefix != "" {
		fmt.Fprintf(a.out, "Nothing is kept whose name begins with %q.\n", prefix)
		return
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "Nothing is kept.")
		return
	}
	t := newTable(a.out, "", "NAME", "SIZE", "STORED", "CHUNKS", "COMPRESSION", "CREATED")
	for _, o := range list {
		t.row(o.Name, units.Size(o.Size), units.Size(o.Stored), o.Chunks, o.Compression, o.Created.Local().Format(time.DateTime))
	}
	t.end()
}
