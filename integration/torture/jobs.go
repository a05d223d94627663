package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"inos/host/api"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Sizes of jobs in bytes.
const (
	leastSmall = 64
	mostSmall  = 4 << 10
	big        = 64 << 20
)

// patience bounds every job. It is no measure of speed: what takes this long has
// hung.
const patience = 90 * time.Second

// Modules of the campaign. Steady is never touched: whatever happens to the others,
// its jobs go on as if nothing had. Reliant only depends on mill.
const (
	mill    = "mill"
	forge   = "forge"
	tally   = "tally"
	steady  = "steady"
	reliant = "reliant"
)

// job is one request.
type job struct {
	n          uint64
	module, op string
	key        string
	size       int64
	pause      time.Duration // in the midst of its work
}

var numbers atomic.Uint64

func newJob(module, op string, size int64) job {
	n := numbers.Add(1)
	return job{n: n, module: module, op: op, key: fmt.Sprintf("%s.%s/%d", module, op, n), size: size}
}

func (j job) String() string {
	return fmt.Sprintf("job %s of %d bytes", j.key, j.size)
}

func (j job) capability() string { return j.module + "." + j.op }

// idempotent reports whether it may run twice.
func (j job) idempotent() bool { return j.op != "once" && j.op != "next" }

// judge returns what knows the right answer.
func (j job) judge() judge {
	switch j.op {
	case "mix", "once":
		return newMixed(j.key, j.size)
	case "hash":
		return hashed(j.key, j.size)
	case "next":
		return &number{}
	default:
		return &exactly{want: []byte("here")}
	}
}

// request is the job as the API takes it.
func (j job) request(out io.Writer) api.RunRequest {
	r := api.RunRequest{Capability: j.capability(), Output: out}
	if j.pause > 0 {
		r.Params = []string{fmt.Sprintf("ms=%d", j.pause.Milliseconds())}
	}
	switch j.op {
	case "mix", "once":
		r.Params = append(r.Params, "key="+j.key)
		fallthrough
	case "hash":
		r.Input, r.Size = newInput(j.key, j.size), j.size
	}
	return r
}

// small makes up a small job.
func small(r *rand.Rand, module string) job {
	size := leastSmall + r.Int64N(mostSmall-leastSmall+1)
	switch n := r.IntN(10); {
	case n < 4:
		return newJob(module, "mix", size)
	case n < 6:
		return newJob(module, "hash", size)
	case n < 8:
		return newJob(module, "once", size)
	default:
		return newJob(module, "probe", 0)
	}
}

// slow makes up a small job that takes a while.
func slow(r *rand.Rand, module string) job {
	if module == tally { // while it is replaced its jobs wait for the one that is slow
		j := newJob(module, "next", 0)
		j.pause = time.Duration(1+r.IntN(30)) * time.Millisecond
		return j
	}
	j := newJob(module, []string{"mix", "once"}[r.IntN(2)], leastSmall+r.Int64N(mostSmall-leastSmall+1))
	j.pause = time.Duration(1+r.IntN(300)) * time.Millisecond
	return j
}

// number takes the answer of tally.
type number struct {
	text []byte
	n    uint64
}

// Write implements io.Writer.
func (n *number) Write(p []byte) (int, error) {
	n.text = append(n.text, p[:min(len(p), 32)]...)
	return len(p), nil
}

func (n *number) err() error {
	_, err := fmt.Sscan(string(n.text), &n.n)
	return err
}

// do runs one job that is not durable, and judges what comes of it.
func (c *campaign) do(ctx context.Context, j job) {
	client, err := c.host.ready(ctx)
	if err != nil {
		return
	}
	life := c.host.life()
	limit, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), patience, errHung)
	defer stop()
	answer := j.judge()
	c.books.begin(j.n, j.module)
	from := time.Now()
	if j.op == "once" {
		c.books.expect(j.key, mayHave) // until it is known better
	}
	res, err := client.Run(limit, j.request(answer))
	c.books.end(j.n)
	c.judge(j, answer, outcome{res, err, from, time.Now(), life})
}

var errHung = errors.New("it hung")

// outcome is what came of a job.
type outcome struct {
	res      api.RunResult
	err      error
	from, to time.Time
	life     int
}

// judge decides whether what came of a job may be.
func (c *campaign) judge(j job, answer judge, o outcome) {
	b := c.books
	if m, ok := answer.(*mixed); ok && m.bad != nil {
		b.isWrong("%s: %v; error %v; %s", j, m.bad, o.err, c.around(o))
		return
	}
	var e *wire.Error
	errors.As(o.err, &e)
	excuses := c.faults.during(j.module, o.from, o.to, killing, stopping, dying)
	switch {
	case o.err == nil:
		b.ended()
		if o.res.Attempts > 1 {
			b.add(&b.repeated)
		}
		if err := answer.err(); err != nil {
			b.isWrong("%s: %v; %s", j, err, c.around(o))
			return
		}
		switch j.op {
		case "once":
			b.expect(j.key, ranOnce)
		case "next":
			b.number(o.life, answer.(*number).n, j.key)
		}
		if j.size <= mostSmall && j.pause == 0 && j.module != steady {
			b.took(j.module, o.from)
		}
	case errors.Is(o.err, errHung):
		b.isLost("%s had no outcome after %s; %s", j, patience, c.around(o))
	case len(c.faults.during("", o.from, o.to, hosting)) > 0:
		b.add(&b.cut) // never acknowledged as durable
	case o.res.Job == "": // never taken in
		if j.op == "once" {
			b.expect(j.key, neverRan)
		}
		if len(excuses) == 0 {
			b.isLost("%s was not taken in: %v; %s", j, o.err, c.around(o))
			return
		}
		b.add(&b.refused)
	default:
		b.ended()
		if why := c.unexcused(j, e, o, excuses); why != "" {
			b.isLost("%s, number %s in the node, status %s after %d attempts: %v: %s; %s", j, o.res.Job, o.res.Status, o.res.Attempts, o.err, why, c.around(o))
		}
	}
}

// unexcused says why a job that was taken in must not have ended with an error,
// "" when it may have.
func (c *campaign) unexcused(j job, e *wire.Error, o outcome, excuses []fault) string {
	if e != nil && e.Code == base.Code_outcomeUnknown {
		c.books.add(&c.books.unknown)
	}
	switch {
	case e == nil:
		return "an error without a kind"
	case j.op == "probe" && strings.Contains(e.Message, "this version fails its probes"):
		return "" // as we asked
	case len(excuses) == 0:
		return "nothing was done to its module"
	case e.Code == base.Code_outcomeUnknown && !j.idempotent():
		return ""
	case e.Code == base.Code_outcomeUnknown && j.size > mostSmall:
		return "" // part of its output had gone out
	case j.idempotent():
		return "it could have run again"
	default:
		return "it is not said that its outcome is unknown"
	}
}

// around is where to look for what happened to a job.
func (c *campaign) around(o outcome) string {
	return fmt.Sprintf("life %d of the node, from %s for %s; near it: %s", o.life, o.from.Format("15:04:05.000"), o.to.Sub(o.from).Round(time.Millisecond),
		c.faults.describe(o.from, o.to))
}
