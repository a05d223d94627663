package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"inos/plugins/sdk/failpoint"
)

// Outcome says what came of a version.
type Outcome string

// The outcomes.
const (
	Served     Outcome = "served"      // it was taken into service
	RolledBack Outcome = "rolled back" // it went wrong there, or an operator took it out
)

// Version is one version of a module that served at some time.
type Version struct {
	Digest    string    `json:"digest"` // SHA-256 of the binary, hex
	Name      string    `json:"name"`   // of the file, as the store has it
	Version   string    `json:"version"`
	Publisher string    `json:"publisher,omitempty"` // whose key had signed it
	Size      int64     `json:"size"`
	Admitted  time.Time `json:"admitted"` // when it first served
	Outcome   Outcome   `json:"outcome"`
	Reason    string    `json:"reason,omitempty"` // why it was rolled back
	Since     time.Time `json:"since"`            // of the outcome
}

// past is what is known of one module: its versions in the order in which they
// came into service, the last one last, and the operator's pin.
type past struct {
	Pin      string    `json:"pin,omitempty"`
	Versions []Version `json:"versions"`
}

// Bounds of a history. What does not fit is the oldest version that is neither
// pinned nor one of the last two that went well: that which serves, and the way
// back from it.
const (
	maxVersions = 16
	maxModules  = 1024
	maxReason   = 1 << 10 // bytes
	maxHistory  = 8 << 20 // bytes
)

// History remembers which versions of each module served, which were rolled back,
// and which one an operator wants. It is on disk when a method that changes it
// returns. Its methods may be called from any goroutine; two processes must not
// share the file.
type History struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	modules map[string]*past
}

// ErrHistory says that the file of the history cannot be understood.
var ErrHistory = errors.New("catalog: the history cannot be read")

// Points of the history.
var (
	historySync   = failpoint.New("catalog/history-sync")
	historyWrite  = failpoint.New("catalog/history-write")
	historyRename = failpoint.New("catalog/history-rename")
)

// OpenHistory reads the history at path. A file that is not there is an empty one.
// One that cannot be understood is an error that wraps ErrHistory and says what to
// do: to go on without it would bring versions back that were rolled back.
func OpenHistory(path string) (*History, error) {
	h := &History{path: path, now: time.Now, modules: make(map[string]*past)}
	if err := removeUnfinished(path + incoming); err != nil {
		return nil, fmt.Errorf("catalog: the history %s: %w", path, err)
	}
	text, err := readAtMost(path, maxHistory)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		h.modules, err = parseHistory([]byte(text))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; move it away to begin a new one, which forgets pins and what was rolled back", ErrHistory, path, err)
	}
	return h, nil
}

// parseHistory reads the file's form and checks everything in it.
func parseHistory(text []byte) (map[string]*past, error) {
	var modules map[string]*past
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&modules); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is something behind it, at byte %d", d.InputOffset())
	}
	if modules == nil {
		return nil, errors.New("it holds nothing")
	}
	if len(modules) > maxModules {
		return nil, fmt.Errorf("%d modules are more than %d", len(modules), maxModules)
	}
	for name, p := range modules {
		if p == nil {
			return nil, fmt.Errorf("of %q it says nothing", name)
		}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("of %q it says: %w", name, err)
		}
	}
	return modules, nil
}

// check looks for what no history of a module would say.
func (p *past) check() error {
	if len(p.Versions) > maxVersions {
		return fmt.Errorf("%d versions are more than %d", len(p.Versions), maxVersions)
	}
	if p.Pin != "" && !isDigest(p.Pin) {
		return fmt.Errorf("the pin %q is no digest", p.Pin)
	}
	for i, v := range p.Versions {
		switch {
		case !isDigest(v.Digest):
			return fmt.Errorf("%q is no digest of a version", v.Digest)
		case p.find(v.Digest) != i:
			return fmt.Errorf("the version %s is there twice", v.Digest)
		case v.Outcome != Served && v.Outcome != RolledBack:
			return fmt.Errorf("of the version %s came %q, which is no outcome", v.Digest, v.Outcome)
		case filepath.Base(v.Name) != v.Name || v.Name == "." || v.Name == ".." || v.Name == "/":
			return fmt.Errorf("the version %s has the file name %q", v.Digest, v.Name)
		}
	}
	return nil
}

// Modules lists the modules that ever served, sorted.
func (h *History) Modules() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.modules))
}

// List returns the versions of a module, the last to come into service first.
func (h *History) List(module string) []Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Clone(h.past(module).Versions)
	slices.Reverse(list)
	return list
}

// past returns what is known of a module, to be read. The caller holds mu.
func (h *History) past(module string) *past {
	if p := h.modules[module]; p != nil {
		return p
	}
	return &past{}
}

// Files lists the names under which the module's versions lay in the folder.
func (h *History) Files(module string) []string {
	var names []string
	for _, v := range h.List(module) {
		names = append(names, v.Name)
	}
	return names
}

