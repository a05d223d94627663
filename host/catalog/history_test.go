package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// digestOf is some digest, another for each n.
func digestOf(n int) string { return fmt.Sprintf("%064x", n) }

// version is some version.
func version(n int) Version {
	return Version{Digest: digestOf(n), Name: fmt.Sprintf("plugin-%d", n), Version: fmt.Sprintf("%d.0.0", n), Publisher: "local", Size: int64(n)}
}

// opened opens a history whose clock moves on a minute with each look.
func opened(t interface {
	Helper()
	Fatal(args ...any)
}, path string, clock *time.Time) *History {
	t.Helper()
	h, err := OpenHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	h.now = func() time.Time { *clock = clock.Add(time.Minute); return *clock }
	return h
}

func fresh(t *testing.T) (h *History, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "history.json")
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return opened(t, path, &clock), path
}

// memory is a folder whose files cost no disk, if there is one.
func memory() string {
	const dir = "/dev/shm"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() || unix.Access(dir, unix.W_OK) != nil {
		return ""
	}
	return dir
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// versionsOf names the versions of a module, the last to serve first.
func versionsOf(h *History, module string) []string {
	var list []string
	for _, v := range h.List(module) {
		list = append(list, v.Version)
	}
	return list
}

// believed is a history as it should be: the plainest that could be.
type believed struct {
	versions map[string][]Version // the last to serve last
	pins     map[string]string
}

func (b believed) served(module string, v Version, at time.Time) {
	v.Outcome, v.Admitted, v.Since = Served, at, at
	list := b.versions[module]
	for i, old := range list {
		if old.Digest == v.Digest {
			v.Admitted = old.Admitted
			list = slices.Delete(slices.Clone(list), i, i+1)
			break
		}
	}
	b.versions[module] = append(slices.Clone(list), v)
}

// forget drops what the history may have dropped: an old one, never the pinned one,
// the last, or the one to go back to.
func (b believed) forget(t *rapid.T, module string, h *History) {
	list := b.versions[module]
	if len(list) <= maxVersions {
		return
	}
	var back string
	for _, v := range slices.Backward(list[:len(list)-1]) {
		if v.Outcome == Served {
			back = v.Digest
			break
		}
	}
	for i, v := range list {
		if v.Digest != b.pins[module] && v.Digest != back && i != len(list)-1 {
			if _, there := h.Find(module, v.Digest); there {
				t.Fatalf("%s is still there and is the oldest that may go", v.Version)
			}
			b.versions[module] = slices.Delete(slices.Clone(list), i, i+1)
			return
		}
	}
}

func (b believed) mark(module, digest string, o Outcome, reason string, at time.Time) {
	list := slices.Clone(b.versions[module])
	for i := range list {
		if list[i].Digest == digest {
			list[i].Outcome, list[i].Reason, list[i].Since = o, reason, at
		}
	}
	b.versions[module] = list
}

func (b believed) check(t *rapid.T, h *History) {
	var modules []string
	var digests []string
	for m, list := range b.versions {
		if len(list) > 0 || b.pins[m] != "" {
			modules = append(modules, m)
		}
		for _, v := range list {
			digests = append(digests, v.Digest)
		}
	}
	for m, pin := range b.pins {
		if pin != "" {
			modules, digests = append(modules, m), append(digests, pin)
		}
	}
	slices.Sort(modules)
	slices.Sort(digests)
	if got := h.Modules(); !slices.Equal(got, slices.Compact(modules)) {
		t.Fatalf("modules %q, want %q", got, modules)
	}
	if got := h.Digests(); !slices.Equal(got, slices.Compact(digests)) {
		t.Fatalf("digests %q, want %q", got, digests)
	}
	for _, m := range modules {
		want := slices.Clone(b.versions[m])
		slices.Reverse(want)
		if got := h.List(m); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s is %+v\nwant %+v", m, got, want)
		}
		if got := h.Pin(m); got != b.pins[m] {
			t.Fatalf("the pin of %s is %q, want %q", m, got, b.pins[m])
		}
		good := slices.DeleteFunc(slices.Clone(want), func(v Version) bool { return v.Outcome != Served })
		last, ok := h.Last(m)
		if ok != (len(good) > 0) || ok && last != good[0] {
			t.Fatalf("the last of %s is %+v, %v", m, last, ok)
		}
		for _, v := range want {
			before, ok := h.Before(m, v.Digest)
			others := slices.DeleteFunc(slices.Clone(good), func(o Version) bool { return o.Digest == v.Digest })
			if ok != (len(others) > 0) || ok && before != others[0] {
				t.Fatalf("before %s of %s is %+v, %v", v.Version, m, before, ok)
			}
			if h.RolledBack(m, v.Digest) != (v.Outcome == RolledBack) {
				t.Fatalf("%s of %s: rolled back is not %v", v.Version, m, v.Outcome)
			}
		}
	}
}

