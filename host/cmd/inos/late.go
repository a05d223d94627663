package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"inos/host/api"
	"inos/host/node"
	"inos/plugins/sdk/wire"
)

// explain adds to the news that nobody serves a capability which plugins do not
// serve, since one of them may be meant.
func explain(c *api.Client, err error) error {
	var refused *wire.Error
	if !errors.Is(err, wire.ErrNotFound) || !errors.As(err, &refused) || !strings.HasPrefix(refused.Message, "no plugin serves ") {
		return err
	}
	list, asked := c.Plugins(context.Background())
	if asked != nil {
		return err
	}
	absent := absentees(list)
	if len(absent) == 0 {
		return err
	}
	told := *refused
	if told.Hint = strings.Join(absent, ", ") + ": see inos plugin list"; refused.Hint != "" {
		told.Hint += "; " + refused.Hint
	}
	return &told
}

// absentees says of the plugins that do not serve what they are instead.
func absentees(list []api.Plugin) (absent []string) {
	for _, p := range list {
		phase := node.Phase(p.Phase)
		if slices.Contains([]node.Phase{node.Refused, node.Starting, node.BackingOff, node.Stopped}, phase) && len(absent) < maxNamed {
			absent = append(absent, fmt.Sprintf("%s is %s", p.Name, phase))
		}
	}
	return absent
}
