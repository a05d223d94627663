package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Times of the watchers here. Nothing is expected within them: they only say how
// soon what is waited for can come.
const (
	settle = 20 * time.Millisecond
	rescan = 50 * time.Millisecond
	never  = time.Hour // for a rescan that must not be what finds a change
	bound  = 30 * time.Second
)

// watch follows a folder until the test ends.
func watch(t *testing.T, dir string, o WatchOptions) *Watcher {
	t.Helper()
	if o.Settle == 0 {
		o.Settle = settle
	}
	if o.Rescan == 0 {
		o.Rescan = rescan
	}
	w, err := NewWatcher(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// until waits for the watcher to tell of a view that is as wanted.
func (w *Watcher) until(t *testing.T, what string, is func(stable []Candidate, settling []string) bool) []Candidate {
	t.Helper()
	late := time.NewTimer(bound)
	defer late.Stop()
	for {
		stable, settling := w.View()
		if is(stable, settling) {
			return stable
		}
		select {
		case <-w.Changes():
		case <-late.C:
			t.Fatalf("waited in vain for %s; stable are %+v, settling %q", what, stable, settling)
		}
	}
}

// holds waits until exactly these files are stable, and nothing else is under way.
func (w *Watcher) holds(t *testing.T, names ...string) []Candidate {
	t.Helper()
	return w.until(t, fmt.Sprintf("%q", names), func(stable []Candidate, settling []string) bool {
		return len(settling) == 0 && slices.EqualFunc(stable, names, func(c Candidate, n string) bool { return c.Name == n })
	})
}

// becomes waits until the only file is another than it was.
func (w *Watcher) becomes(t *testing.T, was Candidate) Candidate {
	t.Helper()
	return w.until(t, was.Name+" to change", func(stable []Candidate, settling []string) bool {
		return len(settling) == 0 && len(stable) == 1 && stable[0].Name == was.Name && !stable[0].Same(was)
	})[0]
}

// mode is a way of hearing of changes.
type mode struct {
	name string
	o    WatchOptions
}

// modes are the ways of hearing of changes, each alone.
var modes = []mode{{"told by the kernel", WatchOptions{Rescan: never}}, {"polling", WatchOptions{Poll: true}}}

// inEveryMode runs a test on a folder with one stable plugin.
func inEveryMode(t *testing.T, f func(t *testing.T, w *Watcher, dir string, was Candidate)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			dir := folder(t)
			put(t, filepath.Join(dir, "plugin"), script, 0o755)
			w := watch(t, dir, m.o)
			f(t, w, dir, w.holds(t, "plugin")[0])
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherSeesANewFile(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, _ Candidate) {
		put(t, filepath.Join(dir, "another"), string(tiny(t, nil)), 0o755)
		if list := w.holds(t, "another", "plugin"); list[0].Kind != ELF || list[0].Err != nil || list[1].Err != nil {
			t.Errorf("got %+v", list)
		}
	})
}

func TestWatcherSeesAFileRenamedOverAnother(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		put(t, filepath.Join(dir, ".next"), script, 0o755) // even when it is the same in size and content
		rename(t, filepath.Join(dir, ".next"), was.Path)
		if is := w.becomes(t, was); is.Stamp.Inode == was.Stamp.Inode || is.Err != nil {
			t.Errorf("got %+v", is)
		}
	})
}

func TestWatcherSeesAFileRewrittenInPlace(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		if err := os.WriteFile(was.Path, []byte(strings.Replace(script, "served", "better", 1)), 0); err != nil {
			t.Fatal(err)
		}
		if is := w.becomes(t, was); is.Stamp.Inode != was.Stamp.Inode || is.Size != was.Size || is.Err != nil {
			t.Errorf("got %+v", is)
		}
	})
}

func TestWatcherSeesAFileGo(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, _ string, was Candidate) {
		remove(t, was.Path)
		w.holds(t)
	})
}