// Whatever is done to a history, and however often its process ends meanwhile.
func TestHistoryIsWhatWasDoneToIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "history")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "history.json")
		clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		h := opened(t, path, &clock)
		want := believed{map[string][]Version{}, map[string]string{}}
		module := rapid.SampledFrom([]string{"a", "b"})
		number := rapid.IntRange(1, maxVersions+8)
		check := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { want.check(t, h) },
			"serve": func(t *rapid.T) {
				m, v := module.Draw(t, "module"), version(number.Draw(t, "version"))
				check(h.Served(m, v))
				want.served(m, v, clock)
				want.forget(t, m, h)
			},
			"take back": func(t *rapid.T) {
				m, d, why := module.Draw(t, "module"), digestOf(number.Draw(t, "version")), rapid.StringN(0, 40, 200).Draw(t, "reason")
				check(h.TakeBack(m, d, why))
				want.mark(m, d, RolledBack, why, clock)
			},
			"take back the last": func(t *rapid.T) {
				m := module.Draw(t, "module")
				if v, ok := h.Last(m); ok {
					check(h.TakeBack(m, v.Digest, "crashed"))
					want.mark(m, v.Digest, RolledBack, "crashed", clock)
				}
			},
			"forgive": func(t *rapid.T) {
				m, d := module.Draw(t, "module"), digestOf(number.Draw(t, "version"))
				was := h.RolledBack(m, d)
				check(h.Forgive(m, d))
				if was {
					want.mark(m, d, Served, "", clock)
				}
			},
			"pin": func(t *rapid.T) {
				m := module.Draw(t, "module")
				d := rapid.OneOf(rapid.Just(""), rapid.Map(number, digestOf)).Draw(t, "digest")
				check(h.SetPin(m, d))
				want.pins[m] = d
			},
			"open again": func(*rapid.T) { h = opened(t, path, &clock) },
		})
	})
}

// Otherwise a series of bad versions would take the good one out of the store.
func TestManyBadVersionsDoNotPushTheGoodOneOut(t *testing.T) {
	h, _ := fresh(t)
	must(t, h.Served("m", version(1)))
	for n := 2; n < 3*maxVersions; n++ {
		must(t, h.Served("m", version(n)))
		if v, ok := h.Before("m", digestOf(n)); !ok || v.Digest != digestOf(1) {
			t.Fatalf("the way back from %d is %+v, %v", n, v, ok)
		}
		must(t, h.TakeBack("m", digestOf(n), "bad"))
	}
	if v, ok := h.Last("m"); !ok || v.Digest != digestOf(1) {
		t.Errorf("the last is %+v, %v", v, ok)
	}
	if n := len(h.List("m")); n != maxVersions {
		t.Errorf("%d versions", n)
	}
}

func TestPinnedVersionIsNeverForgotten(t *testing.T) {
	h, path := fresh(t)
	must(t, h.Served("m", version(1)))
	must(t, h.SetPin("m", digestOf(1)))
	for n := 2; n < 3*maxVersions; n++ {
		must(t, h.Served("m", version(n)))
	}
	again, err := OpenHistory(path)
	must(t, err)
	if _, ok := again.Find("m", digestOf(1)); !ok || again.Pin("m") != digestOf(1) {
		t.Errorf("got %v", versionsOf(again, "m"))
	}
}

