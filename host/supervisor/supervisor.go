// Package supervisor looks after the processes of plugins: it starts one, speaks
// go-plugin's protocol with it, knows within milliseconds when it has ended, and
// ends it whether it wants to or not. Backoff says when to start it again.
//
// Package node calls it. It never decides which plugin runs or what it may do,
// moves no job and knows no module by name; what a command means is the matter
// of package wire. Of the segment it knows only the socket over which the node
// passes it on (Process.Channel).
//
// What it promises about a process:
//
//   - It ends with the host, even if the host is killed: the parent-death signal
//     is set, and since that fires when the thread that forked ends, one thread
//     that lives as long as the Supervisor forks them all. The signal reaches the
//     plugin only, and the kernel drops it when the plugin's file is setuid or has
//     capabilities. What the plugin has started itself is ended by the next node
//     then, if there are control groups.
//   - What it has started ends with it, in a session of its own, too: it is in a
//     control group, or the host looks for it (see Enforcement). Nobody waits for
//     it before that.
//   - It keeps within its Limits, or ExitState says which it did not.
//   - Nothing it does or leaves undone blocks the host: it may be stopped
//     (SIGSTOP), hold its pipes open in a grandchild, answer nothing, or write
//     without end.
//   - It is reaped at once, and its sockets, pipes and folders are taken back.
//   - What it prints is hostile: lines are cut, counted and cleaned of control
//     characters before they are logged.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options of a Supervisor. The zero value of each field means its default.
type Options struct {
	// SocketDir is where each process gets a folder for its sockets, default the
	// folder for temporary files. The path of a socket is bounded by the kernel, so
	// it must not be longer than MaxSocketDir.
	SocketDir string
	// Logger receives what plugins print and what happens to them, default nothing.
	Logger hclog.Logger
	// WithoutGroups does without control groups even where the node could make some:
	// the host watches limits, and looks for children itself.
	WithoutGroups bool
}

// Supervisor starts processes. Its methods may be called from any goroutine.
type Supervisor struct {
	opts Options
	fork chan func() // run by the forking thread

	mu     sync.Mutex
	closed bool
	live   map[*Process]struct{} // started and not taken back yet
	starts sync.WaitGroup        // launches under way

	tree        *tree
	enforcement Enforcement
	census      *census       // nil if control groups do everything
	stop        chan struct{} // ends the census
}

// closeWait bounds how long Close waits for killed processes to be gone.
const closeWait = 10 * time.Second

// New returns a Supervisor, which must be closed.
func New(o Options) (*Supervisor, error) {
	if o.SocketDir == "" {
		o.SocketDir = os.TempDir()
	}
	dir, err := filepath.Abs(o.SocketDir)
	if err != nil {
		return nil, fmt.Errorf("supervisor: folder for sockets: %w", err)
	}
	o.SocketDir = dir
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	s := &Supervisor{opts: o, fork: make(chan func()), live: make(map[*Process]struct{}), stop: make(chan struct{})}
	s.tree = &tree{notes: []string{"they are not wanted"}}
	if !o.WithoutGroups {
		s.tree = openTree("/", put)
	}
	s.enforcement = s.tree.enforcement()
	o.Logger.Info("limits of plugins", "enforcement", s.enforcement, "note", s.enforcement.Note)
	if s.enforcement.Memory == Watched || s.enforcement.Processes == Watched || s.enforcement.Children == Watched {
		s.census = newCensus("/proc")
		go s.census.run(s.stop)
	}
	go s.forkThread()
	return s, nil
}

// Enforcement says by which means limits are kept here.
func (s *Supervisor) Enforcement() Enforcement { return s.enforcement }

// forkThread starts processes until Close. It never unlocks its thread, so the
// thread lives exactly as long as this function, and with it the plugins.
func (s *Supervisor) forkThread() {
	runtime.LockOSThread()
	for start := range s.fork {
		start()
	}
}

// onForkThread runs f on the forking thread.
func (s *Supervisor) onForkThread(f func() error) error {
	result := make(chan error, 1)
	s.fork <- func() { result <- f() }
	return <-result
}

// begin counts a launch in.
func (s *Supervisor) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.starts.Add(1)
	return nil
}

// keep notes a process that must be gone before the supervisor is. It kills it
// when Close came first.
func (s *Supervisor) keep(p *Process) {
	s.mu.Lock()
	s.live[p] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		p.Kill("the supervisor is closing")
	}
}

func (s *Supervisor) forget(p *Process) {
	s.mu.Lock()
	delete(s.live, p)
	s.mu.Unlock()
}

// Processes returns how many processes run or are being taken back.
func (s *Supervisor) Processes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Close kills what still runs, waits until it is gone, and ends the forking
// thread. Launches under way fail. Calling it again does nothing.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.killAll()
	s.starts.Wait()

	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	var errs []error
	for _, p := range s.killAll() {
		if _, err := p.Wait(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	close(s.fork)
	close(s.stop)
	return errors.Join(append(errs, s.tree.close())...)
}

// killAll kills what runs and returns what is not gone yet.
func (s *Supervisor) killAll() []*Process {
	s.mu.Lock()
	live := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	for _, p := range live {
		p.Kill("the supervisor is closing")
	}
	return live
}
