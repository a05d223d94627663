package supervisor

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// table is a table of processes that the test writes.
type table struct {
	dir  string
	next uint64 // start of the next process
}

func (b *table) add(t interface{ Fatal(...any) }, pid, parent, group int, marker string, resident uint64) {
	b.next++
	b.write(t, pid, parent, group, b.next, marker, resident)
}

func (b *table) write(t interface{ Fatal(...any) }, pid, parent, group int, start uint64, marker string, resident uint64) {
	dir := filepath.Join(b.dir, strconv.Itoa(pid))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pages := resident / uint64(os.Getpagesize())
	for file, text := range map[string]string{
		"stat":    fmt.Sprintf("%d (a) b) S %d %d 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 %d 0 0", pid, parent, group, start),
		"statm":   fmt.Sprintf("9999 %d 100 0 0 0 0", pages+100),
		"environ": "A=1\x00" + marker + "\x00B=2\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *table) remove(t interface{ Fatal(...any) }, pid int) {
	if err := os.RemoveAll(filepath.Join(b.dir, strconv.Itoa(pid))); err != nil {
		t.Fatal(err)
	}
}

func TestCensusKnowsWhoBelongsToWhom(t *testing.T) {
	b := &table{dir: t.TempDir()}
	c := newCensus(b.dir)
	b.add(t, 1, 0, 1, "", 0)
	b.add(t, 100, 1, 100, "INOS_PROCESS=A", 0)
	b.add(t, 200, 1, 200, "INOS_PROCESS=B", 0)
	one := &herd{leader: 100, marker: "INOS_PROCESS=A"}
	two := &herd{leader: 200, marker: "INOS_PROCESS=B"}
	c.join(one)
	c.join(two)
	expect := func(when string, h *herd, want ...int) {
		t.Helper()
		c.look()
		if got := slices.Sorted(maps.Keys(h.members)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	expect("alone", one, 100)
	b.add(t, 50, 51, 50, "", 0)              // a grandchild in a session of its own, with a lower number than its parent
	b.add(t, 51, 100, 51, "", 0)             // a child in a session of its own
	b.add(t, 52, 1, 100, "", 0)              // an orphan of the group
	b.add(t, 53, 1, 53, "INOS_PROCESS=A", 0) // an orphan of a session of its own
	b.add(t, 54, 1, 54, "INOS_PROCESS=AA", 0)
	b.add(t, 55, 200, 55, "INOS_PROCESS=A", 0) // it lies about whose it is
	expect("grown", one, 50, 51, 52, 53, 100)
	expect("grown", two, 55, 200)
	b.write(t, 50, 1, 50, 3, "", 0) // its parent ended: once a plugin's, always a plugin's
	b.remove(t, 51)
	expect("orphaned", one, 50, 52, 53, 100)
	b.remove(t, 100)
	b.remove(t, 52)
	expect("without leader", one, 50, 53)
}

func TestCensusTellsOfWhoIsAboveALimit(t *testing.T) {
	b := &table{dir: t.TempDir()}
	c := newCensus(b.dir)
	b.add(t, 100, 1, 100, "", 40<<20)
	b.add(t, 200, 1, 200, "", 400<<20)
	var told []string
	over := func(limit, why string) { told = append(told, limit+": "+why) }
	c.join(&herd{leader: 100, limits: Limits{Memory: 64 << 20}, over: over})
	c.join(&herd{leader: 200, limits: Limits{Processes: 5}, over: over})
	if c.look(); len(told) > 0 {
		t.Fatalf("told %q", told)
	}
	b.add(t, 101, 100, 101, "", 30<<20)
	if c.look(); !slices.Equal(told, []string{"the memory limit of 64 MiB: it had 70 MiB resident, above the memory limit of 64 MiB"}) {
		t.Errorf("told %q", told)
	}
	b.remove(t, 101)
	b.add(t, 201, 200, 201, "", 0)
	told = nil
	if c.look(); !slices.Equal(told, []string{"the limit of 5 processes and threads: it had 6 processes and threads, above the limit of 5 processes and threads"}) {
		t.Errorf("told %q", told)
	}
}

func TestCensusFindsEveryDescendantThatItCouldSee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "inos-test-") //nolint:usetesting // rapid has no folder for each try
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		b := &table{dir: dir}
		c := newCensus(dir)
		b.add(t, 10, 1, 10, "", 0)
		h := &herd{leader: 10}
		c.join(h)
		want := map[int]bool{10: true}
		pids := []int{1, 10}
		free := rapid.Permutation([]int{2, 3, 4, 5, 6, 11, 12, 13, 14, 15}).Draw(t, "numbers")
		for _, pid := range free {
			parent := rapid.SampledFrom(pids).Draw(t, "parent")
			b.add(t, pid, parent, pid, "", 0)
			want[pid] = want[parent]
			pids = append(pids, pid)
			if rapid.Bool().Draw(t, "look") {
				c.look()
			}
		}
		c.look()
		for pid, is := range want {
			if _, got := h.members[pid]; got != is && pid != 1 {
				t.Fatalf("process %d: %v, want %v", pid, got, is)
			}
		}
	})
}

func TestCensusKillsNobodyWhoHasTheNumberOfADeadOne(t *testing.T) {
	c := newCensus("/proc")
	self := os.Getpid()
	now, ok := readStat("/proc", self)
	if !ok {
		t.Fatal("this process has no status")
	}
	h := &herd{leader: 1 << 30, marker: "INOS_PROCESS=none", members: map[int]uint64{self: now.start + 1}}
	if killed := c.kill(h); len(killed) > 0 { // else there is nobody left to say so
		t.Errorf("killed %v", killed)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 42 0 0")
	f.Add("7 (a) b) Z 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 42")
	f.Add(") (")
	f.Fuzz(func(t *testing.T, line string) {
		if s, err := parseStat(line); err == nil && s.state == 0 {
			t.Fatalf("%q: %+v", line, s)
		}
	})
}

func TestLimitOfOpenFilesIsRaisedToWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct {
		name string
		now  unix.Rlimit
		set  error
		want uint64
		bad  bool
	}{
		{"raised", unix.Rlimit{Cur: 1024, Max: 4096}, nil, 4096, false},
		{"raised from too little", unix.Rlimit{Cur: 64, Max: 4096}, nil, 4096, false},
		{"refused but enough", unix.Rlimit{Cur: 1024, Max: Unlimited}, unix.EPERM, 1024, false},
		{"at the bound", unix.Rlimit{Cur: 300, Max: 300}, unix.EINVAL, 300, false},
		{"too low", unix.Rlimit{Cur: 64, Max: 128}, nil, 128, true},
		{"too low and refused", unix.Rlimit{Cur: 64, Max: 4096}, unix.EPERM, 64, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := tt.now
			got, err := raiseFileLimit(
				func(_ int, l *unix.Rlimit) error { *l = now; return nil },
				func(_ int, l *unix.Rlimit) error {
					if tt.set == nil {
						now = *l
					}
					return tt.set
				})
			if got != tt.want || (err != nil) != tt.bad {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
	if n, err := RaiseFileLimit(); err != nil || n < LeastFiles {
		t.Errorf("on this machine: %d, %v", n, err)
	}
}
