package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

// past makes a journal that holds jobs which have ended and jobs which wait, and
// closes it.
func past(t *testing.T, h *theatre, dir string) (ended, waiting []uint64) {
	t.Helper()
	a := h.attach(reply, again)
	j := h.open(dir)
	for _, n := range []int{0, 100, inlineLimit + 1} {
		ended = append(ended, h.submit(j, ask(again, bytesOf(n))).ID)
	}
	for _, id := range ended {
		h.expect(j, id, compute.Status_success)
	}
	j.mu.Lock()
	// Nothing is started any more, not even in the places that jobs give back which
	// have ended this moment.
	j.lanes[again.Name] = newLane(again.Name, -len(ended))
	j.mu.Unlock()
	for _, n := range []int{0, 100, inlineLimit + 1} {
		waiting = append(waiting, h.submit(j, ask(again, bytesOf(n))).ID)
	}
	h.shut(j)
	a.die()
	return ended, waiting
}

// tamper changes a database that is closed.
func tamper(t *testing.T, dir string, f func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "journal.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in the middle of a record.
func flip(b bucket, id uint64) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		v := bytes.Clone(tx.Bucket([]byte(b)).Get(key(id)))
		if v == nil {
			return fmt.Errorf("there is no record of %x among the %s", id, b)
		}
		v[len(v)/2] ^= 4
		return tx.Bucket([]byte(b)).Put(key(id), v)
	}
}

func remove(b bucket, id uint64) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(b)).Delete(key(id)) }
}

func TestDamageHarmsNoOtherJob(t *testing.T) {
	const small, large = 1, 2 // among three
	file := func(change func(path string) error, id uint64, of side) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := change(filepath.Join(dir, "spool", fmt.Sprintf("%016x%s", id, of))); err != nil {
				t.Fatal(err)
			}
		}
	}
	record := func(f func(*bolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) { tamper(t, dir, f) }
	}
	cut := func(path string) error { return os.Truncate(path, inlineLimit) }
	turn := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)-1] ^= 1
		return os.WriteFile(path, b, 0o600)
	}
	for name, c := range map[string]struct {
		harm   func(ended, waiting []uint64) func(*testing.T, string)
		over   bool // the job had ended
		which  int
		result bool // only its result is harmed
	}{
		"request record": {func(_, w []uint64) func(*testing.T, string) { return record(flip(requests, w[large])) }, false, large, false},
		"ending record":  {func(e, _ []uint64) func(*testing.T, string) { return record(flip(endings, e[large])) }, true, large, false},
		"input":          {func(_, w []uint64) func(*testing.T, string) { return record(flip(inputs, w[small])) }, false, small, false},
		"input gone":     {func(_, w []uint64) func(*testing.T, string) { return record(remove(inputs, w[small])) }, false, small, false},
		"input file gone": {func(_, w []uint64) func(*testing.T, string) {
			return file(os.Remove, w[large], inputSide)
		}, false, large, false},
		"input file cut":     {func(_, w []uint64) func(*testing.T, string) { return file(cut, w[large], inputSide) }, false, large, false},
		"input file turned":  {func(_, w []uint64) func(*testing.T, string) { return file(turn, w[large], inputSide) }, false, large, false},
		"result":             {func(e, _ []uint64) func(*testing.T, string) { return record(flip(results, e[small])) }, true, small, true},
		"result gone":        {func(e, _ []uint64) func(*testing.T, string) { return record(remove(results, e[small])) }, true, small, true},
		"result file gone":   {func(e, _ []uint64) func(*testing.T, string) { return file(os.Remove, e[large], resultSide) }, true, large, true},
		"result file cut":    {func(e, _ []uint64) func(*testing.T, string) { return file(cut, e[large], resultSide) }, true, large, true},
		"result file turned": {func(e, _ []uint64) func(*testing.T, string) { return file(turn, e[large], resultSide) }, true, large, true},
	} {
		t.Run(name, func(t *testing.T) {
			h, dir := newTheatre(t), t.TempDir()
			over, waiting := past(t, h, dir)
			hurt := waiting[c.which]
			if c.over {
				hurt = over[c.which]
			}
			c.harm(over, waiting)(t, dir)
			h.attach(reply, again)
			j := h.open(dir)
			for i, id := range append(over, waiting...) {
				if id != hurt {
					h.expect(j, id, compute.Status_success)
					if got := h.result(j, id); !bytes.Equal(got, turned(bytesOf([]int{0, 100, inlineLimit + 1}[i%3]))) {
						t.Errorf("job %d gave %d bytes, and not its own", i, len(got))
					}
				}
			}
			var err error
			if c.result {
				h.expect(j, hurt, compute.Status_success)
				var r io.ReadCloser
				if r, _, err = j.Result(hurt); err == nil {
					_, err = io.ReadAll(r)
					_ = r.Close()
				}
			} else {
				err = h.expect(j, hurt, compute.Status_failed).Outcome.Err
			}
			if !errors.Is(err, wire.ErrDataLoss) || !strings.Contains(err.Error(), fmt.Sprintf("%x", hurt)) {
				t.Errorf("the job that was hurt says %v", err)
			}
			h.shut(j)
			j = h.open(dir) // and stays as it is
			if job, err := j.Get(hurt); err != nil || !job.Over() {
				t.Errorf("%+v, %v", job, err)
			}
			for _, id := range append(over, waiting...) {
				if err := j.Discard(id); err != nil {
					t.Error(err)
				}
			}
			if s := j.Stats(); s.Bytes != 0 {
				t.Errorf("something is left: %+v", s)
			}
			holdsFiles(t, dir, 0)
		})
	}
}

