package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// stocked opens a store and a folder with one plugin in it.
func stocked(t *testing.T) (s *Store, dir, path string) {
	t.Helper()
	dir = folder(t)
	path = filepath.Join(dir, "plugin")
	put(t, path, script, 0o755)
	s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s, dir, path
}

// leftovers lists the copies that were not finished.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, incoming+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAdmitStoresWhatCanRun(t *testing.T) {
	s, dir, path := stocked(t)
	e, err := s.Admit(only(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(script)))
	want := Entry{Name: "plugin", Path: filepath.Join(s.dir, digest, "plugin"), Digest: digest, Size: int64(len(script)), Kind: Script, Source: path}
	if e != want {
		t.Fatalf("got %+v\nwant %+v", e, want)
	}
	for file, mode := range map[string]os.FileMode{s.dir: 0o700, filepath.Dir(e.Path): 0o700, e.Path: 0o500} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %v", file, info.Mode(), err, mode)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(e.Path).CombinedOutput(); err != nil || string(out) != "served\n" {
		t.Fatalf("the copy says %q, %v", out, err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

func TestAdmitKeepsVersionsSideBySide(t *testing.T) {
	s, dir, path := stocked(t)
	first, err := s.Admit(only(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, script+"# second\n", 0o755)
	second, err := s.Admit(only(t, dir))
	if err != nil || second.Digest == first.Digest {
		t.Fatalf("got %+v, %v", second, err)
	}
	back, err := s.Get(first.Digest, first.Name)
	first.Source = ""
	if err != nil || back != first {
		t.Fatalf("got %+v, %v; want %+v", back, err, first)
	}
	removed, err := s.Prune([]string{second.Digest})
	if err != nil || len(removed) != 1 || removed[0] != first.Digest {
		t.Fatalf("pruned %v, %v", removed, err)
	}
	if _, err := s.Get(first.Digest, first.Name); !errors.Is(err, ErrNotStored) {
		t.Errorf("got %v after it was pruned", err)
	}
	if _, err := s.Get(second.Digest, second.Name); err != nil {
		t.Errorf("the one that was kept: %v", err)
	}
}

func TestAdmitRefusesWhatChangedSinceItWasInspected(t *testing.T) {
	s, dir, path := stocked(t)
	c := only(t, dir)
	put(t, path, strings.Replace(script, "served", "stolen", 1), 0o755)
	if _, err := s.Admit(c); !errors.Is(err, Changed) {
		t.Fatalf("got %v", err)
	}
	// Even somebody who sets the clock back is seen by the size of what is read.
	c = only(t, dir)
	c.Size--
	if _, err := s.Admit(c); !errors.Is(err, Changed) {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(c); !errors.Is(err, Unreadable) {
		t.Fatalf("got %v", err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

func TestAdmitObeysTheChecksumList(t *testing.T) {
	s, dir, path := stocked(t)
	put(t, path+sumSuffix, strings.Repeat("0", 64)+"  plugin\n", 0o600)
	var r *Refusal
	if _, err := s.Admit(only(t, dir)); !errors.As(err, &r) || r.Reason != BadChecksum || r.File != path {
		t.Fatalf("got %v", err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
	put(t, path+sumSuffix, fmt.Sprintf("%x\n", sha256.Sum256([]byte(script))), 0o600)
	if e, err := s.Admit(only(t, dir)); err != nil || !e.Listed {
		t.Fatalf("got %+v, %v", e, err)
	}
}

func TestAdmitReplacesADamagedCopy(t *testing.T) {
	s, dir, _ := stocked(t)
	c := only(t, dir)
	e, err := s.Admit(c)
	if err != nil {
		t.Fatal(err)
	}
	put(t, e.Path, strings.Replace(script, "served", "stolen", 1), 0o500)
	if _, err := s.Get(e.Digest, e.Name); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v", err)
	}
	if again, err := s.Admit(c); err != nil || again != e {
		t.Fatalf("got %+v, %v", again, err)
	}
	if err := os.Chmod(e.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(e.Digest, e.Name); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a copy that can be written: %v", err)
	}
}

func TestAdmitPassesARefusalOn(t *testing.T) {
	s, _, _ := stocked(t)
	want := refuse(NotAPlugin, "it is a poem")
	if _, err := s.Admit(Candidate{Name: "poem", Err: want}); !errors.Is(err, want) {
		t.Fatalf("got %v", err)
	}
}

func TestAdmitTheSameBinaryFromManySides(t *testing.T) {
	s, dir, _ := stocked(t)
	c := only(t, dir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Admit(c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

func TestGetTakesNoPathForAName(t *testing.T) {
	s, dir, _ := stocked(t)
	e, err := s.Admit(only(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{"..", "plugin"}, {e.Digest, "../" + e.Digest + "/plugin"}, {"", ""}, {e.Digest, "other"}} {
		if _, err := s.Get(bad[0], bad[1]); !errors.Is(err, ErrNotStored) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOpenStoreTidiesUpAndStaysPrivate(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, incoming+"123"), "half", 0o600)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir); !errors.Is(err, UnsafePermissions) {
		t.Errorf("a store that anybody can write: %v", err)
	}
}

func TestReasonsHaveAWordAndAHint(t *testing.T) {
	seen := map[string]bool{}
	for r := NotAPlugin; r <= Changed; r++ {
		if seen[r.String()] || strings.Contains(r.String(), "reason-") || reasons[r].hint == "" {
			t.Errorf("reason %d: %q, %q", r, r, reasons[r].hint)
		}
		seen[r.String()] = true
	}
	if got := Reason(200).String(); got != "reason-200" {
		t.Errorf("got %q", got)
	}
}
