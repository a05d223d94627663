package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits bound what is taken from a plugins folder.
type Limits struct {
	// MaxFiles is how many files can be candidates, default 256.
	MaxFiles int
	// MaxBytes is the size of the largest binary, default 512 MiB.
	MaxBytes int64
}

// EnsureDefaults fills in what was left zero.
func (l *Limits) EnsureDefaults() {
	l.MaxFiles = cmp.Or(l.MaxFiles, 256)
	l.MaxBytes = cmp.Or(l.MaxBytes, 512<<20)
}

// maxEntries bounds the names that are read from a folder, of whatever kind. All
// must be read before the first can be told from the last.
const maxEntries = 1 << 14

// ErrTooManyEntries says that a folder holds more names than any plugins folder
// would.
var ErrTooManyEntries = errors.New("catalog: too many entries in the folder")

// Stamp changes when a file does. Two looks that give the same Stamp saw the
// same bytes, but for a writer that sets the times back.
type Stamp struct {
	Device, Inode     uint64
	Size              int64
	Modified, Changed int64 // ns since 1970, of the content and of the inode
}

// Candidate is a file of the plugins folder that was looked at.
type Candidate struct {
	Name   string    // in the folder
	Path   string    // folder and name
	Target string    // the file itself: Path with every symbolic link resolved
	Size   int64     // bytes
	Time   time.Time // of its last change
	Kind   Kind      // 0 when refused before its bytes were read
	Stamp  Stamp
	// Err is nil, or the *Refusal that keeps it out.
	Err error

	seal imprint // what a Watcher saw of it
}

// Linked says whether the name in the folder is a symbolic link to a file
// elsewhere.
func (c Candidate) Linked() bool { return c.Target != "" && c.Target != c.Path }

// Scan looks at every file of a folder, in the order of their names. Files that
// accompany plugins and hidden ones are left out; whatever else cannot be a
// plugin comes with its refusal. The error is about the folder itself.
func Scan(dir string, limits Limits) ([]Candidate, error) {
	limits.EnsureDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: plugins folder: %w", err)
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	who := currentOperator()
	var list []Candidate
	for _, e := range entries {
		if ignored(e.Name()) || e.IsDir() {
			continue
		}
		c := Candidate{Name: e.Name(), Path: filepath.Join(dir, e.Name())}
		if len(list) >= limits.MaxFiles {
			c.Err = refuse(TooMany, "the folder holds more than %d files", limits.MaxFiles).about(c.Path)
			list = append(list, c)
			continue
		}
		if !c.inspect(who, limits) {
			continue
		}
		list = append(list, c)
	}
	return list, nil
}

// Inspect looks at one file, as Scan does. It returns false for what is not
// meant to be a plugin: a folder, a hidden file, one that accompanies a plugin.
func Inspect(path string, limits Limits) (Candidate, bool) {
	limits.EnsureDefaults()
	c := Candidate{Name: filepath.Base(path), Path: path}
	if abs, err := filepath.Abs(path); err == nil {
		c.Path = abs
	}
	if ignored(c.Name) {
		return c, false
	}
	return c, c.inspect(currentOperator(), limits)
}

func readDir(dir string) ([]fs.DirEntry, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: plugins folder: %w; make it, or name another", err)
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("catalog: plugins folder: %w", err)
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%w: %s holds more than %d; is it the plugins folder?", ErrTooManyEntries, dir, maxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// ignored says whether a name stands for no plugin by its form alone.
func ignored(name string) bool {
	if strings.HasPrefix(name, ".") || name == sumsName {
		return true
	}
	switch filepath.Ext(name) {
	case sumSuffix, sigSuffix, ".md":
		return true
	}
	return false
}

// inspect fills c in. It returns false when the name leads to a folder.
func (c *Candidate) inspect(who operator, limits Limits) bool {
	refusal := c.look(who, limits)
	if refusal != nil {
		if refusal == isFolder {
			return false
		}
		c.Err = refusal.about(c.Path)
	}
	return true
}

// isFolder is returned by look for a link that leads to a folder.
var isFolder = &Refusal{}

func (c *Candidate) look(who operator, limits Limits) *Refusal {
	if !printable(c.Name) {
		return refuse(BadName, "its name %q cannot be printed", c.Name)
	}
	target, err := filepath.EvalSymlinks(c.Path)
	if err != nil {
		return refuse(Unreadable, "%v", err)
	}
	c.Target = target
	info, err := os.Stat(target)
	if err != nil {
		return refuse(Unreadable, "%v", err)
	}
	if info.IsDir() {
		return isFolder
	}
	c.Size, c.Time, c.Stamp = info.Size(), info.ModTime(), stamp(info)
	switch {
	case !info.Mode().IsRegular():
		return refuse(NotAPlugin, "it is no regular file but %s", special(info.Mode()))
	case c.Size > limits.MaxBytes:
		return refuse(TooLarge, "it has %d bytes, the limit is %d", c.Size, limits.MaxBytes)
	}
	for _, dir := range slices.Compact([]string{filepath.Dir(c.Path), filepath.Dir(target)}) {
		folder, err := os.Stat(dir)
		if err != nil {
			return refuse(Unreadable, "%v", err)
		}
		if r := who.alone("folder "+dir, dir, folder); r != nil {
			return r
		}
	}
	if r := who.alone("file", target, info); r != nil {
		return r
	}
	return c.read(info)
}

// read looks at the bytes.
func (c *Candidate) read(info fs.FileInfo) *Refusal {
	f, err := openSource(c.Target)
	if err != nil {
		return refuse(Unreadable, "%v", err)
	}
	defer f.Close()
	p, refusal := examine(f, c.Size)
	if refusal != nil {
		return refusal
	}
	c.Kind = p.kind
	// Asked last: of a text without the bit it helps more to hear that it is no
	// plugin at all.
	if info.Mode().Perm()&0o111 == 0 {
		return refuse(NotExecutable, "mode %04o has no executable bit", info.Mode().Perm()).but("chmod u+x %s", c.Target)
	}
	if p.interpreter != "" {
		if _, err := os.Stat(p.interpreter); err != nil {
			return refuse(MissingInterpreter, "it is run by %s, which is not there", p.interpreter)
		}
	}
	return nil
}

// openSource opens a file of the plugins folder for reading. Should it have
// become a link or a pipe since it was looked at, it neither follows nor waits.
func openSource(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

func stamp(info fs.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if t, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Device, s.Inode = t.Dev, t.Ino
		s.Changed = t.Ctim.Nano()
	}
	return s
}

// printable says whether a name can stand in a log line and on a terminal.
func printable(name string) bool {
	if !utf8.ValidString(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func special(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}
