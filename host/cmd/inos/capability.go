package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"inos/host/api"
)

func (a *app) capabilityCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "capability",
		Short:   "See what the node can do",
		Long:    "See what the node can do: the operations that its plugins serve.",
		Example: "  inos capability list",
	}, a.capabilityListCommand())
}

func (a *app) capabilityListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the operations that are served",
		Long:    "List the operations that are served, with the parameters they take. A parameter in brackets may be left out. Those that stream take input, and give output, of any size piece by piece.",
		Example: "  inos capability list\n  inos capability list --json",
		Args:    operands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(func(c *api.Client) error {
				list, err := c.Capabilities(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(api.Capabilities{Capabilities: list}, func() {
					t := newTable(a.out, "", "CAPABILITY", "PLUGIN", "STREAMS", "PARAMETERS", "WHAT IT DOES")
					for _, k := range list {
						t.row(k.Name, k.Module, yes(k.Streams), brief(k.Params), k.Description)
					}
					t.end()
				})
			})
		},
	}
}

// yes shows what holds; what does not shows as nothing.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// brief renders parameters in a few words: "name [level=3]".
func brief(params []api.Param) string {
	var list []string
	for _, p := range params {
		text := p.Name
		if p.Default != "" {
			text += "=" + p.Default
		}
		if !p.Required {
			text = "[" + text + "]"
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

// describe renders a parameter for somebody who is about to give it.
func describe(p api.Param) string {
	notes := []string{p.Kind}
	if p.Required {
		notes = append(notes, "required")
	}
	if p.Default != "" {
		notes = append(notes, "default "+p.Default)
	}
	if len(p.Choices) > 0 {
		notes = append(notes, "one of "+strings.Join(p.Choices, ", "))
	}
	return fmt.Sprintf("%s (%s)", p.Description, strings.Join(notes, "; "))
}
