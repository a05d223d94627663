package supervisor

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"inos/plugins/sdk/failpoint"
)

// fault puts a fault at a point until the test ends.
func fault(t *testing.T, point, terms string) {
	t.Helper()
	restore, err := failpoint.Enable("supervisor/"+point, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
}

func TestAFaultAtAnyStepOfALaunchLeavesNothing(t *testing.T) {
	for _, o := range backends {
		for _, tt := range []struct {
			point string
			want  Reason
		}{
			{"group", CannotExecute}, {"fork", CannotExecute}, {"forked", CannotExecute},
			{"handshake", Hung}, {"dial", Unreachable}, {"ready", Unreachable},
		} {
			t.Run(string(o)+"/"+tt.point, func(t *testing.T) {
				s := tidyWith(t, o)
				if s.tree.keeper() == nil && tt.point == "group" {
					t.Skip("there are no groups")
				}
				fault(t, tt.point, "1*error(out of luck)")
				sp := spec(t, "plugin")
				if tt.want == Hung {
					sp.StartTimeout = 500 * time.Millisecond
				}
				if _, err := s.Launch(t.Context(), sp); !errors.Is(err, tt.want) || tt.want != Hung && !strings.Contains(err.Error(), "out of luck") {
					t.Fatalf("got %v", err)
				}
				p := launch(t, s) // it works again
				if err := p.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestAFaultInTheLifeOfAProcessIsTold(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	fault(t, "command", "1*error(out of luck)")
	var e *failpoint.Error
	if err := p.Start(t.Context()); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
	fault(t, "stop", "1*error(out of luck)")
	if err := p.Stop(t.Context()); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
	if state := gone(t, p); !state.Clean() {
		t.Errorf("it ended with %v", state)
	}
}

func TestAGroupThatCannotBeRemovedHoldsNothingUp(t *testing.T) {
	s := tidy(t) // it removes what is left in the end
	fault(t, "ungroup", "1*error(out of luck)")
	p := launch(t, s)
	p.Kill("its group stays")
	gone(t, p)
}

func TestDelaysAtStepsThatCannotFail(t *testing.T) {
	for _, point := range []string{"kill", "reap", "take-back"} {
		t.Run(point, func(t *testing.T) {
			s := tidy(t)
			fault(t, point, "delay(20ms)")
			p := launch(t, s)
			p.Kill("slowly")
			if state := gone(t, p); state.Killed != "slowly" {
				t.Errorf("it ended with %v", state)
			}
		})
	}
}

func TestAProcessThatCannotBeStartedInItsGroupJoinsIt(t *testing.T) {
	s := tidy(t)
	if k := s.tree.keeper(); k == nil || !k.unified {
		t.Skip("no control groups of version 2 on this machine: ", s.Enforcement().Note)
	}
	g, err := s.tree.newGroup("late", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(spec(t, "").Path)
	cmd.Env = []string{roleEnv + "=idle"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.join(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(g.members(), func(s stat) bool { return s.pid == cmd.Process.Pid }) {
		t.Errorf("in the group are %v", g.members())
	}
	if _, err := g.remove(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it outlived its group")
	}
}

func TestPointsAreNamed(t *testing.T) {
	n := 0
	for _, name := range failpoint.Names() {
		if strings.HasPrefix(name, "supervisor/") {
			n++
		}
	}
	if n < 8 {
		t.Errorf("there are %d", n)
	}
}
