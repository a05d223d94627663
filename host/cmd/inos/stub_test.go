package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"inos/host/api"
)

// stub is a node that says what a test has it say: the commands' output depends on
// nothing else then.
type stub struct {
	t    *testing.T
	home string
	mux  *http.ServeMux

	mu   sync.Mutex
	said []string // requests that change something
	news []api.Event
	told chan struct{} // closed when somebody has the first half of the news and waits for more
	once sync.Once
}

// moment of everything in these tests.
var then = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.Local)

func newStub(t *testing.T) *stub {
	t.Helper()
	t.Setenv("NO_COLOR", "1")
	s := &stub{t: t, home: privateDir(t), mux: http.NewServeMux(), told: make(chan struct{})}
	l, err := api.Listen(api.SocketPath(s.home))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.mux, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	s.mux.HandleFunc("GET /v1/events", s.events)
	return s
}

// events answers as a node does to which these events happen in two halves: one
// that comes while somebody waits, and one that is there when the change is done.
func (s *stub) events(w http.ResponseWriter, r *http.Request) {
	const before = 10
	q := r.URL.Query()
	since, _ := strconv.Atoi(q.Get("since"))
	out := api.Events{Events: []api.Event{}, Last: before}
	half := before + len(s.news)/2
	switch {
	case q.Get("wait") == "1" && since >= half:
		s.once.Do(func() { close(s.told) })
		<-r.Context().Done()
		return
	case q.Get("wait") == "1":
		out.Events = s.news[since-before : half-before]
	case since >= before:
		out.Events = s.news[since-before:]
	}
	out.Last += uint64(len(out.Events))
	if since > before {
		out.Last = uint64(since + len(out.Events))
	}
	s.write(w, http.StatusOK, out)
}

func (s *stub) write(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.t.Error(err)
	}
}

// answers has the node answer a pattern with v.
func (s *stub) answers(pattern string, v any) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		s.write(w, http.StatusOK, v)
	})
}

// changes has the node answer a pattern once the first half of the news was seen.
func (s *stub) changes(pattern string, status int, v any, news ...api.Event) {
	for n := range news {
		news[n].ID = uint64(11 + n)
	}
	s.news = news
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		<-s.told
		s.write(w, status, v)
	})
}

func (s *stub) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method != http.MethodGet {
		s.said = append(s.said, r.Method+" "+r.URL.RequestURI())
	}
}

// heard fails unless the node was asked for exactly these changes.
func (s *stub) heard(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.said, "\n"); got != strings.Join(want, "\n") {
		s.t.Errorf("the node was asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (s *stub) inos(args ...string) said {
	s.t.Helper()
	return inos(s.t, append(args, "--home", s.home)...)
}

// ages are the only thing in the output that changes with time.
var ages = regexp.MustCompile(`\b\d+h\d+m\b|\b\d+h\b`)

// golden compares all that a command printed with a file.
func (s said) golden(t *testing.T, name string) said {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(ages.ReplaceAllString(s.out, "AGE"))
	if s.err != "" {
		b.WriteString("--- standard error\n" + s.err)
	}
	golden(t, filepath.Join("output", name), b.Bytes())
	return s
}