func TestVersionThatServesAgainKeepsWhenItFirstDid(t *testing.T) {
	h, _ := fresh(t)
	must(t, h.Served("m", version(1)))
	first := h.List("m")[0]
	must(t, h.Served("m", version(2)))
	must(t, h.TakeBack("m", digestOf(1), "an operator's wish"))
	must(t, h.Served("m", version(1)))
	is := h.List("m")[0]
	if is.Admitted != first.Admitted || !is.Since.After(first.Since) || is.Outcome != Served || is.Reason != "" {
		t.Errorf("got %+v, first %+v", is, first)
	}
	if got := h.Files("m"); !slices.Equal(got, []string{"plugin-1", "plugin-2"}) {
		t.Errorf("files %q", got)
	}
}

func TestHistoryThatCannotBeUnderstoodIsAnErrorThatSaysWhatToDo(t *testing.T) {
	h, path := fresh(t)
	must(t, h.Served("m", version(1)))
	must(t, h.SetPin("m", digestOf(1)))
	good, err := os.ReadFile(path)
	must(t, err)
	replace := func(old, with string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %q in %s", old, good)
		}
		return strings.ReplaceAll(string(good), old, with)
	}
	many, err := json.Marshal(map[string]past{"m": {Versions: slices.Collect(func(yield func(Version) bool) {
		for n := range maxVersions + 1 {
			v := version(n)
			v.Outcome = Served
			if !yield(v) {
				return
			}
		}
	})}})
	must(t, err)
	for name, text := range map[string]string{
		"empty":                  "",
		"cut short":              string(good[:len(good)/2]),
		"cut by a byte":          string(good[:len(good)-1]),
		"zeros":                  strings.Repeat("\x00", len(good)),
		"null":                   "null",
		"null module":            `{"m": null}`,
		"a list":                 "[]",
		"something behind":       string(good) + "{}",
		"unknown field":          replace(`"pin"`, `"pim"`),
		"no digest":              replace(digestOf(1), "1"),
		"digest in capitals":     replace(digestOf(1), strings.Repeat("A", 64)),
		"path for a name":        replace("plugin-1", "../plugin-1"),
		"folder for a name":      replace("plugin-1", ".."),
		"no name":                replace("plugin-1", ""),
		"no outcome":             replace(`"outcome": "served"`, `"outcome": "lost"`),
		"twice the same version": fmt.Sprintf(`{"m": {"versions": [%[1]s, %[1]s]}}`, fmt.Sprintf(`{"digest": %q, "name": "x", "outcome": "served"}`, digestOf(1))),
		"too many versions":      string(many),
		"too large":              "{}" + strings.Repeat(" ", maxHistory),
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(path, []byte(text), 0o600))
			_, err := OpenHistory(path)
			if !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadFile(path); err != nil || string(left) != text {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func TestHistoryKeepsNothingThatItCouldNotReadAgain(t *testing.T) {
	h, path := fresh(t)
	must(t, h.Served("m", version(1)))
	bad := version(2)
	bad.Name = "../x"
	for what, err := range map[string]error{
		"pin": h.SetPin("m", "1.0.0"), "digest": h.Served("m", Version{Digest: "1", Name: "x"}), "name": h.Served("m", bad),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	must(t, h.TakeBack("m", digestOf(1), strings.Repeat("é", maxReason)))
	again, err := OpenHistory(path)
	must(t, err)
	if got := again.List("m"); !reflect.DeepEqual(got, h.List("m")) || len(got) != 1 || len(got[0].Reason) > maxReason || !strings.HasSuffix(got[0].Reason, "é...") {
		t.Errorf("got %+v", got)
	}
}

func TestFailedWriteLeavesTheOldHistoryWhole(t *testing.T) {
	for _, c := range []struct{ point, terms string }{
		{"catalog/history-write", "torn(0)"},
		{"catalog/history-write", "torn(40)"},
		{"catalog/history-write", "error(no space left on device)"},
		{"catalog/history-sync", "error(input/output error)"},
		{"catalog/history-rename", "error(read-only file system)"},
	} {
		t.Run(c.point+" "+c.terms, func(t *testing.T) {
			h, path := fresh(t)
			must(t, h.Served("m", version(1)))
			must(t, h.SetPin("m", digestOf(1)))
			before, err := os.ReadFile(path)
			must(t, err)
			was := h.List("m")
			mend := fault(t, c.point, c.terms)
			for what, change := range map[string]func() error{
				"served":     func() error { return h.Served("m", version(2)) },
				"new module": func() error { return h.Served("n", version(3)) },
				"pin":        func() error { return h.SetPin("m", "") },
				"take back":  func() error { return h.TakeBack("m", digestOf(1), "bad") },
			} {
				if err := change(); err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: got %v", what, err)
				}
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the file is %q, %v", after, err)
			}
			if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
				t.Errorf("left behind: %v, %v", files, err)
			}
			if !reflect.DeepEqual(h.List("m"), was) || h.Pin("m") != digestOf(1) || !slices.Equal(h.Modules(), []string{"m"}) {
				t.Errorf("it remembers %v, %+v", h.Modules(), h.List("m"))
			}
			mend()
			must(t, h.Served("m", version(2)))
			again, err := OpenHistory(path)
			must(t, err)
			if got := versionsOf(again, "m"); !slices.Equal(got, []string{"2.0.0", "1.0.0"}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestOpenHistoryRemovesWhatAnInterruptedWriteLeft(t *testing.T) {
	h, path := fresh(t)
	must(t, h.Served("m", version(1)))
	put(t, path+incoming+"123", "{", 0o600)
	put(t, filepath.Join(filepath.Dir(path), "other"), "kept", 0o600)
	again, err := OpenHistory(path)
	must(t, err)
	if got := versionsOf(again, "m"); !slices.Equal(got, []string{"1.0.0"}) {
		t.Errorf("got %q", got)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 2 {
		t.Errorf("there are %v, %v", files, err)
	}
}

func TestHistoryIsBoundedInModules(t *testing.T) {
	h, _ := fresh(t)
	for n := range maxModules {
		h.modules[fmt.Sprint("m", n)] = &past{Pin: digestOf(1)}
	}
	if err := h.Served("one more", version(1)); err == nil || !strings.Contains(err.Error(), "modules already") {
		t.Errorf("got %v", err)
	}
	must(t, h.SetPin("m1", ""))
	must(t, h.Served("one more", version(1)))
}

func TestHistoryIsUsedFromManySides(t *testing.T) {
	h, path := fresh(t)
	done := make(chan error)
	const each = 8
	for side := range 4 {
		go func() {
			var err error
			for n := range each {
				err = errors.Join(err, h.Served(fmt.Sprint("m", side), version(n)))
				h.Digests()
			}
			done <- err
		}()
	}
	for range 4 {
		must(t, <-done)
	}
	again, err := OpenHistory(path)
	must(t, err)
	for _, m := range again.Modules() {
		if n := len(again.List(m)); n != each {
			t.Errorf("%s has %d versions", m, n)
		}
	}
}

// What is read is what would be written again.
func FuzzHistory(f *testing.F) {
	v := version(1)
	v.Outcome = Served
	good, err := json.Marshal(map[string]past{"m": {Pin: digestOf(1), Versions: []Version{v}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), "{}", "null", `{"m": null}`, `{"m": {}}`, `{"m": {"versions": [{}]}}`, ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		modules, err := parseHistory(text)
		if err != nil {
			return
		}
		for name, p := range modules {
			if err := p.check(); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
		written, err := json.Marshal(modules)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseHistory(written)
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(again)), slices.Sorted(maps.Keys(modules))) {
			t.Fatalf("%s is read as %s, which is read as %v, %v", text, written, again, err)
		}
	})
}
