package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"inos/host/api"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines passes on what a campaign says to the log of a test.
type lines struct{ t *testing.T }

func (l lines) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func TestNodeSurvivesATenthOfTheCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than a minute")
	}
	// Other tests run at the same time, so nothing here is about speed.
	v, err := run(t.Context(), options{kills: 50, swaps: 20, hostKills: 5, bad: 10, slack: 6}, newProgress(lines{t}, 10*time.Second))
	if err != nil {
		t.Error(err)
	}
	t.Log(v)
	if !v.clean() {
		t.Error("the campaign found something: run make torture with its seed")
	}
	if v.jobs < 100 {
		t.Errorf("only %d jobs were done", v.jobs)
	}
}

func TestVerdictIsOneLineOfAFixedForm(t *testing.T) {
	form := regexp.MustCompile(`^torture: seed=\d+ jobs=\d+ lost=\d+ duplicated=\d+ wrong=\d+ leaked_bytes=\d+ leaked_fds=\d+ orphans=\d+ swap_p99_ms=\d+ added_p99_ms=\d+$`)
	if v := (verdict{seed: 1, jobs: 2, swap: time.Second}); !form.MatchString(v.String()) || !v.clean() {
		t.Errorf("%s", v)
	}
	for _, v := range []verdict{{lost: 1}, {doubled: 1}, {wrong: 1}, {leakedBytes: 1}, {leakedFDs: 1}, {orphans: 1}} {
		if v.clean() {
			t.Errorf("%s is taken for clean", v)
		}
	}
}

// answerTo is the right answer to a job.
func answerTo(t *testing.T, key string, size int64) []byte {
	t.Helper()
	b := make([]byte, size)
	if n, err := newInput(key, size).Read(b); int64(n) != size {
		t.Fatal(n, err)
	}
	keystream(key).XORKeyStream(b, b)
	return b
}

