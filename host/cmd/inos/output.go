package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// output is where a command writes what a job gave: standard output, or a file
// that appears only when all of it has come.
type output struct {
	io.Writer
	file *os.File // nil for standard output
	to   string   // final name, empty when file has it already
}

// createOutput prepares to write a file, or standard output for "-".
func (a *app) createOutput(name string) (*output, error) {
	if name == "-" {
		return &output{Writer: a.out}, nil
	}
	// A device or a pipe is written to as it is: it cannot be replaced.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &output{Writer: f, file: f}, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return nil, err
	}
	return &output{Writer: f, file: f, to: name}, nil
}

// commit gives the file its name.
func (o *output) commit() error {
	if o.file == nil {
		return nil
	}
	f := o.file
	o.file = nil
	err := f.Close()
	if o.to == "" {
		return err
	}
	if err == nil {
		err = os.Rename(f.Name(), o.to)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// syncFile writes a file and the folder it is in to the disk.
func syncFile(name string) error {
	for _, path := range []string{name, filepath.Dir(name)} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// discard removes a file that was not committed.
func (o *output) discard() {
	if o.file == nil {
		return
	}
	o.file.Close()
	if o.to != "" {
		os.Remove(o.file.Name())
	}
	o.file = nil
}
