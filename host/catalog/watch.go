package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
)

// WatchOptions say how a folder is followed. The zero value of each field means
// its default.
type WatchOptions struct {
	// Settle is how long a file must stay as it is before it counts, default 200 ms.
	// One that looks cut short has five times as long to grow on.
	Settle time.Duration
	// Rescan is how often the folder is read without being told of a change, default
	// 2 s, or 500 ms when nobody tells.
	Rescan time.Duration
	// Poll has the folder read every Rescan and nothing else. It is so in any case on
	// a file system of another machine, whose kernel tells nobody here of changes.
	Poll bool
	// Limits of what is taken from the folder.
	Limits Limits
	// Logger receives what the watcher has to say, default nothing.
	Logger hclog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *WatchOptions) EnsureDefaults() {
	o.Settle = cmp.Or(o.Settle, 200*time.Millisecond)
	rescan := 2 * time.Second
	if o.Poll {
		rescan = 500 * time.Millisecond
	}
	o.Rescan = cmp.Or(o.Rescan, rescan)
	o.Limits.EnsureDefaults()
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
}

// patience is how many times Settle a file may look cut short before that counts.
const patience = 5

// Watcher follows a plugins folder. A file counts when it has not changed for a
// while, whatever was done to it: written in place or beside and renamed, copied
// slowly, linked to, or exchanged many times over. Its methods may be called from
// any goroutine.
type Watcher struct {
	dir     string
	opts    WatchOptions
	notify  *fsnotify.Watcher // nil when polling
	changes chan struct{}
	stop    context.CancelFunc
	done    chan struct{}

	watched Stamp            // of the folder that notify knows; the loop's own
	seen    map[string]*seen // by name; the loop's own

	mu       sync.Mutex
	stable   []Candidate
	settling []string
}

// seen is what the watcher knows of one file.
type seen struct {
	seal      imprint
	since     time.Time  // when it was first like that
	candidate *Candidate // what Inspect said of it, nil before
	isPlugin  bool
}

// imprint is what tells whether a file, or what lies beside it, has changed. It is
// comparable.
type imprint struct {
	link   Stamp // of the name itself
	file   Stamp // of what it leads to
	target string
	sides  [3]Stamp // of its list, its signature and the list of the folder
}

// Points of the watcher.
var (
	watchAdd  = failpoint.New("catalog/watch-add")
	watchScan = failpoint.New("catalog/watch-scan")
)

// NewWatcher follows a folder until Close. When it returns, Snapshot holds every
// file that has not changed lately. A folder that is not there is an empty one that
// may come.
func NewWatcher(dir string, o WatchOptions) (*Watcher, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: plugins folder: %w", err)
	}
	remote := onNetwork(dir)
	o.Poll = o.Poll || remote
	o.EnsureDefaults()
	w := &Watcher{dir: dir, opts: o, changes: make(chan struct{}, 1), done: make(chan struct{}), seen: make(map[string]*seen)}
	if !o.Poll {
		if w.notify, err = fsnotify.NewWatcher(); err != nil {
			o.Logger.Warn("the plugins folder is read at intervals, since the kernel gives no notifications", "error", err)
		}
	} else if remote {
		o.Logger.Info("the plugins folder is on a file system of another machine and is read at intervals", "every", o.Rescan)
	}
	w.follow()
	if err := w.look(); err != nil {
		return nil, w.abandon(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go w.loop(ctx)
	return w, nil
}

func (w *Watcher) abandon(err error) error {
	if w.notify != nil {
		_ = w.notify.Close()
	}
	return err
}

// Changes gets a value when Snapshot or Settling has changed since the last.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// View returns what Snapshot and Settling do, both of one instant: a file that is
// in neither is gone.
func (w *Watcher) View() (stable []Candidate, settling []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.stable), slices.Clone(w.settling)
}

// Snapshot returns every file that is stable now, in the order of their names; one
// that can be no plugin comes with its refusal.
func (w *Watcher) Snapshot() []Candidate {
	stable, _ := w.View()
	return stable
}

// Settling names the files that are being written, in their order.
func (w *Watcher) Settling() []string {
	_, settling := w.View()
	return settling
}

// Close ends the watch.
func (w *Watcher) Close() error {
	w.stop()
	<-w.done
	if w.notify == nil {
		return nil
	}
	return w.notify.Close()
}

// loop looks whenever something may have changed.
func (w *Watcher) loop(ctx context.Context) {
	defer close(w.done)
	var told chan fsnotify.Event
	var failed chan error
	if w.notify != nil {
		told, failed = w.notify.Events, w.notify.Errors
	}
	rescan := time.NewTicker(w.opts.Rescan)
	defer rescan.Stop()
	again := time.NewTimer(w.opts.Settle)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-told:
			if !open {
				told = nil
				continue
			}
			// A burst of events is one change; it is looked at when it may be over.
			again.Reset(w.opts.Settle / 4)
			continue
		case err, open := <-failed:
			if !open {
				failed = nil
				continue
			}
			w.opts.Logger.Warn("notifications of the plugins folder", "error", err) // the rescan finds what was missed
		case <-rescan.C:
		case <-again.C:
		}
		w.follow()
		if err := w.look(); err != nil {
			w.opts.Logger.Warn("the plugins folder cannot be read; what serves goes on", "error", err)
		}
		if len(w.Settling()) > 0 {
			again.Reset(w.opts.Settle / 2)
		}
	}
}

