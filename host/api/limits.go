package api

import (
	"context"
	"net/http"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// A class is a kind of requests that has places of its own, so that however many
// jobs are held open, and however many clients wait for something to happen, an
// operator can still look and act.
type class struct {
	what   string // what has taken all places
	places chan struct{}
}

func newClass(what string, places int) *class { return &class{what, make(chan struct{}, places)} }

// classes of a server's requests.
type classes struct {
	jobs    *class // run a job, or move the bytes of one
	queries *class // are answered at once
	changes *class // change what serves, which may take as long as jobs do
	waits   *class // wait for something to happen
}

func (o Options) classes() classes {
	return classes{
		jobs: newClass("requests that run jobs", o.MaxRequests), queries: newClass("queries", o.MaxQueries),
		changes: newClass("changes of plugins", o.MaxChanges), waits: newClass("requests that wait for news", o.MaxWaits),
	}
}

// within serves requests of a class, and refuses those beyond its places.
func (s *Server) within(c *class, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case c.places <- struct{}{}:
		default:
			fail(w, wire.NewError(base.Code_resourceExhausted, "try again when some have ended", "%d %s are under way already", cap(c.places), c.what))
			return
		}
		defer func() { <-c.places }()
		if !s.begin() {
			fail(w, errStopping)
			return
		}
		defer s.requests.Done()
		next(w, r)
	}
}

// begin counts a request in, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.requests.Add(1)
	}
	return !s.closed
}

// unhurried serves what may take longer than an answer usually may: the server
// notices when the client goes away meanwhile.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn := http.NewResponseController(w)
		// Errors mean that the connection is closed, which whoever uses it finds out.
		_ = conn.SetReadDeadline(time.Time{})
		_ = conn.SetWriteDeadline(time.Time{})
		next(&promptly{w, conn}, r)
	}
}

// patient serves what waits for news, until the server begins to close.
func (s *Server) patient(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := context.WithCancelCause(r.Context())
		defer stop(nil)
		defer context.AfterFunc(s.waiting, func() { stop(errStopping) })()
		next(w, r.WithContext(ctx))
	}
}

// promptly is an answer that may begin late, and must be taken soon once it has.
type promptly struct {
	http.ResponseWriter
	conn *http.ResponseController
}

// WriteHeader implements http.ResponseWriter.
func (p *promptly) WriteHeader(status int) {
	_ = p.conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	p.ResponseWriter.WriteHeader(status)
}

// Unwrap lets an http.ResponseController find the connection.
func (p *promptly) Unwrap() http.ResponseWriter { return p.ResponseWriter }
