package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"inos/host/api"
)

// operate does what an operator does to a module that serves well: goes back to the
// version before, drains it, pins it. No job may notice more than a wait. Nobody
// kills anything meanwhile.
func (c *campaign) operate(ctx context.Context, r *rand.Rand, module string) error {
	ops := []struct {
		name string
		do   func(context.Context, *rand.Rand, string) error
	}{{"rollback", c.rollback}, {"drain", c.drain}, {"pin", c.pin}}
	op := ops[r.IntN(len(ops))]
	over := c.faults.begin(fault{kind: operating, module: module, detail: op.name})
	defer over()
	if err := op.do(ctx, r, module); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.books.isWrong("%s of %s: %v; %s", op.name, module, err, c.faults.describe(time.Now(), time.Now()))
	}
	return nil
}

// serves returns the version of a module that serves.
func (c *campaign) serves(ctx context.Context, module string) (string, error) {
	list, err := c.host.api().Plugins(ctx)
	if err != nil {
		return "", err
	}
	p, ok := find(list, module)
	if !ok || p.Phase != "serving" {
		return "", fmt.Errorf("no version of %s serves", module)
	}
	return p.Version, nil
}

func (c *campaign) rollback(ctx context.Context, _ *rand.Rand, module string) error {
	was, err := c.serves(ctx, module)
	if err != nil {
		return err
	}
	if _, err := c.host.api().Rollback(ctx, module); err != nil {
		return err
	}
	is, err := c.serves(ctx, module)
	if err == nil && is == was {
		err = fmt.Errorf("version %s serves still", is)
	}
	return err
}

func (c *campaign) drain(ctx context.Context, r *rand.Rand, module string) error {
	if _, err := c.host.api().Drain(ctx, module); err != nil {
		return err
	}
	pause(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond))))
	_, err := c.host.api().Undrain(ctx, module)
	return err
}

// pin has a version stay while a newer one lies in the folder, and then lets that
// one serve.
func (c *campaign) pin(ctx context.Context, r *rand.Rand, module string) error {
	was, err := c.serves(ctx, module)
	if err != nil {
		return err
	}
	if _, err := c.host.api().Pin(ctx, module, ""); err != nil {
		return err
	}
	next := c.next(module)
	file := module + "-" + next.version
	if err := c.folder.rename(r, file, next.bytes); err != nil {
		return err
	}
	row, err := c.comesTo(ctx, func(p api.Plugin) bool { return p.File == file && p.Version == next.version && p.Phase != "starting" })
	if err != nil {
		return err
	}
	if is, err := c.serves(ctx, module); err != nil || is != was {
		return fmt.Errorf("version %s was pinned, and %s serves while %s is %s: %w", was, is, next.version, row.Phase, err)
	}
	if _, err := c.host.api().Unpin(ctx, module); err != nil {
		return err
	}
	if row, err = c.verdictOn(ctx, module, file, next.version); err != nil {
		return err
	}
	if row.Phase != "serving" {
		return fmt.Errorf("version %s was unpinned, and %s is %s: %s; %s", was, next.version, row.Phase, row.Reason, row.Hint)
	}
	return c.folder.tidy(module, file)
}
