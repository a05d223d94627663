package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"inos/host/dispatch"
	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

// lifeDir names the folder in which a child process lives a life of a journal.
const lifeDir = "INOS_JOURNAL_LIFE"

// deeds are what a life does, each with a key of its own: small and large ones,
// such as may run twice and such as must not.
var deeds = []struct {
	name       string
	capability wire.Capability
	size       int
}{
	{"again-small", again, 100},
	{"once-small", once, 200},
	{"again-large", again, inlineLimit + 300},
	{"once-large", once, chunk + 400},
}

// deed is the request of one of them.
func deed(i int, round string) dispatch.Request {
	r := ask(deeds[i].capability, bytesOf(deeds[i].size))
	r.Key = round + "-" + deeds[i].name
	return r
}

// stage attaches an actor that notes each job in the file before it plays it, so
// that what was begun is known however the process ends.
func (h *theatre) stage(dir string) {
	h.Helper()
	ran, err := os.OpenFile(filepath.Join(dir, "ran"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = ran.Close() })
	h.attach(func(a *actor, k task) {
		_, _ = fmt.Fprintf(ran, "%x\n", k.id)
		reply(a, k)
	}, again, once)
}

// TestLife is the child process of the tests below, which mostly ends in the
// middle of it. What it prints, the parent holds against what it finds.
func TestLife(t *testing.T) {
	dir := os.Getenv(lifeDir)
	if dir == "" {
		t.Skip("it is the child of other tests")
	}
	h := newTheatre(t)
	h.stage(dir)
	j := h.open(filepath.Join(dir, "journal"))
	say := func(what string, id uint64) { _, _ = fmt.Fprintf(os.Stdout, "%s %x\n", what, id) }
	live := func(i int, round string) (id uint64) {
		id = h.submit(j, deed(i, round)).ID
		say("acknowledged", id)
		job, err := j.Wait(within(t), id)
		if err != nil {
			t.Fatal(err)
		}
		say("ended:"+job.State, id)
		return id
	}
	for i := range deeds {
		id := live(i, "left")
		say("leaving", id)
		if err := j.Discard(id); err != nil {
			t.Fatal(err)
		}
		say("left", id)
	}
	var all sync.WaitGroup
	for i := range deeds {
		all.Go(func() { live(i, "kept") })
	}
	all.Wait()
}

// child is a command that runs one test of this binary.
func child(ctx context.Context, t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, self, "-test.run=^"+test+"$")
	c.Env = append(os.Environ(), env...)
	return c
}

