package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// operands checks what a command line names against the words in capitals of the
// command's Use: one in brackets may be left out, one with dots may be repeated.
func operands(c *cobra.Command, given []string) error {
	words := strings.Fields(c.Use)[1:]
	for i, word := range words {
		name := strings.TrimSuffix(word, "...")
		if i >= len(given) && !strings.HasPrefix(word, "[") {
			if name == "NAME" {
				return errors.New("give a NAME")
			}
			return fmt.Errorf("name the %s", name)
		}
		if name != word {
			return nil
		}
	}
	switch {
	case len(given) <= len(words):
		return nil
	case c.HasSubCommands():
		return fmt.Errorf("%s has no command %q", c.CommandPath(), given[0])
	default:
		return fmt.Errorf("%q is one too many for %s", given[len(words)], c.CommandPath())
	}
}
