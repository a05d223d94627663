package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// said is what a command printed and how it ended.
type said struct {
	out, err string
	code     int
}

// inos runs one command line.
func inos(t *testing.T, args ...string) said { return inosWith(t, "", args...) }

func inosWith(t *testing.T, in string, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(in), out: &out, err: &errs}
	code := a.execute(t.Context(), args)
	return said{out.String(), errs.String(), code}
}

// wants fails unless the command ended with code and printed each of the texts.
func (s said) wants(t *testing.T, code int, texts ...string) said {
	t.Helper()
	if s.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", s.code, code, s.out, s.err)
	}
	for _, text := range texts {
		if !strings.Contains(s.out+s.err, text) {
			t.Errorf("no %q in\n%s%s", text, s.out, s.err)
		}
	}
	return s
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// screen is what a command that goes on writes to.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // capacity 1
}

func newScreen() *screen { return &screen{news: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// until waits for a text to appear.
func (s *screen) until(t *testing.T, text string, ended <-chan int) {
	t.Helper()
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.news:
		case code := <-ended:
			t.Fatalf("ended with %d before it said %q:\n%s", code, text, s)
		}
	}
}

// running is a node in this process, as inos run makes it.
type running struct {
	home, plugins string
	out, err      *screen
	stop          context.CancelCauseFunc
	ended         chan int
}

// start runs a node on a folder of plugins until the test ends.
func start(t *testing.T, plugins string, flags ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancelCause(context.Background())
	r := &running{home: privateDir(t), plugins: plugins, out: newScreen(), err: newScreen(), stop: stop, ended: make(chan int, 1)}
	a := &app{in: strings.NewReader(""), out: r.out, err: r.err}
	args := append([]string{"run", "--home", r.home, "--plugins", plugins, "--segment", "16MiB"}, flags...)
	go func() { r.ended <- a.execute(ctx, args) }()
	t.Cleanup(func() { r.interrupt(t) })
	r.err.until(t, "The node is up", r.ended)
	return r
}

// interrupt stops the node, which must go well.
func (r *running) interrupt(t *testing.T) {
	t.Helper()
	if r.ended == nil {
		return
	}
	r.stop(errInterrupted)
	if code := <-r.ended; code != exitOK {
		t.Errorf("the node ended with %d:\n%s%s", code, r.out, r.err)
	}
	r.ended = nil
}

// inos runs a command line against the node.
func (r *running) inos(t *testing.T, args ...string) said {
	t.Helper()
	return inos(t, append(args, "--home", r.home)...)
}
