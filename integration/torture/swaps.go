package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"inos/host/api"
)

// swapWait bounds how long a version may take into service, or to be refused.
const swapWait = 30 * time.Second

// swap brings a new version of a module into service. While it is a clean one nobody
// kills anything.
func (c *campaign) swap(ctx context.Context, r *rand.Rand, clean bool) error {
	c.deploying.Lock()
	defer c.deploying.Unlock()
	if clean {
		defer c.calm()()
	}
	module := targets[r.IntN(len(targets))]
	took, err := c.deploy(ctx, r, module, fault{kind: swapping, module: module, clean: clean})
	if err != nil {
		return err
	}
	c.books.mu.Lock()
	c.books.swapped++
	if clean && took > 0 {
		c.books.swaps = append(c.books.swaps, took)
	}
	c.books.mu.Unlock()
	if clean && r.IntN(4) == 0 {
		return c.operate(ctx, r, module)
	}
	return nil
}

// deploy drops a new version of a module and waits for what becomes of it: that it
// serves, or, if something else was done to the module meanwhile, that it was
// refused. It returns how long that took from the moment when the file was whole, 0
// when the version does not serve.
func (c *campaign) deploy(ctx context.Context, r *rand.Rand, module string, f fault) (took time.Duration, err error) {
	next := c.next(module)
	file := module
	if r.IntN(2) == 0 {
		file = module + "-" + next.version
	}
	way := ways[r.IntN(len(ways))]
	f.detail = next.version + " " + way.name
	over := c.faults.begin(f)
	defer over()
	begun := time.Now()
	if err := way.drop(c.folder, r, file, next.bytes); err != nil {
		return 0, err
	}
	whole := time.Now()
	row, err := c.verdictOn(ctx, module, file, next.version)
	if err != nil {
		return 0, err
	}
	touched := len(c.faults.during(module, begun, time.Now(), killing, stopping)) > 0
	switch {
	case row.Phase == "serving":
		took = c.flipped(ctx, module, next.version, time.Now()).Sub(whole)
		c.mu.Lock()
		c.deaths[module] = 0
		c.mu.Unlock()
	case row.Phase == "":
		c.books.isWrong("version %s of %s, %s as %s, has neither come into service nor been refused after %s", next.version, module, way.name, file, swapWait)
	case !touched:
		c.books.isWrong("version %s of %s, %s as %s, is %s: %s; %s", next.version, module, way.name, file, row.Phase, row.Reason, row.Hint)
	}
	time.Sleep(200 * time.Millisecond) // the old one drains
	switch {
	case row.Phase == "serving":
		return took, c.folder.tidy(module, file)
	case file == module:
		return 0, nil // the file of what serves is gone, so it is served from the store
	default:
		return 0, c.folder.remove(file)
	}
}

// verdictOn waits until a version serves, or its file is refused. A row without a
// phase says that neither came true in time.
func (c *campaign) verdictOn(ctx context.Context, module, file, version string) (api.Plugin, error) {
	return c.comesTo(ctx, func(p api.Plugin) bool {
		if p.Name == module && p.Version == version && p.Phase == "serving" {
			return true
		}
		return p.File == file && (p.Version == version || p.Version == "") && (p.Phase == "refused" || p.Phase == "stopped") && p.Reason != ""
	})
}

// comesTo waits until a row of what the node says of its plugins is like that, and
// returns it; one without a phase when it takes too long.
func (c *campaign) comesTo(ctx context.Context, is func(api.Plugin) bool) (api.Plugin, error) {
	for limit := time.Now().Add(c.upTo(swapWait)); time.Now().Before(limit); {
		select {
		case <-ctx.Done():
			return api.Plugin{}, context.Cause(ctx)
		case <-c.host.died():
			return api.Plugin{}, fmt.Errorf("the node died by itself in life %d", c.host.life())
		case <-time.After(10 * time.Millisecond):
		}
		list, err := c.host.api().Plugins(ctx)
		if err != nil {
			return api.Plugin{}, fmt.Errorf("the node does not say what serves: %w", err)
		}
		if i := slices.IndexFunc(list, is); i >= 0 {
			return list[i], nil
		}
	}
	return api.Plugin{}, nil
}

// flipped returns when a version came into service, as the node's events have it.
func (c *campaign) flipped(ctx context.Context, module, version string, otherwise time.Time) time.Time {
	e, err := c.host.api().Events(ctx, api.EventQuery{Plugin: module})
	if err != nil {
		return otherwise
	}
	for _, e := range e.Events {
		if e.Step == "flipped" && e.Version == version && e.Error == nil {
			return e.Time
		}
	}
	return otherwise
}