func TestWatcherSeesAFileRenamed(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		rename(t, was.Path, filepath.Join(dir, "called-otherwise"))
		if is := w.holds(t, "called-otherwise")[0]; is.Stamp.Inode != was.Stamp.Inode {
			t.Errorf("got %+v", is)
		}
	})
}

func TestWatcherSeesAModeChange(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, _ string, was Candidate) {
		if err := os.Chmod(was.Path, 0o600); err != nil {
			t.Fatal(err)
		}
		if is := w.becomes(t, was); !errors.Is(is.Err, NotExecutable) {
			t.Errorf("got %+v", is)
		}
	})
}

// still is a watcher that looks only when the test has it look.
func still(t *testing.T, dir string) *Watcher {
	t.Helper()
	w := watch(t, dir, WatchOptions{Poll: true})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Whoever copies slowly pauses for longer than a file must be still.
func TestWatcherWaitsForAProgramThatGrowsSlowly(t *testing.T) {
	dir := folder(t)
	w := still(t, dir)
	whole := tiny(t, nil)
	path := filepath.Join(dir, "plugin")
	put(t, path, "", 0o755)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	now := time.Now()
	for part := range slices.Chunk(whole, len(whole)/4) {
		for _, pause := range []time.Duration{settle / 2, settle, settle, settle} {
			if s := w.update("plugin", now); s.candidate != nil {
				t.Fatalf("half a program counts: %+v", s.candidate)
			}
			now = now.Add(pause)
		}
		if _, err := f.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.update("plugin", now); s.candidate != nil {
		t.Fatalf("what was written a moment ago counts: %+v", s.candidate)
	}
	if s := w.update("plugin", now.Add(settle)); s.candidate == nil || s.candidate.Err != nil || int(s.candidate.Size) != len(whole) {
		t.Errorf("got %+v", s.candidate)
	}
}

func TestWatcherNeedNotWaitForAFileThatIsOld(t *testing.T) {
	dir := folder(t)
	w := still(t, dir)
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	later := time.Now().Add(time.Minute)
	if s := w.update("plugin", later); s.candidate == nil {
		t.Error("an old file must settle")
	}
	put(t, filepath.Join(dir, "plugin"), script+"#\n", 0o755)
	if s := w.update("plugin", later); s.candidate != nil {
		t.Error("a file that changed a moment ago need not settle")
	}
}

func TestWatcherRefusesAProgramThatStaysCutShort(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		put(t, was.Path, string(tiny(t, nil)[:70]), 0o755)
		if is := w.becomes(t, was); !errors.Is(is.Err, Truncated) {
			t.Errorf("got %+v", is)
		}
		put(t, was.Path, string(tiny(t, nil)), 0o755) // and takes it when it is whole after all
		w.until(t, "the whole program", func(stable []Candidate, _ []string) bool { return len(stable) == 1 && stable[0].Err == nil })
	})
}

func TestWatcherSeesALinkLedElsewhere(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			dir, elsewhere := folder(t), folder(t)
			for _, v := range []string{"v1", "v2"} {
				put(t, filepath.Join(elsewhere, v), script, 0o755)
				if err := os.Symlink(filepath.Join(elsewhere, v), filepath.Join(dir, ".to-"+v)); err != nil {
					t.Fatal(err)
				}
			}
			link := filepath.Join(dir, "plugin")
			rename(t, filepath.Join(dir, ".to-v1"), link)
			w := watch(t, dir, m.o)
			was := w.holds(t, "plugin")[0]
			rename(t, filepath.Join(dir, ".to-v2"), link)
			if is := w.becomes(t, was); filepath.Base(is.Target) != "v2" || !is.Linked() || is.Err != nil {
				t.Errorf("got %+v", is)
			}
		})
	}
}

