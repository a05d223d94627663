package segment

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/internal/twin"
	"inos/shm/layout"
)

func TestMain(m *testing.M) {
	twin.Main(m, map[string]twin.Role{
		"serve":         serve,
		"write control": writeControl,
		"scribble":      scribble,
	})
}

// small is the smallest segment.
var small = Options{Size: system.SegmentMinimum, NodeID: []byte("node of a test")}

func create(t testing.TB, o Options) *Segment {
	t.Helper()
	s, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// channel returns a connected pair of sockets: the host's, and the plugin's as a
// connection and as a file to be inherited.
func channel(t testing.TB) (host, plugin *net.UnixConn, inherited *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine, inherited := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "plugin")
	defer mine.Close()
	if host, err = unixConn(mine); err != nil {
		t.Fatal(err)
	}
	if plugin, err = unixConn(inherited); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(); plugin.Close(); inherited.Close() })
	return host, plugin, inherited
}

func unixConn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// held counts what this process has of the kernel: descriptors and mappings of
// parts.
type held struct{ descriptors, mappings int }

func holding(t testing.TB) held {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return held{len(fds), strings.Count(string(maps), "memfd:inos-")}
}

func TestCreateMakesControlAndCommons(t *testing.T) {
	s := create(t, small)
	if got := s.Commons().Size(); got != system.SegmentMinimum/2 {
		t.Errorf("the commons have %d bytes", got)
	}
	if a, ok := s.Arena(system.ArenaCommons); !ok || a != s.Commons() {
		t.Error("the commons are not found by their number")
	}
	s.Epochs().Signal(uint16(system.HostEpoch_ready))
	if got := s.Epochs().Load(uint16(system.HostEpoch_ready)); got != 1 {
		t.Errorf("epoch at %d", got)
	}
	if list := s.Registry().Snapshot(); len(list) != 0 {
		t.Errorf("%d modules in a new registry", len(list))
	}
}

func TestCreateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		want    error
		says    string
	}{
		"too small":        {Options{Size: system.SegmentMinimum - 1}, ErrOptions, "use 4 MiB or more"},
		"beyond memory":    {Options{Size: 1 << 46}, ErrNoMemory, "--segment"},
		"beyond addresses": {Options{Size: 1 << 62}, ErrOptions, "128 TiB or less"},
		"odd ring":         {Options{Size: 8 << 20, RingEntries: 100}, ErrOptions, "power of two"},
		"huge ring":        {Options{Size: 4 << 20, RingEntries: 65536}, ErrOptions, "too little"},
		"all commons":      {Options{Size: 8 << 20, Commons: 8 << 20}, ErrOptions, "too little"},
		"commons and more": {Options{Size: 8 << 20, Commons: 16 << 20}, ErrOptions, "too little"},
		"part of a page":   {Options{Size: 8 << 20, Commons: 4097}, ErrOptions, "whole pages"},
		"long id":          {Options{NodeID: make([]byte, 33)}, ErrOptions, "32 or fewer"},
		"several at once":  {Options{Size: 1, NodeID: make([]byte, 33)}, ErrOptions, "32 or fewer"},
	} {
		before := holding(t)
		s, err := Create(c.options)
		if s != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, c.want, c.says)
		}
		if after := holding(t); after != before {
			t.Errorf("%s: left %+v behind, had %+v", name, after, before)
		}
	}
}

func TestDefaultsFitTheSize(t *testing.T) {
	for _, size := range []uint64{0, 4 << 20, 4<<20 + 1, 16 << 20, 64 << 20, 1 << 30, 1 << 40} {
		o := Options{Size: size}
		o.EnsureDefaults()
		if err := o.Validate(); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		if o.Size >= 64<<20 && o.RingEntries != system.RingEntriesDefault {
			t.Errorf("%d: rings of %d", size, o.RingEntries)
		}
	}
}

