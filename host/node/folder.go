package node

import (
	"errors"
	"time"

	"inos/host/catalog"
	"inos/host/events"
	"inos/plugins/sdk/wire"
)

// The node keeps to what lies in the plugins folder. One goroutine, follow, looks
// at the folder when the watcher says that it changed, has new files inspected,
// and decides for each module which version is to serve. The decision follows
// from the folder, the history and the operator's pins alone, so that it is the
// same after a restart: the pinned version, else the highest of those in the
// folder that were not rolled back, else the last that served. What it takes to
// get there runs in goroutines of its own, one at a time for each module.

// row is one file of the plugins folder and what is known of it. Guarded by
// Node.mu.
type row struct {
	file     catalog.Candidate
	busy     bool // it is being inspected
	entry    catalog.Entry
	manifest *wire.Manifest // nil when it never described itself
	begun    begun          // the process that described itself, while nobody uses it
	err      error          // why it does not serve, nil when nothing is wrong with it
	stopped  bool           // err says why it was stopped after it had served
	since    time.Time
}

// name is what an operator calls the file before its module is known.
func (r *row) name() string {
	if r.manifest != nil {
		return r.manifest.Name
	}
	return r.file.Name
}

// removalGrace is how long a module goes on whose last file is gone: what looks
// like a removal may be half of an exchange.
const removalGrace = time.Second

// arrivalPatience is how long a new module waits for files that are still being
// inspected, so that which of two modules that exclude each other serves does not
// depend on which was quicker to start.
const arrivalPatience = time.Second

// retryEvery is how often a refusal that is about other modules is looked at again.
const retryEvery = 2 * time.Second

// maxLaunches bounds the new files that are inspected at once.
const maxLaunches = 8

// follow keeps to the folder until the node closes. It closes settled when it has
// nothing to do for the first time.
func (n *Node) follow(settled chan<- struct{}) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		n.lookAround()
		if idle := n.decide(); idle && settled != nil && len(n.watcher.Settling()) == 0 {
			n.prune()
			close(settled)
			settled = nil
		}
		select {
		case <-n.watcher.Changes():
		case <-n.poke:
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// wake has follow look again.
func (n *Node) wake() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// lookAround compares the folder with the rows and has what is new inspected.
func (n *Node) lookAround() {
	found, settling := n.watcher.View()
	n.mu.Lock()
	defer n.mu.Unlock()
	there := make(map[string]bool, len(found))
	for _, name := range settling {
		there[name] = true // it stays what it was until it is stable
	}
	for _, c := range found {
		there[c.Name] = true
		r := n.rows[c.Name]
		if r != nil && (r.busy || r.file.Same(c)) {
			continue
		}
		fresh := &row{file: c, since: time.Now(), busy: true}
		if r != nil {
			r.drop()
		}
		n.rows[c.Name] = fresh
		n.tasks.Go(func() { n.inspect(fresh) })
	}
	for name, r := range n.rows {
		if !there[name] && !r.busy {
			r.drop()
			delete(n.rows, name)
		}
	}
}

// drop ends the process that a row keeps. It does not wait.
func (r *row) drop() {
	if p := r.begun.proc; p != nil {
		p.Kill("it is not to serve")
		r.begun = begun{}
	}
}

// inspect admits a file into the store and asks it what it is.
func (n *Node) inspect(r *row) {
	defer n.wake()
	select {
	case n.launches <- struct{}{}:
		defer func() { <-n.launches }()
	case <-n.ctx.Done():
		return
	}
	from := time.Now()
	event := events.Event{Module: r.file.Name, Step: events.Seen}
	n.events.Append(event)
	entry, err := n.store.Admit(r.file)
	event.Digest = entry.Digest
	var b begun
	var manifest *wire.Manifest
	if err == nil {
		event.Step, event.Took = events.Admitted, time.Since(from)
		n.events.Append(event)
		manifest, b, err = n.know(entry)
		if manifest != nil {
			event.Module, event.Version = manifest.Name, manifest.Version.String()
		}
	}
	if n.ctx.Err() != nil {
		b.kill(errStopping)
		return // the node stops: that says nothing about the plugin
	}
	if err != nil {
		event.Step, event.Err, event.Took = events.Refused, err, time.Since(from)
		n.events.Append(event)
		n.log.Error("plugin refused", "file", r.file.Name, "error", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r.busy, r.entry, r.manifest, r.begun, r.err = false, entry, manifest, b, err
	if n.rows[r.file.Name] != r { // gone or exchanged meanwhile
		r.drop()
	}
}

// know finds out what a binary says of itself: from memory when it has said so
// before, else by starting it. A process that was started is returned for use.
func (n *Node) know(e catalog.Entry) (*wire.Manifest, begun, error) {
	n.mu.Lock()
	m := n.manifests[e.Path]
	n.mu.Unlock()
	if m != nil {
		return m, begun{}, nil
	}
	// What nobody signed must not even say its name where the policy demands that.
	if err := n.policy.For(e.Name).AdmitsPublisher(e.Name, e.Publisher); err != nil {
		return nil, begun{}, err
	}
	from := time.Now()
	// Which rule is the plugin's is known when it has said its name. Most are called
	// like their file; for others begin starts a process with the right limits.
	b, err := n.launch(n.ctx, e, limits(n.policy.For(e.Name)))
	if err != nil {
		return nil, begun{}, err
	}
	n.events.Append(events.Event{
		Module: b.manifest.Name, Version: b.manifest.Version.String(), Digest: e.Digest,
		Step: events.Launched, Took: time.Since(from),
	})
	n.mu.Lock()
	n.manifests[e.Path] = b.manifest
	n.mu.Unlock()
	return b.manifest, b, nil
}

// refuse notes that a version does not serve, and why.
func (n *Node) refuse(t target, err error) {
	n.mu.Lock()
	again := false
	if t.row != nil {
		again = t.row.err != nil && t.row.err.Error() == err.Error()
		t.row.err, t.row.since = err, time.Now()
		t.row.drop()
		if !lasting(err) {
			t.row.err = retryable{err, t.served}
		}
	} else {
		n.failed[t.entry.Digest] = err
	}
	n.mu.Unlock()
	if again {
		return
	}
	e := events.Event{Module: t.entry.Name, Digest: t.entry.Digest, Step: events.Refused, Err: err}
	if t.manifest != nil {
		e.Module, e.Version = t.manifest.Name, t.manifest.Version.String()
	}
	n.events.Append(e)
	n.log.Error("plugin refused", "file", t.entry.Name, "error", err)
}

// retryable is a refusal that can be over when other modules change.
type retryable struct {
	error
	served uint64 // Node.served when it was refused
}

func (r retryable) Unwrap() error { return r.error }

var (
	errFileGone   = errors.New("its file is gone from the plugins folder")
	errReplaced   = errors.New("another version took its place")
	errSuperseded = errors.New("another version comes")
	errRetired    = errors.New("the plugin was taken out of service; see inos plugin list")
	errArriving   = errors.New("it is being taken into service; ask again when that is over")
	errLingering  = errors.New("that were replaced still have jobs")
)
