package state

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// block returns memory for a block that holds rubbish.
func block(half uint64) []byte { return bytes.Repeat([]byte{0xa5}, int(Size(half))) }

func TestSizeIsHeaderAndTwoAlignedHalves(t *testing.T) {
	for _, c := range []struct{ half, want uint64 }{
		{0, 64}, {1, 192}, {64, 192}, {65, 320}, {1 << 40, 64 + 2<<40},
		{math.MaxUint64, math.MaxUint64}, {math.MaxUint64 / 2, math.MaxUint64}, {1<<63 - 63, math.MaxUint64},
		{1<<63 - 64, math.MaxUint64 - 63}, {1<<63 - 127, math.MaxUint64 - 63}, {1<<63 - 128, math.MaxUint64 - 191},
	} {
		if got := Size(c.half); got != c.want {
			t.Errorf("half of %d: %d, want %d", c.half, got, c.want)
		}
	}
}

func TestFormattedBlockIsZeroAndCommitsAlternate(t *testing.T) {
	b, err := Format(block(100), 3)
	if err != nil {
		t.Fatal(err)
	}
	if b.Commits() != 0 || b.Schema() != 3 || !bytes.Equal(b.Current(), make([]byte, 128)) || len(b.Next()) != 128 {
		t.Fatalf("%d commits, schema %d, %x", b.Commits(), b.Schema(), b.Current())
	}
	for i := range byte(5) {
		next := b.Next()
		for j := range next {
			next[j] = i
		}
		b.Commit()
		if &b.Current()[0] != &next[0] || &b.Next()[0] == &next[0] || b.Commits() != uint64(i)+1 || b.Schema() != 3 {
			t.Fatalf("commit %d did not turn the halves over", i)
		}
	}
}

func TestAttachRefusesWhatIsNoBlock(t *testing.T) {
	whole := block(64)
	if _, err := Format(whole, 1); err != nil {
		t.Fatal(err)
	}
	with := func(at int, b ...byte) []byte {
		c := bytes.Clone(whole)
		copy(c[at:], b)
		return c
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"header alone":     whole[:HeaderSize],
		"one byte short":   whole[:len(whole)-1],
		"no magic":         make([]byte, 4096),
		"other magic":      with(0, 'x'),
		"half of nothing":  with(halfAt, 0),
		"uneven half":      with(halfAt, 63),
		"half too long":    with(halfAt, 128),
		"half wraps":       with(halfAt, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"twice half wraps": with(halfAt, 0, 0, 0, 0, 0, 0, 0, 0x80),
		"odd address":      append(make([]byte, 1), whole...)[1:],
	} {
		if _, err := Attach(b); !errors.Is(err, ErrNotState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, 63, 64, 191} {
		if _, err := Format(make([]byte, n), 1); !errors.Is(err, ErrNotState) {
			t.Errorf("formatted %d bytes: %v", n, err)
		}
	}
	if _, err := Attach(whole); err != nil {
		t.Errorf("the whole block: %v", err)
	}
}

// TestDeathAtAnyStepLeavesTheLastCommitWhole writes states step by step, each
// step being one store, and after every one looks at the memory as a successor
// would.
func TestDeathAtAnyStepLeavesTheLastCommitWhole(t *testing.T) {
	memory := block(64)
	b, err := Format(memory, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	var schema uint32
	check := func(step string) {
		t.Helper()
		successor, err := Attach(bytes.Clone(memory))
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if !bytes.Equal(successor.Current(), want) || successor.Schema() != schema {
			t.Fatalf("%s: successor finds schema %d, %x, not schema %d, %x", step, successor.Schema(), successor.Current(), schema, want)
		}
	}
	want = make([]byte, 64)
	check("format")
	for commit := uint32(1); commit <= 6; commit++ {
		next := b.Next()
		for i := range next {
			next[i] = byte(commit)
			check("writing")
		}
		// What CommitAs does, store by store.
		commits := b.Commits()
		b.header.Store32(schemaAt+4*(commits&1^1), commit)
		check("schema written")
		b.header.Store64(commitsAt, commits+1)
		want, schema = bytes.Repeat([]byte{byte(commit)}, 64), commit
		check("committed")
	}
	copy(b.Next(), "the call itself")
	want = bytes.Clone(b.Next())
	schema = 99
	b.CommitAs(99)
	check("CommitAs")
}

func TestFormatAbandonedHalfWayIsNoBlock(t *testing.T) {
	memory := block(64)
	if _, err := Format(memory, 1); err != nil {
		t.Fatal(err)
	}
	clear(memory[:8]) // the first thing that formatting anew does
	if _, err := Attach(memory); !errors.Is(err, ErrNotState) {
		t.Errorf("half a block: %v", err)
	}
}

func TestSuccessorsSeeTheLastCommit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := block(uint64(rapid.IntRange(1, 300).Draw(t, "half")))
		b, err := Format(memory, 0)
		if err != nil {
			t.Fatal(err)
		}
		committed, commits := bytes.Clone(b.Current()), uint64(0)
		for range rapid.IntRange(0, 20).Draw(t, "lives") {
			for range rapid.IntRange(0, 3).Draw(t, "commits") {
				copy(b.Next(), rapid.SliceOfN(rapid.Byte(), 0, len(b.Next())).Draw(t, "state"))
				committed = bytes.Clone(b.Next())
				b.Commit()
				commits++
			}
			if rapid.Bool().Draw(t, "dies writing") {
				b.Next()[0]++
			}
			if b, err = Attach(memory); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Current(), committed) || b.Commits() != commits {
				t.Fatalf("after %d commits: %d, %x, want %x", commits, b.Commits(), b.Current(), committed)
			}
		}
	})
}

// FuzzAttach gives Attach any bytes: it must refuse them or give halves that lie
// inside, and no use of the block may panic.
func FuzzAttach(f *testing.F) {
	whole := block(64)
	if _, err := Format(whole, 7); err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:100])
	f.Add(bytes.Repeat([]byte{0xff}, 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(make([]byte, 0, len(b)+8), b...)
		s, err := Attach(b)
		if err != nil {
			if !errors.Is(err, ErrNotState) {
				t.Fatal(err)
			}
			return
		}
		if HeaderSize+len(s.Current())+len(s.Next()) > len(b) || len(s.Current()) != len(s.Next()) {
			t.Fatalf("halves of %d and %d bytes in %d", len(s.Current()), len(s.Next()), len(b))
		}
		copy(s.Next(), "state")
		s.CommitAs(s.Schema() + 1)
		s.Commit()
	})
}

func BenchmarkCommit(b *testing.B) {
	s, err := Format(block(1<<20), 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Next()[0]++
		s.Commit()
	}
}
