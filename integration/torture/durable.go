package main

import (
	"context"
	"errors"
	"time"

	"inos/host/api"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// again is how long a durable job waits before it asks the node again.
const again = 50 * time.Millisecond

// durablePatience bounds how long an acknowledged job may take, kills of the node
// and all.
const durablePatience = 3 * time.Minute

// durable has the node take a durable job in, and follows it to its end through as
// many lives of the node as that takes.
func (c *campaign) durable(ctx context.Context, j job) {
	from := time.Now()
	c.books.begin(j.n, j.module)
	defer c.books.end(j.n)
	id := c.submit(ctx, j)
	if id == "" {
		return
	}
	// Acknowledged: from here on it counts, whatever happens.
	ctx, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), durablePatience, errHung)
	defer stop()
	done, err := c.await(ctx, id)
	if err == nil {
		err = c.fetch(ctx, j, done, from)
	}
	if err != nil {
		o := outcome{err: err, from: from, to: time.Now(), life: c.host.life()}
		c.books.isLost("durable %s, number %s in the node, was acknowledged and has no outcome: %v; %s", j, id, err, c.around(o))
	}
}

// submit asks the node to take a job in until it says whether it has. Whether the
// node died or not, the same key must give the same job.
func (c *campaign) submit(ctx context.Context, j job) (id string) {
	for {
		client, err := c.host.ready(ctx)
		if err != nil {
			return id
		}
		r := j.request(nil)
		r.Key = j.key
		if !j.idempotent() && id == "" {
			c.books.expect(j.key, mayHave)
		}
		from := time.Now()
		limit, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), patience, errHung)
		got, err := client.Submit(limit, r)
		stop()
		o := outcome{err: err, from: from, to: time.Now(), life: c.host.life()}
		var e *wire.Error
		switch {
		case err == nil && id == "" && j.n%4 == 0: // whoever asks twice gets one job
			id = got.ID
			continue
		case err == nil && id != "" && got.ID != id:
			c.books.isDoubled("durable %s is number %s in the node, and asked for again it is %s; %s", j, id, got.ID, c.around(o))
			return id
		case err == nil:
			return got.ID
		case errors.Is(err, errHung):
			c.books.isLost("durable %s was not taken in after %s; %s", j, patience, c.around(o))
			return id
		case len(c.faults.during("", o.from, o.to, hosting)) > 0, errors.Is(err, api.ErrNotRunning):
			// The node died; nobody knows yet whether it has the job.
		case errors.As(err, &e) && len(c.faults.during(j.module, o.from, o.to, killing, stopping, dying)) > 0 && e.Temporary:
			c.books.add(&c.books.refused)
		default:
			c.books.isLost("durable %s was not taken in: %v; %s", j, err, c.around(o))
			return id
		}
		pause(ctx, again)
	}
}

// await returns a job that has ended.
func (c *campaign) await(ctx context.Context, id string) (api.Job, error) {
	for {
		client, err := c.host.ready(ctx)
		if err != nil {
			return api.Job{}, err
		}
		from := time.Now()
		done, err := client.WaitJob(ctx, id)
		if err == nil || !c.passing(ctx, from, err) {
			return done, err
		}
		pause(ctx, again)
	}
}

// passing reports whether an error of a question to the node comes of its death.
func (c *campaign) passing(ctx context.Context, from time.Time, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, api.ErrNotRunning) || len(c.faults.during("", from, time.Now(), hosting)) > 0)
}

// fetch takes the result of a job that has ended, and judges it. The error says that
// there is none.
func (c *campaign) fetch(ctx context.Context, j job, done api.Job, from time.Time) error {
	for {
		client, err := c.host.ready(ctx)
		if err != nil {
			return err
		}
		answer := j.judge()
		asked := time.Now()
		res, err := client.Result(ctx, done.ID, answer)
		if err != nil && c.passing(ctx, asked, err) {
			pause(ctx, again)
			continue
		}
		o := outcome{res, err, from, time.Now(), c.host.life()}
		b := c.books
		b.ended()
		switch e := (*wire.Error)(nil); {
		case err == nil && answer.err() != nil:
			b.isWrong("durable %s: %v; %s", j, answer.err(), c.around(o))
		case err == nil:
			if !j.idempotent() {
				b.expect(j.key, ranOnce)
			}
			if done.Attempts > 1 {
				b.add(&b.repeated)
			}
		case !errors.As(err, &e):
			return err
		case j.idempotent():
			b.isLost("durable %s, number %s in the node, could have run again and ended as %s after %d runs: %v; %s", j, done.ID, res.Status, done.Attempts, err, c.around(o))
		case e.Code != base.Code_outcomeUnknown:
			b.isLost("durable %s, number %s in the node, ended as %s: %v; %s", j, done.ID, res.Status, err, c.around(o))
		case len(c.faults.during(j.module, from, time.Now(), killing, stopping, dying, hosting)) > 0:
			b.add(&b.unknown)
		default:
			b.isLost("durable %s, number %s in the node: %v, and nothing was done to its module; %s", j, done.ID, err, c.around(o))
		}
		c.discard(ctx, done.ID)
		return nil
	}
}

// discard has the node forget a job. That it is forgotten already is fine: the node
// may have died when it had done so.
func (c *campaign) discard(ctx context.Context, id string) {
	for {
		client, err := c.host.ready(ctx)
		if err != nil {
			return
		}
		from := time.Now()
		err = client.Discard(ctx, id)
		switch {
		case err == nil, errors.Is(err, wire.ErrNotFound):
			return
		case !c.passing(ctx, from, err):
			c.books.isWrong("the result of job %s cannot be discarded: %v", id, err)
			return
		}
		pause(ctx, again)
	}
}
