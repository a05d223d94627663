package failpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var (
	tested = New("failpoint/tested")
	other  = New("failpoint/other")
)

// child names what a process does that a test started.
const child = "INOS_FAILPOINT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		fmt.Println(tested.Hit())
		return
	}
	os.Exit(m.Run())
}

// outcomes describes what n hits did.
func outcomes(t *testing.T, terms string, n int) string {
	t.Helper()
	restore, err := Enable("failpoint/tested", terms)
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	var list []string
	for range n {
		func() {
			defer func() {
				if r := recover(); r != nil {
					list = append(list, fmt.Sprint("panic ", r.(*Error).Text))
				}
			}()
			k, err := tested.Torn(10)
			var e *Error
			switch {
			case err == nil:
				list = append(list, "-")
			case k > 0:
				list = append(list, fmt.Sprint("torn ", k))
			case errors.As(err, &e):
				list = append(list, e.Text)
			}
		}()
	}
	return strings.Join(list, ", ")
}

func TestTermsFollowEachOther(t *testing.T) {
	for _, c := range []struct{ terms, want string }{
		{"", "-, -, -, -"},
		{"error(x)", "x, x, x, x"},
		{"1*error(x)", "x, -, -, -"},
		{"2*off->1*error(x)->panic(y)", "-, -, x, panic y"},
		{"1*torn(3)->1*delay(1ms)->error()", "torn 3, -, , "},
		{"1*error(a;b=c->d(e))->error(f)", "a;b=c->d(e), f, f, f"},
		{" 1*off -> error(x) ", "-, x, x, x"},
		{"off", "-, -, -, -"},
		{"2*torn(20)->1*torn(0)->off", "torn 10, torn 10, only 0 of 10 bytes were written, -"},
		{"1*delay(0s)->2*panic()", "-, panic , panic , -"},
	} {
		if got := outcomes(t, c.terms, 4); got != c.want {
			t.Errorf("%q: %s, want %s", c.terms, got, c.want)
		}
	}
}

func TestBadTextIsRefused(t *testing.T) {
	for _, text := range []string{
		"x", "x=error()", "failpoint/tested=nothing", "failpoint/tested=0*off", "failpoint/tested=-1*off", "failpoint/tested=error(",
		"failpoint/tested=off->off", "failpoint/tested=delay(soon)", "failpoint/tested=delay(-1s)", "failpoint/tested=torn()",
		"failpoint/tested=kill(1)", "failpoint/tested=off;failpoint/tested=off", "failpoint/absent=off", "Failpoint/tested=off",
		"failpoint/tested=1*", "failpoint/tested=" + strings.Repeat("1*off->", maxTerms) + "off", strings.Repeat(" ", maxText+1),
	} {
		if err := Set(text); err == nil {
			t.Errorf("%.60q was taken", text)
		}
	}
	if Active() {
		t.Error("something was enabled by a bad text")
	}
}

func TestSetNamesSeveralPoints(t *testing.T) {
	defer func() { _ = Set("failpoint/tested=;failpoint/other=") }()
	if err := Set("failpoint/tested=1*error(a;b);failpoint/other=error(c);"); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if err := tested.Hit(); !errors.As(err, &e) || e.Point != "failpoint/tested" || e.Text != "a;b" {
		t.Errorf("tested: %v", err)
	}
	if err := other.Hit(); err == nil || err.Error() != "failpoint failpoint/other: c" {
		t.Errorf("other: %v", err)
	}
	if !Active() {
		t.Error("other holds for ever, yet nothing is active")
	}
	if err := Set("failpoint/other=off;failpoint/absent=kill"); err == nil || other.Hit() == nil {
		t.Errorf("a text that names an absent point: %v, or it was followed in part", err)
	}
	if err := Set("failpoint/other="); err != nil || Active() || other.Hit() != nil {
		t.Errorf("no terms do not turn it off: %v", err)
	}
}

func TestRestoreSetsBackWhatWasThere(t *testing.T) {
	outer, err := Enable("failpoint/tested", "1*off->error(outer)")
	if err != nil {
		t.Fatal(err)
	}
	_ = tested.Hit()
	inner, err := Enable("failpoint/tested", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := tested.Hit(); err != nil {
		t.Errorf("no terms: %v", err)
	}
	inner()
	if tested.Hit() == nil {
		t.Error("the first terms are gone, or counted anew")
	}
	outer()
	if err := tested.Hit(); err != nil || Active() {
		t.Errorf("after all was set back: %v", err)
	}
	if _, err := Enable("failpoint/absent", "kill"); err == nil {
		t.Error("an absent point was enabled")
	}
}

func TestNamesListsWhatIsDeclared(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"failpoint/other", "failpoint/tested"}) {
		t.Errorf("%q", got)
	}
}

func TestNamesAreUniqueAndWellFormed(t *testing.T) {
	for _, name := range []string{"failpoint/tested", "x", "", "X/y", "a/", "/a", "a b/c"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken", name)
				}
			}()
			New(name)
		}()
	}
}

func TestCountsHoldAmongManyGoroutines(t *testing.T) {
	restore, err := Enable("failpoint/tested", "100*error(x)")
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	var failed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if tested.Hit() != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() != 100 || Active() {
		t.Errorf("%d hits failed, still active: %v", failed.Load(), Active())
	}
}

func TestOffCostsNoMemory(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() {
		_ = tested.Hit()
		_, _ = tested.Torn(10)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEnvironmentIsReadAtTheStart(t *testing.T) {
	run := func(points string) (string, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"=1", Env+"="+points)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("failpoint/tested=error(told to)"); err != nil || !strings.Contains(out, "told to") {
		t.Errorf("%q, %v", out, err)
	}
	var exit *exec.ExitError
	if out, err := run("nonsense"); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out, Env) {
		t.Errorf("nonsense: %q, %v", out, err)
	}
	if _, err := run("failpoint/tested=kill"); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("kill: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a/b=1*off->error(x);c/d=delay(1s)")
	f.Add("a/b=torn(3)")
	f.Fuzz(func(t *testing.T, text string) {
		plans, err := parse(text)
		if err != nil {
			return
		}
		for name, terms := range plans {
			if !wellFormed.MatchString(name) || len(terms) > maxTerms {
				t.Errorf("%q: %d terms", name, len(terms))
			}
		}
	})
}

func BenchmarkHitOff(b *testing.B) {
	for b.Loop() {
		if err := tested.Hit(); err != nil {
			b.Fatal(err)
		}
	}
}
