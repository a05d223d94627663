package vault

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

// memFS is a file system in memory that keeps apart what is visible and what
// would survive a loss of power: a file's bytes survive once synced, a name once
// its folder is.
type memFS struct {
	mu      sync.Mutex
	files   map[string]*memFile // as visible now
	dirs    map[string]bool
	lasting map[string]*memFile // names as synced
	lastDir map[string]bool
	locks   map[string]bool
}

type memFile struct{ data, synced []byte }

func newMemFS() *memFS {
	return &memFS{
		files: map[string]*memFile{}, dirs: map[string]bool{"/": true},
		lasting: map[string]*memFile{}, lastDir: map[string]bool{"/": true}, locks: map[string]bool{},
	}
}

func notExist(op, path string) error { return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist} }

type memWriter struct {
	fs     *memFS
	file   *memFile
	closed bool
}

func (w *memWriter) Write(p []byte) (int, error) {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.file.data = append(w.file.data, p...)
	return len(p), nil
}

func (w *memWriter) Sync() error {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.file.synced = slices.Clone(w.file.data)
	return nil
}

func (w *memWriter) Close() error {
	if w.closed {
		return fs.ErrClosed
	}
	w.closed = true
	return nil
}

func (m *memFS) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Dir(path)] {
		return nil, notExist("create", path)
	}
	if m.files[path] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	f := new(memFile)
	m.files[path] = f
	return &memWriter{fs: m, file: f}, nil
}

func (m *memFS) ReadFile(path string, dst []byte, limit int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[path]
	if f == nil {
		return dst, notExist("read", path)
	}
	if len(f.data) > limit {
		return dst, errLarge
	}
	return append(dst, f.data...), nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[from] == nil || !m.dirs[filepath.Dir(to)] {
		return notExist("rename", from)
	}
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[path] == nil {
		return notExist("remove", path)
	}
	delete(m.files, path)
	return nil
}

func (m *memFS) Mkdir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Dir(path)] {
		return notExist("mkdir", path)
	}
	m.dirs[path] = true
	return nil
}

func (m *memFS) ReadDir(path string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[path] {
		return nil, notExist("readdir", path)
	}
	var names []string
	for _, p := range slices.Concat(slices.Collect(maps.Keys(m.files)), slices.Collect(maps.Keys(m.dirs))) {
		if p != path && filepath.Dir(p) == path {
			names = append(names, filepath.Base(p))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *memFS) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[path] {
		return notExist("sync", path)
	}
	in := func(p string) bool { return filepath.Dir(p) == path && p != path }
	maps.DeleteFunc(m.lasting, func(p string, _ *memFile) bool { return in(p) })
	for p, f := range m.files {
		if in(p) {
			m.lasting[p] = f
		}
	}
	for p := range m.dirs {
		if in(p) {
			m.lastDir[p] = true
		}
	}
	return nil
}

type memLock struct {
	fs   *memFS
	path string
}

func (l memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.path)
	return nil
}

func (m *memFS) Lock(path string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Dir(path)] {
		return nil, notExist("lock", path)
	}
	if m.locks[path] {
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	m.locks[path] = true
	return memLock{m, path}, nil
}

// afterPowerLoss returns what is found when the machine comes back: everything
// synced, and of each thing that was not, by the coin, the old, the new, or for
// the bytes of a file some of them.
func (m *memFS) afterPowerLoss(seed uint64) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	coin := rand.New(rand.NewPCG(seed, 7))
	n := newMemFS()
	dirs := slices.Sorted(maps.Keys(m.dirs)) // parents first
	for _, p := range dirs {
		if p != "/" && n.dirs[filepath.Dir(p)] && (m.lastDir[p] || coin.IntN(2) == 0) {
			n.dirs[p], n.lastDir[p] = true, true
		}
	}
	all := maps.Clone(m.files)
	maps.Copy(all, m.lasting)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		f := m.lasting[p]
		if m.files[p] != f && coin.IntN(2) == 0 {
			f = m.files[p]
		}
		if f == nil || !n.dirs[filepath.Dir(p)] {
			continue
		}
		data := slices.Clone(f.synced)
		if string(f.data) != string(f.synced) {
			data = append(data, f.data[len(f.synced):]...)
			data = data[:len(f.synced)+coin.IntN(len(data)-len(f.synced)+1)]
		}
		n.files[p] = &memFile{data: data, synced: slices.Clone(data)}
		n.lasting[p] = n.files[p]
	}
	return n
}

// image returns a copy of the visible files.
func (m *memFS) image() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]string{}
	for p, f := range m.files {
		out[p] = string(f.data)
	}
	return out
}

// clone returns an independent file system with the same content, all of it
// synced.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newMemFS()
	for p := range m.dirs {
		n.dirs[p], n.lastDir[p] = true, true
	}
	for p, f := range m.files {
		n.files[p] = &memFile{data: slices.Clone(f.data), synced: slices.Clone(f.data)}
		n.lasting[p] = n.files[p]
	}
	return n
}