// The kernel does not tell of what a link leads to.
func TestRescanSeesWhatALinkLeadsToChange(t *testing.T) {
	dir, elsewhere := folder(t), folder(t)
	target := filepath.Join(elsewhere, "target")
	put(t, target, script, 0o755)
	if err := os.Symlink(target, filepath.Join(dir, "plugin")); err != nil {
		t.Fatal(err)
	}
	w := watch(t, dir, WatchOptions{})
	was := w.holds(t, "plugin")[0]
	put(t, target, script+"# second\n", 0o755)
	is := w.becomes(t, was)
	if is.Err != nil || is.Size == was.Size {
		t.Errorf("got %+v", is)
	}
	remove(t, target)
	if gone := w.becomes(t, is); !errors.Is(gone.Err, Unreadable) {
		t.Errorf("got %+v", gone)
	}
}

func TestWatcherEndsUpWithTheLastOfRapidRewrites(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		last := ""
		for i := range 200 {
			last = fmt.Sprintf("%s# version %d%s\n", script, i, strings.Repeat("!", i))
			if i%2 == 0 {
				put(t, was.Path, last, 0o755)
				continue
			}
			put(t, filepath.Join(dir, ".next"), last, 0o755)
			rename(t, filepath.Join(dir, ".next"), was.Path)
		}
		is := w.until(t, "the last version", func(stable []Candidate, _ []string) bool {
			return len(stable) == 1 && int(stable[0].Size) == len(last)
		})[0]
		s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
		if err != nil {
			t.Fatal(err)
		}
		if e, err := s.Admit(is); err != nil || e.Digest != fmt.Sprintf("%x", sha256.Sum256([]byte(last))) {
			t.Errorf("admitted %+v, %v", e, err)
		}
	})
}

func TestWatcherSeesTheFolderRemovedAndMadeAgain(t *testing.T) {
	for _, m := range []mode{{"told and rescanning", WatchOptions{}}, {"polling", WatchOptions{Poll: true}}} {
		t.Run(m.name, func(t *testing.T) {
			dir := folder(t)
			put(t, filepath.Join(dir, "plugin"), script, 0o755)
			w := watch(t, dir, m.o)
			was := w.holds(t, "plugin")[0]
			for range 3 {
				remove(t, dir)
				w.holds(t)
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				put(t, filepath.Join(dir, "plugin"), script, 0o755)
				if is := w.holds(t, "plugin")[0]; is.Same(was) || is.Err != nil {
					t.Errorf("got %+v", is)
				}
			}
		})
	}
}

// A folder that took the place of the first must be told of, not only rescanned.
func TestNotificationsFollowTheNameOfTheFolder(t *testing.T) {
	dir := folder(t)
	w := watch(t, dir, WatchOptions{})
	remove(t, dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	w.holds(t, "plugin")
	if list := w.notify.WatchList(); !slices.Equal(list, []string{dir}) {
		t.Errorf("the kernel tells of %q", list)
	}
}

func TestFileBesideAPluginChangingCountsAsItsChange(t *testing.T) {
	for _, side := range []string{"plugin" + sumSuffix, "plugin" + sigSuffix, sumsName} {
		t.Run(side, func(t *testing.T) {
			inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
				path := filepath.Join(dir, side)
				put(t, path, "one\n", 0o600)
				one := w.becomes(t, was)
				put(t, path, "another\n", 0o600)
				another := w.becomes(t, one)
				remove(t, path)
				if is := w.becomes(t, another); !is.Same(was) || is.Stamp != was.Stamp {
					t.Errorf("without it, it is %+v and was %+v", is, was)
				}
			})
		})
	}
}

func TestFileBesideAnotherPluginIsNoChange(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, was Candidate) {
		put(t, filepath.Join(dir, "other"), script, 0o755)
		put(t, filepath.Join(dir, "other"+sigSuffix), "signed\n", 0o600)
		if list := w.holds(t, "other", "plugin"); !list[1].Same(was) {
			t.Errorf("got %+v, was %+v", list[1], was)
		}
	})
}