func TestBudgetNamesTheOptionToRaise(t *testing.T) {
	s := create(t, small)
	for name, make := range map[string]func() error{
		"private arena": func() error { _, err := s.NewPrivate("big", system.SegmentMinimum/2); return err },
		"link": func() error {
			for i := range uint32(1000) {
				if _, err := s.NewLink(i+1, 1); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		err := make()
		if !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), "--segment") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPartsAreMadeOnce(t *testing.T) {
	s := create(t, small)
	a, err := s.NewPrivate("m", 5000)
	if err != nil {
		t.Fatal(err)
	}
	if a.Size() != 8192 || a.ID() != system.ArenaFirstPrivate {
		t.Errorf("arena %d of %d bytes", a.ID(), a.Size())
	}
	if _, err := s.NewPrivate("m", 4096); !errors.Is(err, ErrExists) {
		t.Errorf("a second arena for a module: %v", err)
	}
	if _, err := s.NewLink(1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewLink(1, 2); !errors.Is(err, ErrExists) {
		t.Errorf("a second link for an instance: %v", err)
	}
	for _, bad := range []struct {
		module string
		size   uint64
	}{{"", 4096}, {"n", 0}, {"n", 1 << 63}} {
		if _, err := s.NewPrivate(bad.module, bad.size); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := s.NewPrivate("n", 1<<46); !errors.Is(err, ErrNoMemory) {
		t.Errorf("an arena beyond memory: %v", err)
	}
	if err := s.DropArena(99); !errors.Is(err, ErrUnknown) {
		t.Errorf("dropped what is not there: %v", err)
	}
	if err := s.DropArena(system.ArenaCommons); !errors.Is(err, ErrBusy) {
		t.Errorf("dropped the commons: %v", err)
	}
}

func TestArenaStaysMappedWhileHeld(t *testing.T) {
	s := create(t, small)
	free := s.Usage().Free
	for name, hold := range map[string]func(a *arena.Arena) (letGo func()){
		"pin": func(a *arena.Arena) func() {
			if err := a.Pin(); err != nil {
				t.Fatal(err)
			}
			return a.Unpin
		},
		"block": func(a *arena.Arena) func() {
			ref, err := a.Alloc(100, arena.Host)
			if err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := a.Release(ref); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		before := holding(t)
		a, err := s.NewPrivate("m", 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		letGo := hold(a)
		if err := s.DropArena(a.ID()); err != nil {
			t.Fatal(err)
		}
		if err := s.DropArena(a.ID()); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: dropped again: %v", name, err)
		}
		if _, ok := s.Arena(a.ID()); ok {
			t.Errorf("%s: a dropped arena is still found", name)
		}
		u := s.Usage()
		if last := u.Arenas[len(u.Arenas)-1]; !last.Leaving || last.Module != "m" || u.Free != free-1<<16 {
			t.Errorf("%s: usage shows %+v", name, last)
		}
		if after := holding(t); after.mappings != before.mappings+1 {
			t.Errorf("%s: unmapped while held", name)
		}
		letGo()
		if after := holding(t); after != before {
			t.Errorf("%s: left %+v behind, had %+v", name, after, before)
		}
		if got := s.Usage().Free; got != free {
			t.Errorf("%s: %d bytes free, were %d", name, got, free)
		}
	}
}

func TestCloseNamesWhatIsHeld(t *testing.T) {
	before := holding(t)
	s, err := Create(small)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.NewPrivate("sluggish", 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewLink(3, 1); err != nil {
		t.Fatal(err)
	}
	ref, err := a.Alloc(1, arena.Host)
	if err != nil {
		t.Fatal(err)
	}
	view, err := a.View(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "sluggish") {
		t.Errorf("closed: %v", err)
	}
	view[0] = 1 // would be a fault if it were gone
	if err := a.Release(ref); err != nil {
		t.Fatal(err)
	}
	if after := holding(t); after != before {
		t.Errorf("left %+v behind, had %+v", after, before)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := s.NewLink(4, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("a link of a closed segment: %v", err)
	}
	if _, err := s.NewPrivate("n", 4096); !errors.Is(err, ErrClosed) {
		t.Errorf("an arena of a closed segment: %v", err)
	}
}

// TestNothingIsLeftBehind makes and drops parts at random, and compares the
// budget with a model and the kernel's lists with what there was before.
func TestNothingIsLeftBehind(t *testing.T) {
	runtime.GC() // what other tests left to finalizers
	before := holding(t)
	rapid.Check(t, func(rt *rapid.T) {
		s, err := Create(small)
		if err != nil {
			rt.Fatal(err)
		}
		link, _ := layout.Link(s.options.RingEntries)
		left := small.Size - layout.Control().Size() - s.Commons().Size()
		links, arenas := map[uint32]*Link{}, map[string]*arena.Arena{}
		expect := func(what string, err error, size uint64, exists bool) bool {
			want := error(nil)
			switch {
			case size > left:
				want = ErrBudget
			case exists:
				want = ErrExists
			}
			if exists && errors.Is(err, ErrExists) {
				return false
			}
			if !errors.Is(err, want) {
				rt.Fatalf("%s of %d with %d left: %v, want %v", what, size, left, err, want)
			}
			return err == nil
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			instance := rapid.Uint32Range(1, 40).Draw(rt, "instance")
			module := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "module")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				l, err := s.NewLink(instance, 1)
				if expect("link", err, link.Size(), links[instance] != nil) {
					links[instance] = l
					left -= link.Size()
				}
			case 1:
				size := 4096 * rapid.Uint64Range(1, 300).Draw(rt, "pages")
				a, err := s.NewPrivate(module, size)
				if expect("arena", err, size, arenas[module] != nil) {
					arenas[module] = a
					left -= size
				}
			case 2:
				if l := links[instance]; l != nil {
					delete(links, instance)
					left += link.Size()
					l.Close()
					l.Close()
				}
			case 3:
				if a := arenas[module]; a != nil {
					delete(arenas, module)
					left += a.Size()
					if err := s.DropArena(a.ID()); err != nil {
						rt.Fatal(err)
					}
				}
			}
			u := s.Usage()
			if u.Free != left || len(u.Links) != len(links) || len(u.Arenas) != len(arenas)+1 {
				rt.Fatalf("%d free, %d links, %d arenas; want %d, %d, %d", u.Free, len(u.Links), len(u.Arenas), left, len(links), len(arenas)+1)
			}
			total := uint64(0)
			for _, r := range u.Regions {
				total += r.Size
			}
			if total > u.Size-u.Free {
				rt.Fatalf("regions of %d bytes in %d", total, u.Size-u.Free)
			}
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
	if after := holding(t); after != before {
		t.Errorf("left %+v behind, had %+v", after, before)
	}
}

func TestUsageListsEveryRegion(t *testing.T) {
	s := create(t, small)
	a, err := s.NewPrivate("vault", 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewLink(7, 2); err != nil {
		t.Fatal(err)
	}
	u := s.Usage()
	got := map[string]Region{}
	for _, r := range u.Regions {
		got[r.Part+" "+r.Name] = r
	}
	for name, writer := range map[string]string{
		"control header": "host", "control epochs": "host", "control strings": "host",
		"link 7 bells": "host and plugin", "link 7 completions": "host and plugin",
		"arena 1 commons": "host and trusted plugins", "arena 2 private": "host and vault",
	} {
		if r, ok := got[name]; !ok || r.Writer != writer || r.Size == 0 {
			t.Errorf("%s: %+v, %v", name, r, ok)
		}
	}
	if len(u.Arenas) != 2 || u.Arenas[1].Module != "vault" || u.Arenas[1].Size != a.Size() {
		t.Errorf("arenas %+v", u.Arenas)
	}
	if len(u.Links) != 1 || u.Links[0].Instance != 7 || u.Links[0].Incarnation != 2 {
		t.Errorf("links %+v", u.Links)
	}
}
