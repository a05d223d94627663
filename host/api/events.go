package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"inos/host/events"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Events lists what happened to the plugins, the oldest first.
type Events struct {
	Events []Event `json:"events"`
	Last   uint64  `json:"last"` // number of the last event of all, wanted or not
}

// Event is one thing that happened to a plugin.
type Event struct {
	ID       uint64    `json:"id"` // counts up from 1 in the life of the node
	Time     time.Time `json:"time"`
	Plugin   string    `json:"plugin"` // or the name of its file, while no more is known
	Version  string    `json:"version,omitempty"`
	Digest   string    `json:"digest,omitempty"` // SHA-256 of the binary, hex
	Instance uint32    `json:"instance,omitempty"`
	Step     string    `json:"step"`    // one of package events
	TookNs   int64     `json:"took_ns"` // 0 for what takes no time
	Error    *Error    `json:"error,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Missed   uint64    `json:"missed,omitempty"` // events before this one that were forgotten already
}

func newEvent(e events.Event) Event {
	out := Event{
		ID: e.ID, Time: e.Time, Plugin: e.Module, Version: e.Version, Digest: e.Digest, Instance: e.Instance,
		Step: string(e.Step), TookNs: int64(e.Took), Detail: e.Detail,
	}
	if e.Err != nil {
		out.Error = newError(asError(e.Err))
	}
	return out
}

// maxPoll bounds how long a client may wait in one request. It is less than
// what a client may take for a node that is gone.
const maxPoll = 25 * time.Second

// sieve lets those events through that a client asked for.
type sieve struct {
	since  uint64
	plugin string
	limit  int
	wait   bool
	follow bool
	missed uint64 // forgotten events that were not told of yet
}

func newSieve(q url.Values) (*sieve, error) {
	f := &sieve{plugin: q.Get("plugin"), wait: q.Get("wait") == "1", follow: q.Get("follow") == "1"}
	if text := q.Get("since"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, wire.NewError(base.Code_invalidArgument, "give the number of an event, or leave it out", "since %q is not a number", text)
		}
		f.since = n
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, wire.NewError(base.Code_invalidArgument, "give a number above 0, or leave it out", "limit %q is not a number of events", text)
		}
		f.limit = n
	}
	return f, nil
}

// pass returns what is wanted of events that follow the last ones, and goes on
// behind them.
func (f *sieve) pass(list []events.Event, digests map[string]bool) []Event {
	out := []Event{}
	for _, e := range list {
		if f.since > 0 || f.missed > 0 {
			f.missed += e.ID - f.since - 1
		}
		f.since = e.ID
		if f.plugin != "" && e.Module != f.plugin && !digests[e.Digest] {
			continue
		}
		shown := newEvent(e)
		shown.Missed, f.missed = f.missed, 0
		out = append(out, shown)
	}
	if f.limit > 0 {
		out = out[max(0, len(out)-f.limit):]
	}
	return out
}

// digests of the binaries that are the plugin f asks for: the first events of a
// file do not know its name yet.
func (s *Server) digests(f *sieve) map[string]bool {
	if f.plugin == "" {
		return nil
	}
	found := make(map[string]bool)
	for _, p := range s.node.Plugins() {
		if (p.Name == f.plugin || p.File == f.plugin) && p.Digest != "" {
			found[p.Digest] = true
		}
	}
	return found
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	f, err := newSieve(r.URL.Query())
	if err != nil {
		fail(w, err)
		return
	}
	c, serve := s.classes.queries, s.events
	switch {
	case f.follow:
		c, serve = s.classes.waits, s.followEvents
	case f.wait:
		c, serve = s.classes.waits, s.waitEvents
	}
	s.within(c, func(w http.ResponseWriter, r *http.Request) { serve(w, r, f) })(w, r)
}

// start returns the events there are already.
func (s *Server) start(f *sieve) (wanted []Event, last uint64) {
	log := s.node.Events()
	list, last := log.Since(f.since)
	if f.since > last { // what the client knows is of an earlier life of the node
		f.since = 0
		list, last = log.Since(0)
	}
	return f.pass(list, s.digests(f)), last
}

func (s *Server) events(w http.ResponseWriter, _ *http.Request, f *sieve) {
	wanted, last := s.start(f)
	reply(w, http.StatusOK, Events{Events: wanted, Last: last})
}

// waitEvents answers as soon as there is an event that is wanted.
func (s *Server) waitEvents(w http.ResponseWriter, r *http.Request, f *sieve) {
	unhurried(s.patient(func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := context.WithTimeout(r.Context(), maxPoll)
		defer stop()
		wanted, _ := s.start(f)
		for len(wanted) == 0 {
			list, err := s.node.Events().Wait(ctx, f.since)
			if err != nil {
				break // ctx has ended, and the answer is that there is none
			}
			wanted = f.pass(list, s.digests(f))
		}
		reply(w, http.StatusOK, Events{Events: wanted, Last: f.since})
	}))(w, r)
}

// followEvents writes events as lines of JSON until the client goes away or the
// node stops.
func (s *Server) followEvents(w http.ResponseWriter, r *http.Request, f *sieve) {
	unhurried(s.patient(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		wanted, _ := s.start(f)
		f.limit = 0 // it was about those
		for tell(w, wanted) == nil {
			list, err := s.node.Events().Wait(r.Context(), f.since)
			if err != nil {
				return // ctx has ended
			}
			wanted = f.pass(list, s.digests(f))
		}
	}))(w, r)
}

// tell writes events as lines of JSON.
func tell(w http.ResponseWriter, list []Event) error {
	conn := http.NewResponseController(w)
	_ = conn.SetWriteDeadline(time.Now().Add(answerTimeout)) // the writes say when it is closed
	lines := json.NewEncoder(w)
	for _, e := range list {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return conn.Flush()
}