// follow makes sure that the kernel tells of the folder that has the name now.
func (w *Watcher) follow() {
	if w.notify == nil {
		return
	}
	info, err := os.Stat(w.dir)
	if err != nil {
		w.watched = Stamp{}
		return
	}
	// A folder that was removed and made again may have the same number; the kernel
	// has forgotten it then, and so has notify.
	is := stamp(info)
	if is.Inode == w.watched.Inode && is.Device == w.watched.Device && slices.Contains(w.notify.WatchList(), w.dir) {
		return
	}
	_ = w.notify.Remove(w.dir) // fails when the folder it knew is gone
	err = watchAdd.Hit()
	if err == nil {
		err = w.notify.Add(w.dir)
	}
	if err != nil {
		w.opts.Logger.Warn("the plugins folder is read at intervals only", "error", err)
		return
	}
	w.watched = is
}

// look reads the folder and brings the snapshot up to date. While the folder
// cannot be read the snapshot stays, so that a mount that hangs takes no plugin
// out of service; a folder that is not there is empty.
func (w *Watcher) look() error {
	if err := watchScan.Hit(); err != nil {
		return err
	}
	entries, err := readDir(w.dir)
	if err != nil {
		if _, gone := os.Stat(w.dir); !os.IsNotExist(gone) {
			return err
		}
	}
	now := time.Now()
	there := make(map[string]bool, len(entries))
	var stable []Candidate
	var settling []string
	for _, e := range entries {
		if ignored(e.Name()) || e.IsDir() {
			continue
		}
		there[e.Name()] = true
		s := w.update(e.Name(), now)
		switch {
		case s.candidate == nil:
			settling = append(settling, e.Name())
		case s.isPlugin:
			stable = append(stable, *s.candidate)
		}
	}
	for name := range w.seen {
		if !there[name] {
			delete(w.seen, name)
		}
	}
	if over := len(stable) - w.opts.Limits.MaxFiles; over > 0 {
		for i := range stable[w.opts.Limits.MaxFiles:] {
			c := &stable[w.opts.Limits.MaxFiles+i]
			c.Err = refuse(TooMany, "the folder holds more than %d files", w.opts.Limits.MaxFiles).about(c.Path)
		}
	}
	w.publish(stable, settling)
	return nil
}

// update looks at one file, and inspects it when it has become stable.
func (w *Watcher) update(name string, now time.Time) *seen {
	is := take(w.dir, name)
	s := w.seen[name]
	if s == nil || s.seal != is {
		since := now
		if s == nil {
			// At the first look a file that is old already need not be waited for. Clocks of
			// other machines differ, so a time that is ahead of ours says nothing.
			if at := time.Unix(0, max(is.file.Changed, is.link.Changed)); at.Before(now) {
				since = at
			}
		}
		s = &seen{seal: is, since: since}
		w.seen[name] = s
	}
	if s.candidate != nil || now.Sub(s.since) < w.opts.Settle {
		return s
	}
	c, isPlugin := Inspect(filepath.Join(w.dir, name), w.opts.Limits)
	if take(w.dir, name) != is {
		return s // it changed meanwhile: the next look begins anew
	}
	c.seal = is
	if errors.Is(c.Err, Truncated) && now.Sub(s.since) < patience*w.opts.Settle {
		return s // it may grow on
	}
	s.candidate, s.isPlugin = &c, isPlugin
	return s
}

// publish makes a new snapshot known, if it differs from the old one.
func (w *Watcher) publish(stable []Candidate, settling []string) {
	w.mu.Lock()
	same := slices.EqualFunc(stable, w.stable, Candidate.Same) && slices.Equal(settling, w.settling)
	w.stable, w.settling = stable, settling
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.changes <- struct{}{}:
	default:
	}
}

// Same reports whether two looks by a Watcher saw the same file, with the same
// lists and signature beside it, and thought the same of it.
func (c Candidate) Same(o Candidate) bool {
	return c.Name == o.Name && c.seal == o.seal && c.Stamp == o.Stamp && fmt.Sprint(c.Err) == fmt.Sprint(o.Err)
}

// take looks at a name without reading the file. What cannot be looked at is zero.
func take(dir, name string) imprint {
	path := filepath.Join(dir, name)
	var p imprint
	if info, err := os.Lstat(path); err == nil {
		p.link = stamp(info)
	}
	if info, err := os.Stat(path); err == nil {
		p.file = stamp(info)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		p.target = target
	}
	for i, side := range []string{path + sumSuffix, path + sigSuffix, filepath.Join(dir, sumsName)} {
		if info, err := os.Stat(side); err == nil {
			p.sides[i] = stamp(info)
		}
	}
	return p
}

// remote are the file systems that tell nobody on this machine of changes, by
// statfs(2).
var remote = []int64{
	unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC,
	unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.CODA_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC,
}

// onNetwork reports whether a folder lies on a file system of another machine.
func onNetwork(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && slices.Contains(remote, s.Type)
}
