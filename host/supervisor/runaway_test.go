package supervisor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// limited starts a plugin with limits.
func limited(t *testing.T, s *Supervisor, l Limits) *Process {
	t.Helper()
	sp := spec(t, "plugin")
	sp.Limits = l
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if p.Enforcement() != s.Enforcement().of(l) {
		t.Errorf("in force is %v, of %v", p.Enforcement(), s.Enforcement())
	}
	return p
}

func TestMemoryWithoutBoundEndsWithAReasonThatNamesTheLimit(t *testing.T) {
	for _, o := range backends {
		for _, what := range []string{"eat memory", "eat memory in a child"} {
			t.Run(string(o)+"/"+what, func(t *testing.T) {
				s := tidyWith(t, o)
				p := limited(t, s, Limits{Memory: 96 << 20})
				t.Log(p.Enforcement())
				err := do(t.Context(), p, what)
				if what == "eat memory in a child" && p.Enforcement().Memory != GroupV2 && !errors.Is(err, ErrDied) {
					// The kernel has ended the child alone (version 1), or refused it memory.
					if err == nil {
						t.Error("nothing ended the child")
					}
					if _, err := p.Health(t.Context()); err != nil {
						t.Error(err)
					}
					p.Kill("it has lost a child")
					gone(t, p)
					return
				}
				if !errors.Is(err, ErrDied) || !strings.Contains(err.Error(), "the memory limit of 96 MiB") {
					t.Errorf("the call that was under way: %v", err)
				}
				state := gone(t, p)
				if state.Limit != "the memory limit of 96 MiB" || state.Clean() || !strings.Contains(state.String(), state.Limit) {
					t.Errorf("it ended with %q: %+v", state, state)
				}
			})
		}
	}
}

func TestADeathBelowTheLimitIsNotBlamedOnIt(t *testing.T) {
	for _, o := range backends {
		t.Run(string(o), func(t *testing.T) {
			s := tidyWith(t, o)
			p := limited(t, s, Limits{Memory: 1 << 30, Processes: 500})
			if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if state := gone(t, p); state.Limit != "" || state.Killed != "" || state.Signal != syscall.SIGKILL {
				t.Errorf("it ended with %+v", state)
			}
		})
	}
}

func TestForkingWithoutBoundIsBounded(t *testing.T) {
	const bound = 64
	for _, o := range backends {
		t.Run(string(o), func(t *testing.T) {
			s := tidyWith(t, o)
			sp := spec(t, "plugin")
			mark := "BOMB=" + t.Name()
			sp.Env = append(sp.Env, mark, "GOMAXPROCS=1")
			sp.Limits.Processes = bound
			p, err := s.Launch(t.Context(), sp)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(p.Enforcement())
			err = do(t.Context(), p, "fork")
			// It may be that its own runtime found no room for a thread.
			if err != nil && !errors.Is(err, ErrDied) {
				t.Fatal(err)
			}
			switch {
			case p.Enforcement().Processes == Watched:
				state := gone(t, p)
				if want := "the limit of 64 processes and threads"; state.Limit != want || !strings.Contains(state.Killed, want) {
					t.Errorf("it ended with %q: %+v", state, state)
				}
			case err == nil:
				h, err := p.Health(t.Context())
				if err != nil && !errors.Is(err, ErrDied) {
					t.Fatal(err)
				}
				if n := len(marked(t, mark)); n > bound {
					t.Errorf("it has %d processes", n)
				}
				if n, _ := strconv.Atoi(h.Detail); n == most {
					t.Error("nothing kept it from forking")
				}
			}
			p.Kill("enough")
			gone(t, p)
			if left := settle(func() []string { return marked(t, mark) }); len(left) > 0 {
				t.Errorf("processes left: %q", left)
			}
		})
	}
}

// marked lists the processes that have a variable.
func marked(t *testing.T, variable string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if bytes.Contains(append([]byte{0}, b...), []byte("\x00"+variable+"\x00")) {
			list = append(list, path)
		}
	}
	return list
}

func TestBurningCPUIsThrottled(t *testing.T) {
	s := tidy(t)
	p := limited(t, s, Limits{CPUPercent: 20})
	if p.Enforcement().CPU == Unbounded {
		if got := p.Limits().CPUPercent; got != Unlimited {
			t.Errorf("a limit of %d is said to be in force", got)
		}
		t.Skip("no control group for CPU time on this machine: ", s.Enforcement().Note)
	}
	if got := p.Limits().CPUPercent; got != 20 {
		t.Errorf("in force is %d", got)
	}
	if err := do(t.Context(), p, "burn"); err != nil {
		t.Fatal(err)
	}
	throttled := func() []string {
		for _, part := range p.fence.group.parts {
			if counter(filepath.Join(part.dir, "cpu.stat"), "nr_throttled") > 0 {
				return nil
			}
		}
		return []string{"nobody throttles it"}
	}
	if left := settle(throttled); len(left) > 0 {
		t.Error(left)
	}
	if _, err := p.Health(t.Context()); err != nil {
		t.Errorf("while it burns: %v", err)
	}
	p.Kill("enough")
	gone(t, p)
}

func TestWithoutGroupsCPUIsSaidToBeUnbounded(t *testing.T) {
	s := tidyWith(t, "without groups")
	p := limited(t, s, Limits{CPUPercent: 20, Memory: 1 << 30, Processes: 1000})
	want := Enforcement{Memory: Watched, Processes: Watched, Children: Watched, Note: s.Enforcement().Note}
	if got := p.Enforcement(); got != want || want.Note == "" {
		t.Errorf("in force is %+v", got)
	}
	if got := p.Limits(); got.CPUPercent != Unlimited || got.Memory != 1<<30 || got.Processes != 1000 {
		t.Errorf("in force is %+v", got)
	}
}
