package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"inos/host/api"
)

// startWait bounds how long a node may take until every module serves.
const startWait = 30 * time.Second

// boot starts a life of the node and waits until every module serves.
func (c *campaign) boot(ctx context.Context, environ ...string) error {
	ctx, stop := context.WithTimeout(ctx, c.upTo(startWait))
	defer stop()
	if err := c.host.start(ctx, environ...); err != nil {
		return err
	}
	c.mu.Lock()
	clear(c.deaths)
	c.mu.Unlock()
	for {
		missing, err := c.missing(ctx)
		if err == nil && missing == "" {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not serve within %s after the start of life %d: %w", missing, startWait, c.host.life(), errors.Join(context.Cause(ctx), err))
		case <-c.host.died():
			return fmt.Errorf("the node died by itself in life %d", c.host.life())
		case <-time.After(20 * time.Millisecond):
		}
	}
	c.workers.Go(c.record)
	c.host.serving()
	return nil
}

// missing names a module that does not serve.
func (c *campaign) missing(ctx context.Context) (string, error) {
	list, err := c.host.api().Plugins(ctx)
	if err != nil {
		return "the node", err
	}
	for _, m := range modules {
		if p, ok := find(list, m); !ok || p.Phase != "serving" {
			return m, nil
		}
	}
	return "", nil
}

// find picks the row of a module that serves, or is nearest to it.
func find(list []api.Plugin, module string) (found api.Plugin, ok bool) {
	for _, p := range list {
		if p.Name == module && (!ok || p.Phase == "serving") {
			found, ok = p, true
		}
	}
	return found, ok
}

// report says now and then how far the campaign is.
func (c *campaign) report(ctx context.Context) {
	for {
		pause(ctx, c.log.every)
		if ctx.Err() != nil {
			return
		}
		b := c.books
		b.mu.Lock()
		c.log.say("%d jobs, %d repeated, %d unknown, %d cut, %d refused | kills %d/%d, swaps %d/%d, node kills %d/%d, bad %d/%d | lost %d, doubled %d, wrong %d, orphans %d",
			b.jobs, b.repeated, b.unknown, b.cut, b.refused, b.kills, c.o.kills, b.swapped, c.o.swaps, b.hostKills, c.o.hostKills, b.refusals, c.o.bad,
			b.lost, b.doubled, b.wrong, b.orphans)
		b.mu.Unlock()
	}
}

// record writes the events of one life of the node down.
func (c *campaign) record() {
	f, err := os.OpenFile(filepath.Join(c.o.dir, "events.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // it is there to explain findings only
	}
	defer f.Close()
	fmt.Fprintf(f, "--- life %d\n", c.host.life())
	_ = c.host.api().Follow(context.Background(), api.EventQuery{}, func(e api.Event) error {
		return json.NewEncoder(f).Encode(e)
	}) // it ends with the life
}