// TestDamagedDatabaseEndsNoNode overwrites every page in several ways. What then
// opens must go on, and what does not must say what to do.
func TestDamagedDatabaseEndsNoNode(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	past(t, h, dir)
	whole, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	refusals := 0
	try := func(name string, b []byte) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "journal.db"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := Open(dir, Options{Engine: h.engine})
			if err != nil {
				if refusals++; !errors.Is(err, wire.ErrDataLoss) || wire.AsError(err).Hint == "" {
					t.Errorf("it does not say that it is damaged and what to do: %v", err)
				}
				again, second := Open(dir, Options{Engine: h.engine})
				if second == nil {
					h.crash(again)
				} else if errors.Is(second, wire.ErrUnavailable) {
					t.Errorf("the file is still locked: %v", second)
				}
				return
			}
			for _, job := range j.List(0) {
				if _, err := j.Wait(within(t), job.ID); err != nil && j.Stats().Err == nil {
					t.Error(err)
				}
				_ = j.Discard(job.ID) // as far as it can
			}
			h.crash(j)
		})
	}
	h.attach(reply, again)
	for at := 0; at+page <= len(whole); at += page {
		if zero := make([]byte, page); bytes.Equal(whole[at:at+page], zero) {
			continue // bolt has never used it
		}
		for name, harm := range map[string]func(p []byte){
			"zeroed": func(p []byte) { clear(p) },
			"random": func(p []byte) {
				for i := 0; i < len(p); i += 8 {
					binary.LittleEndian.PutUint64(p[i:], random.Uint64())
				}
			},
			"flipped": func(p []byte) { p[random.IntN(64)] ^= 1 << random.IntN(8) },
		} {
			b := bytes.Clone(whole)
			harm(b[at : at+page])
			try(fmt.Sprintf("page-%d-%s", at/page, name), b)
		}
	}
	for _, n := range []int{1, page, 2 * page, 3*page + 7, len(whole) / 2} {
		try(fmt.Sprintf("cut-%d", n), whole[:n])
	}
	try("text", bytes.Repeat([]byte("not a database\n"), 1<<12))
	if refusals == 0 {
		t.Error("nothing was refused")
	}
}
