package main

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// folder is the plugins folder, into which files come in every way that files do.
type folder struct {
	dir   string
	aside string // for what links lead to
}

// program is the mode of the files: they are to be run.
const program = 0o700

// ways are how a file can come.
var ways = []struct {
	name string
	drop func(f folder, r *rand.Rand, file string, b []byte) error
}{
	{"renamed", folder.rename},
	{"copied slowly", folder.slowly},
	{"linked", folder.link},
	{"rewritten", folder.rewrite},
	{"moved in", folder.move},
}

// rename writes a file under another name first.
func (f folder) rename(_ *rand.Rand, file string, b []byte) error {
	temp := filepath.Join(f.dir, ".incoming-"+file)
	if err := os.WriteFile(temp, b, program); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(f.dir, file))
}

// slowly writes a file in place, with pauses.
func (f folder) slowly(r *rand.Rand, file string, b []byte) error {
	path := filepath.Join(f.dir, file)
	_ = os.Remove(path) // not in place of a file that runs
	w, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, program)
	if err != nil {
		return err
	}
	for range 4 {
		n := len(b) / 4
		if _, err := w.Write(b[:n]); err != nil {
			return errors.Join(err, w.Close())
		}
		b = b[n:]
		time.Sleep(time.Duration(r.Int64N(int64(60 * time.Millisecond))))
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

// link puts a symbolic link to a file elsewhere.
func (f folder) link(r *rand.Rand, file string, b []byte) error {
	elsewhere := folder{dir: f.aside}
	target := file + "-" + time.Now().Format("150405.000000000")
	if err := elsewhere.rename(r, target, b); err != nil {
		return err
	}
	temp := filepath.Join(f.dir, ".incoming-"+file)
	if err := os.Symlink(filepath.Join(f.aside, target), temp); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(f.dir, file))
}

// rewrite writes a file several times over, only the last of which is whole.
func (f folder) rewrite(r *rand.Rand, file string, b []byte) error {
	for range 3 {
		if err := f.rename(r, file, b[:r.IntN(len(b))]); err != nil {
			return err
		}
		time.Sleep(time.Duration(r.Int64N(int64(40 * time.Millisecond))))
	}
	return f.rename(r, file, b)
}

// move brings a file in from another folder.
func (f folder) move(r *rand.Rand, file string, b []byte) error {
	elsewhere := folder{dir: f.aside}
	if err := elsewhere.rename(r, file, b); err != nil {
		return err
	}
	return os.Rename(filepath.Join(f.aside, file), filepath.Join(f.dir, file))
}

// remove takes a file out, with what lies beside it and what it leads to.
func (f folder) remove(file string) error {
	path := filepath.Join(f.dir, file)
	if to, err := os.Readlink(path); err == nil {
		defer os.Remove(to)
	}
	var errs []error
	for _, p := range []string{path, path + ".sha256", path + ".minisig"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// tidy removes all files of a module but one.
func (f folder) tidy(module, but string) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != but && (e.Name() == module || strings.HasPrefix(e.Name(), module+"-")) {
			err = errors.Join(err, f.remove(e.Name()))
		}
	}
	return err
}