func TestLookThatSeesNothingNewIsNotTold(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	w := watch(t, dir, WatchOptions{Poll: true})
	was := w.holds(t, "plugin")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Changes(): // of before
	default:
	}
	put(t, filepath.Join(dir, ".hidden"), script, 0o755)
	for range 3 {
		if err := w.look(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-w.Changes():
		t.Error("told of a change that is none")
	default:
	}
	if is := w.Snapshot(); !slices.EqualFunc(is, was, Candidate.Same) {
		t.Errorf("got %+v, was %+v", is, was)
	}
}

func TestManyChangesAreToldOnce(t *testing.T) {
	dir := folder(t)
	w := still(t, dir)
	w.opts.Settle = time.Hour // none of them becomes stable meanwhile
	for i := range 5 {
		put(t, filepath.Join(dir, fmt.Sprintf("plugin-%d", i)), script, 0o755)
		if err := w.look(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.Changes()); n != 1 {
		t.Errorf("%d changes wait to be heard", n)
	}
	if stable, settling := w.View(); len(stable) != 0 || len(settling) != 5 {
		t.Errorf("stable %+v, settling %q", stable, settling)
	}
}

func TestWatcherBoundsWhatItTakes(t *testing.T) {
	dir := folder(t)
	for i := range 5 {
		put(t, filepath.Join(dir, fmt.Sprintf("plugin-%d", i)), script, 0o755)
	}
	w := watch(t, dir, WatchOptions{Limits: Limits{MaxFiles: 3, MaxBytes: 1 << 10}})
	names := []string{"plugin-0", "plugin-1", "plugin-2", "plugin-3", "plugin-4"}
	for i, c := range w.holds(t, names...) {
		if i < 3 && c.Err != nil || i >= 3 && !errors.Is(c.Err, TooMany) {
			t.Errorf("%s: %v", c.Name, c.Err)
		}
	}
	remove(t, filepath.Join(dir, "plugin-0"))
	for i, c := range w.holds(t, names[1:]...) {
		if i < 3 && c.Err != nil || i >= 3 && !errors.Is(c.Err, TooMany) {
			t.Errorf("after one went, %s: %v", c.Name, c.Err)
		}
	}
}

func TestWatcherLeavesOutWhatIsNoPlugin(t *testing.T) {
	inEveryMode(t, func(t *testing.T, w *Watcher, dir string, _ Candidate) {
		for _, name := range []string{".hidden", "README.md", "x.sha256"} {
			put(t, filepath.Join(dir, name), script, 0o755)
		}
		if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("folder", filepath.Join(dir, "link-to-folder")); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "text"), "no plugin", 0o755)
		if list := w.holds(t, "plugin", "text"); !errors.Is(list[1].Err, NotAPlugin) {
			t.Errorf("got %+v", list)
		}
	})
}

// A mount that hangs or fails for a while takes no plugin out of service.
func TestSnapshotStaysWhileTheFolderCannotBeRead(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	w := watch(t, dir, WatchOptions{})
	w.holds(t, "plugin")
	mend := fault(t, "catalog/watch-scan", "error(input/output error)")
	put(t, filepath.Join(dir, "another"), script, 0o755)
	if list := w.Snapshot(); len(list) != 1 || list[0].Name != "plugin" {
		t.Errorf("got %+v", list)
	}
	mend()
	w.holds(t, "another", "plugin")
}

func TestFolderThatTheKernelDoesNotTellOfIsRescanned(t *testing.T) {
	fault(t, "catalog/watch-add", "error(no space left on device)")
	dir := folder(t)
	w := watch(t, dir, WatchOptions{})
	if list := w.notify.WatchList(); len(list) > 0 {
		t.Fatalf("the kernel tells of %q", list)
	}
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	w.holds(t, "plugin")
}

func TestFolderMayComeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	w := watch(t, dir, WatchOptions{})
	w.holds(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "plugin"), script, 0o755)
	w.holds(t, "plugin")
}

func TestWatcherNeedsAFolder(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "file"), script, 0o755)
	if _, err := NewWatcher(filepath.Join(dir, "file"), WatchOptions{}); err == nil {
		t.Error("a file is followed like a folder")
	}
}
