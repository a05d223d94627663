package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"inos/host/api"
	"inos/plugins/sdk/wire"
)

// explain adds to the news that nobody serves a capability which programs a
// running node has not read, since one of them may be meant.
func explain(c *api.Client, err error) error {
	var refused *wire.Error
	if !errors.Is(err, wire.ErrNotFound) || !errors.As(err, &refused) || !strings.HasPrefix(refused.Message, "no plugin serves ") {
		return err
	}
	late := latecomers(context.Background(), c)
	if len(late) == 0 {
		return err
	}
	told := *refused
	verb := " lies"
	if len(late) > 1 {
		verb = " lie"
	}
	told.Hint = strings.Join(late, ", ") + verb + " in the folder but came after the start: restart the node"
	if refused.Hint != "" {
		told.Hint += "; " + refused.Hint
	}
	return &told
}

// latecomers names the programs in the node's plugins folder that it knows
// nothing of. What cannot be asked or read names none.
func latecomers(ctx context.Context, c *api.Client) (late []string) {
	n, err := c.Node(ctx)
	if err != nil {
		return nil
	}
	known, err := c.Plugins(ctx)
	if err != nil {
		return nil
	}
	files := make(map[string]bool, len(known))
	for _, p := range known {
		files[p.File] = true
	}
	entries, err := os.ReadDir(n.Plugins)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if files[e.Name()] || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := os.Stat(filepath.Join(n.Plugins, e.Name())); err == nil && executable(info) && len(late) < maxNamed {
			late = append(late, e.Name())
		}
	}
	return late
}

func executable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o111 != 0 }