func TestWrongAnswersAreFound(t *testing.T) {
	const key, size = "mill.mix/1", 100_000
	right := answerTo(t, key, size)
	changed := append([]byte{}, right...)
	changed[70_000] ^= 1
	for name, c := range map[string]struct {
		answer []byte
		right  bool
	}{
		"right": {right, true}, "a bit is wrong": {changed, false}, "short": {right[:size-1], false}, "none": {nil, false},
		"long": {append(append([]byte{}, right...), 0), false}, "of another job": {answerTo(t, "mill.mix/2", size), false},
	} {
		m := newMixed(key, size)
		for rest := c.answer; len(rest) > 0; { // in uneven pieces
			n := min(len(rest), 33_333)
			_, _ = m.Write(rest[:n])
			rest = rest[n:]
		}
		if err := m.err(); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h := hashed(key, size); h.err() == nil {
		t.Error("no answer is taken for a hash")
	}
}

// testBooks are books whose findings go to the log of a test.
func testBooks(t *testing.T) *books {
	t.Helper()
	b, err := newBooks(t.TempDir(), newProgress(lines{t}, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLedgerIsComparedWithWhatWasAcknowledged(t *testing.T) {
	for _, c := range []struct {
		name, ledger   string
		expect         map[string]expected
		doubled, wrong uint64
	}{
		{"each ran once", "a\nb\n", map[string]expected{"a": ranOnce, "b": mayHave}, 0, 0},
		{"one did not get to run", "a\n", map[string]expected{"a": ranOnce, "b": mayHave, "c": neverRan}, 0, 0},
		{"one ran twice", "a\nb\na\n", map[string]expected{"a": ranOnce, "b": ranOnce}, 1, 0},
		{"a refused one ran", "a\n", map[string]expected{"a": neverRan}, 1, 0},
		{"one that ended well did not run", "", map[string]expected{"a": ranOnce}, 0, 1},
		{"nobody asked", "x\n", nil, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := testBooks(t)
			for key, e := range c.expect {
				b.expect(key, e)
			}
			if err := os.WriteFile(b.ledger, []byte(c.ledger), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := b.settle(); err != nil {
				t.Fatal(err)
			}
			if b.doubled != c.doubled || b.wrong != c.wrong {
				t.Errorf("%d doubled and %d wrong, want %d and %d", b.doubled, b.wrong, c.doubled, c.wrong)
			}
		})
	}
}

func TestNumbersAreGivenOnceInALife(t *testing.T) {
	b := testBooks(t)
	b.number(1, 7, "a")
	b.number(2, 7, "b")
	if b.wrong != 0 {
		t.Error("the same number in another life was found")
	}
	if b.number(1, 7, "c"); b.wrong != 1 {
		t.Error("a number that was given twice was not found")
	}
}

func TestOutcomesAreJudgedByWhatWasDone(t *testing.T) {
	unknown := wire.NewError(base.Code_outcomeUnknown, "", "who knows")
	plain := wire.NewError(base.Code_unavailable, "", "not now")
	for _, c := range []struct {
		name  string
		job   job
		fault *fault
		id    string
		err   error
		lost  bool
	}{
		{"no fault, unknown", newJob(mill, "once", 64), nil, "1", unknown, true},
		{"kill, unknown", newJob(mill, "once", 64), &fault{kind: killing, module: mill}, "1", unknown, false},
		{"kill of another module", newJob(mill, "once", 64), &fault{kind: killing, module: forge}, "1", unknown, true},
		{"swap, unknown", newJob(mill, "once", 64), &fault{kind: swapping, module: mill}, "1", unknown, true},
		{"kill, known to have failed", newJob(mill, "once", 64), &fault{kind: killing, module: mill}, "1", plain, true},
		{"kill, could have run again", newJob(mill, "mix", 64), &fault{kind: killing, module: mill}, "1", unknown, true},
		{"kill, part of the output was out", newJob(mill, "mix", big), &fault{kind: killing, module: mill}, "1", unknown, false},
		{"refused without a fault", newJob(mill, "mix", 64), nil, "", plain, true},
		{"refused in a swap", newJob(mill, "mix", 64), &fault{kind: swapping, module: mill}, "", plain, true},
		{"refused after a kill", newJob(mill, "mix", 64), &fault{kind: killing, module: mill}, "", plain, false},
		{"the node was killed", newJob(mill, "mix", 64), &fault{kind: hosting}, "1", unknown, false},
		{"a bad version that must not serve", newJob(mill, "mix", 64), &fault{kind: spoiling, module: mill}, "1", plain, true},
		{"hung", newJob(mill, "mix", 64), &fault{kind: killing, module: mill}, "1", errHung, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := testBooks(t)
			k := &campaign{books: b, log: b.log}
			from := time.Now()
			if c.fault != nil {
				defer k.faults.begin(*c.fault)()
			}
			k.judge(c.job, c.job.judge(), outcome{res: api.RunResult{Job: c.id}, err: c.err, from: from, to: time.Now()})
			if lost := b.lost == 1; lost != c.lost {
				t.Errorf("lost: %v, want %v", lost, c.lost)
			}
		})
	}
}

func TestSpansAreJoinedAndFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(n int) time.Time { return time.Unix(int64(n), 0) }
		stretch := func(name string) (int, int) {
			from := rapid.IntRange(0, 100).Draw(t, name)
			return from, from + rapid.IntRange(1, 20).Draw(t, name+" length")
		}
		var line timeline
		covered := make(map[int]bool) // seconds in which some fault was
		for range rapid.IntRange(0, 10).Draw(t, "faults") {
			from, to := stretch("fault")
			line.list = append(line.list, &fault{kind: killing, module: mill, from: at(from), to: at(to)})
			for s := from; s < to; s++ {
				covered[s] = true
			}
		}
		joined := line.spans(mill, func(fault) bool { return true })
		for i := 1; i < len(joined); i++ {
			if !joined[i].from.After(joined[i-1].to) {
				t.Fatalf("%v and %v were not joined", joined[i-1], joined[i])
			}
		}
		from, to := stretch("asked")
		want := false
		for s := from; s < to; s++ {
			want = want || covered[s]
		}
		if got := (span{at(from), at(to)}).touches(joined); got != want {
			t.Fatalf("%d to %d touches %v: %v, want %v", from, to, joined, got, want)
		}
		if got := len(line.during(mill, at(from), at(to), killing)) > 0; got != want {
			t.Fatalf("during %d to %d: %v, want %v", from, to, got, want)
		}
		if line.during(forge, at(0), at(1000), killing) != nil {
			t.Fatal("a fault of one module was found for another")
		}
	})
}

func TestFilesComeWholeInEveryWay(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			dir := t.TempDir()
			f := folder{filepath.Join(dir, "plugins"), filepath.Join(dir, "aside")}
			for _, d := range []string{f.dir, f.aside} {
				if err := os.Mkdir(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			k := &campaign{source: rand.New(rand.NewPCG(1, 1))}
			for _, text := range []string{"the first version", "and the second one"} {
				if err := w.drop(f, k.random(), "mill", []byte(text)); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(filepath.Join(f.dir, "mill")); err != nil || string(b) != text {
					t.Errorf("%q, %v", b, err)
				}
			}
			if err := f.rename(k.random(), "mill-1.0.7", nil); err != nil {
				t.Fatal(err)
			}
			if err := f.tidy("mill", "mill-1.0.7"); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(f.dir); err != nil || len(left) != 1 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}
