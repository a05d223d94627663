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
	// MaxRequests is how many requests are served at once, default 256. One more
	// is refused at once.
	MaxRequests int
	// Stall is how long a client may take to give the next bytes of input or to
	// take the next bytes of output before its job is canceled, default 10 min.
	Stall time.Duration
	// Logger receives what the server has to say.
	Logger hclog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.MaxRequests <= 0 {
		o.MaxRequests = 256
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
	answerTimeout  = 30 * time.Second // for everything but running jobs
	idleTimeout    = 2 * time.Minute
	linger         = 500 * time.Millisecond // for a client to stop sending
)

// Server serves the API of one node.
type Server struct {
	node Backend
	opts Options
	log  hclog.Logger
	http *http.Server

	slots chan struct{}
	stop  context.CancelCauseFunc

	mu       sync.Mutex // orders requests.Add before requests.Wait
	closed   bool
	requests sync.WaitGroup
}

var errStopping = wire.NewError(base.Code_unavailable, "start the node again", "the node is stopping")

// NewServer returns a server for n. It serves nothing before Serve.
func NewServer(n Backend, o Options) *Server {
	o.EnsureDefaults()
	ctx, stop := context.WithCancelCause(context.Background())
	s := &Server{node: n, opts: o, log: o.Logger.Named("api"), slots: make(chan struct{}, o.MaxRequests), stop: stop}
	s.http = &http.Server{
		Handler:           s.bounded(s.routes()),
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

// Close stops listening, lets requests under way finish until ctx ends, cancels
// what is left and waits for it. After it no job of a request is open, so the
// memory that they read and write may go.
func (s *Server) Close(ctx context.Context) error {
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
	mux.HandleFunc("GET /v1/node", s.getNode)
	mux.HandleFunc("GET /v1/plugins", s.getPlugins)
	mux.HandleFunc("GET /v1/plugins/{name}", s.getPlugin)
	mux.HandleFunc("GET /v1/capabilities", s.getCapabilities)
	mux.HandleFunc("GET /v1/segment", s.getSegment)
	mux.HandleFunc("GET /v1/jobs", s.getJobs)
	mux.HandleFunc("GET /v1/jobs/{id}", s.getJob)
	mux.HandleFunc("DELETE /v1/jobs/{id}", s.cancelJob)
	mux.HandleFunc("POST /v1/jobs", s.runJob)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, wire.NewError(base.Code_notFound, "see the comment of package api for what there is", "there is no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// bounded counts requests and refuses those beyond the limit.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
		default:
			fail(w, wire.NewError(base.Code_resourceExhausted, "try again when some have ended", "%d requests are under way already", s.opts.MaxRequests))
			return
		}
		defer func() { <-s.slots }()
		if !s.begin() {
			fail(w, errStopping)
			return
		}
		defer s.requests.Done()
		next.ServeHTTP(w, r)
	})
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