// rerun runs a test in a process of its own, which must succeed.
func rerun(t *testing.T, test string, env ...string) {
	t.Helper()
	if out, err := child(within(t), t, test, env...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// live lives a life in a child process, and reports whether it was killed.
// Said is what it printed, by job.
func live(t *testing.T, dir, failpoints string, said map[string][]string) (killed bool) {
	t.Helper()
	ctx := within(t)
	c := child(ctx, t, "TestLife", lifeDir+"="+dir, failpoint.Env+"="+failpoints, "TMPDIR="+dir)
	var out, complaints bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaints
	err := c.Run()
	for s := bufio.NewScanner(bytes.NewReader(out.Bytes())); s.Scan(); {
		if what, id, ok := strings.Cut(s.Text(), " "); ok {
			said[id] = append(said[id], what)
		}
	}
	if w, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() && w.Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return true
	}
	if err != nil {
		t.Fatalf("a life with %q: %v\n%s%s", failpoints, err, out.Bytes(), complaints.Bytes())
	}
	return false
}

// inspect opens what the lives before have left, and holds it against what they
// said. It returns how many jobs ended as outcome unknown.
func inspect(t *testing.T, dir string, said map[string][]string) (unknown int) {
	t.Helper()
	h := newTheatre(t)
	h.stage(dir)
	home := filepath.Join(dir, "journal")
	j := h.open(home)
	found := map[string]Job{}
	files := 0
	for _, job := range j.List(0) {
		job, err := j.Wait(within(t), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		found[fmt.Sprintf("%x", job.ID)] = job
		status := job.Outcome.Status
		if status != compute.Status_success && (job.Capability != once.Name || status != compute.Status_outcomeUnknown) {
			t.Errorf("%s ended as %s: %v", job.Key, job.State, job.Outcome.Err)
		}
		if status == compute.Status_outcomeUnknown {
			unknown++
		}
		want := []byte{}
		if status == compute.Status_success {
			if want = turned(bytesOf(int(job.InBytes))); len(want) > inlineLimit {
				files++
			}
		}
		if got := h.result(j, job.ID); !bytes.Equal(got, want) {
			t.Errorf("%s ended as %s with %d bytes, not with the %d it should have", job.Key, job.State, len(got), len(want))
		}
	}
	ran := map[string]int{}
	list, err := os.ReadFile(filepath.Join(dir, "ran"))
	if err != nil {
		t.Fatal(err)
	}
	for id := range strings.FieldsSeq(string(list)) {
		ran[id]++
	}
	for id, job := range found {
		n := ran[id]
		if job.Capability == once.Name && (n > 1 || n == 0 && job.Outcome.Status == compute.Status_success) {
			t.Errorf("%s was begun %d times and ended as %s", job.Key, n, job.State)
		}
	}
	for id, words := range said {
		job, is := found[id]
		for _, w := range words {
			state, end := strings.CutPrefix(w, "ended:")
			switch {
			case w == "acknowledged" && !is && words[len(words)-1] != "leaving" && words[len(words)-1] != "left":
				t.Errorf("job %s was acknowledged and is gone", id)
			case w == "left" && is:
				t.Errorf("%s was discarded and is there", job.Key)
			case end && is && state != job.State:
				t.Errorf("%s ended as %s, and as %s before", job.Key, job.State, state)
			}
		}
	}
	holdsFiles(t, home, files)
	for _, job := range found {
		if err := j.Discard(job.ID); err != nil {
			t.Error(err)
		}
	}
	if s := j.Stats(); s.Bytes != 0 || s.Ended+s.Waiting+s.Running != 0 {
		t.Errorf("something is left: %+v", s)
	}
	holdsFiles(t, home, 0)
	h.shut(j)
	return unknown
}

// points are those of the journal.
func points() (list []string) {
	for _, n := range failpoint.Names() {
		if strings.HasPrefix(n, "journal/") {
			list = append(list, n)
		}
	}
	return list
}

// trial is one or more lives, each with failpoints of its own, of one journal.
type trial struct {
	lives   []string
	must    bool // each of them is killed
	unknown int  // so many jobs at least end as outcome unknown
	dir     string
	said    map[string][]string
}

// try lives the lives side by side, and inspects what they left one after the
// other, since each inspection counts the descriptors that it leaves open.
func try(t *testing.T, trials []*trial) {
	name := func(c *trial) string { return strings.ReplaceAll(strings.Join(c.lives, " "), "/", "-") }
	for _, c := range trials {
		c.dir, c.said = t.TempDir(), map[string][]string{}
	}
	t.Run("live", func(t *testing.T) {
		for _, c := range trials {
			t.Run(name(c), func(t *testing.T) {
				t.Parallel()
				for _, l := range c.lives {
					if killed := live(t, c.dir, l, c.said); c.must && !killed {
						t.Errorf("%s was never hit", l)
					}
				}
			})
		}
	})
	for _, c := range trials {
		t.Run(name(c), func(t *testing.T) {
			if n := inspect(t, c.dir, c.said); n < c.unknown {
				t.Errorf("%d jobs ended as outcome unknown, and at least %d had been started", n, c.unknown)
			}
		})
	}
}

func TestNothingAcknowledgedIsLostByAKill(t *testing.T) {
	// The second job is the first that must not run twice.
	trials := []*trial{
		{lives: []string{"journal/start/before=1*off->kill"}, must: true},
		{lives: []string{"journal/start/after=1*off->kill"}, must: true, unknown: 1},
		{lives: []string{"journal/end/before=1*off->kill"}, must: true, unknown: 1},
	}
	for _, p := range points() {
		trials = append(trials, &trial{lives: []string{p + "=kill"}, must: true})
		if testing.Short() || p == "journal/recover" { // which a life comes to once
			continue
		}
		trials = append(trials, &trial{lives: []string{p + "=3*off->kill"}})
	}
	try(t, trials)
}

// TestNothingIsLostByAKillWhileAnotherIsMended kills a second life that goes on
// where the first was killed.
func TestNothingIsLostByAKillWhileAnotherIsMended(t *testing.T) {
	if testing.Short() {
		t.Skip("one kill is enough for a short test")
	}
	var trials []*trial
	for _, first := range []string{"journal/start/after=1*off->kill", "journal/end/before=6*off->kill"} {
		for _, second := range []string{"recover", "commit/before", "commit/inside", "commit/after", "spool/remove", "run/submit"} {
			trials = append(trials, &trial{lives: []string{first, "journal/" + second + "=kill"}, must: true})
		}
	}
	try(t, trials)
}
