package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Options bound the server. The zero value of each field means its default.
type Options struct {
	// MaxRequests is how many requests at once run jobs or move their bytes, default
	// 256. One more is refused at once. The other kinds of requests have places of
	// their own.
	MaxRequests int
	// MaxQueries is how many requests at once ask for what the node knows, default 32.
	MaxQueries int
	// MaxChanges is how many requests at once change what serves, default 16.
	MaxChanges int
	// MaxWaits is how many requests at once wait for events, or for jobs that somebody
	// else runs, default 64.
	MaxWaits int
	// Stall is how long a client may take to give the next bytes of input or to
	// take the next bytes of output before its job is canceled, default 10 min.
	Stall time.Duration
	// Logger receives what the server has to say.
	Logger hclog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxRequests, 256}, {&o.MaxQueries, 32}, {&o.MaxChanges, 16}, {&o.MaxWaits, 64}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Stall <= 0 {
		o.Stall = 10 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
}

// Bounds on a request apart from its body.
const (
	maxHeaderBytes = 256 << 10 // parameters travel in the query
	headerTimeout  = 10 * time.Second
	answerTimeout  = 30 * time.Second // for everything but jobs, changes and waiting
	idleTimeout    = 2 * time.Minute
	linger         = 500 * time.Millisecond // for a client to stop sending
)

// Server serves the API of one node.
type Server struct {
	node Backend
	opts Options
	log  hclog.Logger
	http *http.Server

	classes classes
	stop    context.CancelCauseFunc

	waiting context.Context // of requests that wait for news: it ends when the server begins to close
	hush    context.CancelCauseFunc

	mu       sync.Mutex // orders requests.Add before requests.Wait
	closed   bool
	requests sync.WaitGroup
}

var errStopping = wire.NewError(base.Code_unavailable, "start the node again", "the node is stopping")

// NewServer returns a server for n. It serves nothing before Serve.
func NewServer(n Backend, o Options) *Server {
	o.EnsureDefaults()
	ctx, stop := context.WithCancelCause(context.Background())
	waiting, hush := context.WithCancelCause(ctx)
	s := &Server{node: n, opts: o, log: o.Logger.Named("api"), classes: o.classes(), stop: stop, waiting: waiting, hush: hush}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       answerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       rememberConn,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	return s
}

// Serve answers requests that come through l until Close. It returns nil then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops listening, ends the requests that wait for news, lets the others
// finish until ctx ends, cancels what is left and waits for it. After it no job of a request is open, so the
// memory that they read and write may go.
func (s *Server) Close(ctx context.Context) error {
	s.hush(errStopping)
	err := s.http.Shutdown(ctx)
	s.stop(errStopping)
	if err != nil {
		// What was canceled gets a moment to say so to its client.
		grace, cancel := context.WithTimeout(context.Background(), 4*linger)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			s.http.Close()
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.requests.Wait()
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(c *class, pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, s.within(c, h)) }
	n, c := s.node, s.classes

	handle(c.queries, "GET /v1/node", s.getNode)
	handle(c.queries, "GET /v1/plugins", s.getPlugins)
	handle(c.queries, "GET /v1/plugins/{name}", s.getPlugin)
	handle(c.queries, "GET /v1/plugins/{name}/history", s.getHistory)
	handle(c.queries, "GET /v1/capabilities", s.getCapabilities)
	handle(c.queries, "GET /v1/segment", s.getSegment)
	handle(c.queries, "GET /v1/jobs", s.getJobs)
	handle(c.queries, "GET /v1/jobs/{id}", s.getJob)
	handle(c.queries, "DELETE /v1/jobs/{id}", s.cancelJob)
	handle(c.queries, "DELETE /v1/jobs/{id}/result", s.discardResult)
	handle(c.queries, "GET /v1/quarantine", s.getQuarantine)
	handle(c.queries, "DELETE /v1/quarantine/{digest}", s.forgive)

	handle(c.changes, "POST /v1/plugins/{name}/swap", s.changing(n.Swap))
	handle(c.changes, "POST /v1/plugins/{name}/rollback", s.changing(versionless(n.Rollback)))
	handle(c.changes, "POST /v1/plugins/{name}/pin", s.changing(n.Pin))
	handle(c.changes, "POST /v1/plugins/{name}/unpin", s.changing(versionless(n.Unpin)))
	handle(c.changes, "POST /v1/plugins/{name}/drain", s.changing(versionless(n.Drain)))
	handle(c.queries, "POST /v1/plugins/{name}/undrain", s.changing(versionless(n.Undrain))) // never waits, and ends what does

	handle(c.jobs, "POST /v1/jobs", s.runJob)
	handle(c.jobs, "GET /v1/jobs/{id}/result", s.getResult)
	handle(c.waits, "GET /v1/jobs/{id}/wait", unhurried(s.patient(s.waitJob)))
	mux.HandleFunc("GET /v1/events", s.getEvents) // of two classes

	handle(c.queries, "/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, wire.NewError(base.Code_notFound, "see the comment of package api for what there is", "there is no %s %s", r.Method, r.URL.Path))
	})
	return mux
}