// Digests lists every version that the store must keep: those that served, and
// those that are pinned.
func (h *History) Digests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, p := range h.modules {
		for _, v := range p.Versions {
			list = append(list, v.Digest)
		}
		if p.Pin != "" {
			list = append(list, p.Pin)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Find returns a version by its digest.
func (h *History) Find(module, digest string) (Version, bool) {
	return h.first(module, func(v Version) bool { return v.Digest == digest })
}

// Last returns the version that came into service last and was not rolled back.
func (h *History) Last(module string) (Version, bool) {
	return h.first(module, func(v Version) bool { return v.Outcome == Served })
}

// Before returns the version to go back to from another: the last one that served
// besides it.
func (h *History) Before(module, digest string) (Version, bool) {
	return h.first(module, func(v Version) bool { return v.Outcome == Served && v.Digest != digest })
}

// RolledBack reports whether a version was rolled back.
func (h *History) RolledBack(module, digest string) bool {
	v, ok := h.Find(module, digest)
	return ok && v.Outcome == RolledBack
}

func (h *History) first(module string, is func(Version) bool) (Version, bool) {
	list := h.List(module)
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], true
	}
	return Version{}, false
}

// Pin returns the digest of the version that an operator wants, "" for none.
func (h *History) Pin(module string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.past(module).Pin
}

// SetPin notes the version that an operator wants, "" for none.
func (h *History) SetPin(module, digest string) error {
	return h.change(module, func(p *past) { p.Pin = digest })
}

// Served notes that a version came into service. Of v, Outcome, Since and, when it
// is known already, Admitted are filled in.
func (h *History) Served(module string, v Version) error {
	return h.change(module, func(p *past) {
		v.Outcome, v.Reason, v.Since = Served, "", h.now().UTC()
		v.Admitted = v.Since
		if i := p.find(v.Digest); i >= 0 {
			v.Admitted = p.Versions[i].Admitted
			p.Versions = slices.Delete(p.Versions, i, i+1)
		}
		p.Versions = append(p.Versions, v)
		p.trim()
	})
}

// trim forgets the oldest version that may be forgotten, if there are too many.
func (p *past) trim() {
	if len(p.Versions) <= maxVersions {
		return
	}
	keep := []string{p.Pin}
	for _, v := range slices.Backward(p.Versions) {
		if v.Outcome == Served && len(keep) < 3 {
			keep = append(keep, v.Digest)
		}
	}
	i := slices.IndexFunc(p.Versions, func(v Version) bool { return !slices.Contains(keep, v.Digest) })
	p.Versions = slices.Delete(p.Versions, i, i+1)
}

// TakeBack notes that a version was rolled back, and why. A version that the
// history does not have is left out.
func (h *History) TakeBack(module, digest, reason string) error {
	return h.mark(module, digest, RolledBack, reason)
}

// Forgive makes a version that was rolled back one that may serve again.
func (h *History) Forgive(module, digest string) error {
	if !h.RolledBack(module, digest) {
		return nil
	}
	return h.mark(module, digest, Served, "")
}

func (h *History) mark(module, digest string, o Outcome, reason string) error {
	return h.change(module, func(p *past) {
		if i := p.find(digest); i >= 0 {
			v := &p.Versions[i]
			v.Outcome, v.Reason, v.Since = o, cut(reason, maxReason), h.now().UTC()
		}
	})
}

// cut shortens a text to so many bytes, at the end of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "..."
	return strings.ToValidUTF8(s[:limit-len(more)], "") + more
}

func (p *past) find(digest string) int {
	return slices.IndexFunc(p.Versions, func(v Version) bool { return v.Digest == digest })
}

// change changes what is known of one module, and puts it on disk. After an error
// nothing is changed.
func (h *History) change(module string, f func(*past)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, known := h.modules[module]
	next := &past{}
	if known {
		next.Pin, next.Versions = was.Pin, slices.Clone(was.Versions)
	} else if len(h.modules) >= maxModules {
		return fmt.Errorf("catalog: the history holds %d modules already; remove those you do not use from %s", maxModules, h.path)
	}
	f(next)
	if err := next.check(); err != nil {
		return fmt.Errorf("catalog: the history cannot say of %s: %w", module, err)
	}
	if h.modules[module] = next; len(next.Versions) == 0 && next.Pin == "" {
		delete(h.modules, module)
	}
	err := h.write()
	if err != nil {
		if delete(h.modules, module); known {
			h.modules[module] = was
		}
		return fmt.Errorf("catalog: the history %s: %w", h.path, err)
	}
	return nil
}

// write puts the history in the place of the old one, in one step.
func (h *History) write() (err error) {
	text, err := json.MarshalIndent(h.modules, "", "  ")
	if err != nil {
		return err
	}
	if len(text) > maxHistory {
		return fmt.Errorf("it would have %d bytes, the limit is %d; remove modules that you do not use from it while the node is stopped", len(text), maxHistory)
	}
	dir := filepath.Dir(h.path)
	f, err := os.CreateTemp(dir, filepath.Base(h.path)+incoming)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, torn := historyWrite.Torn(len(text))
	_, err = f.Write(text[:n])
	err = errors.Join(err, torn, historySync.Hit())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := historyRename.Hit(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), h.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// isDigest reports whether s is a SHA-256 in lower-case hex.
func isDigest(s string) bool {
	return len(s) == 64 && !bytes.ContainsFunc([]byte(s), func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}
