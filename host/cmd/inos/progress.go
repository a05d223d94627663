package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how many bytes have passed, to a person at a terminal.
type progress struct{ bar *progressbar.ProgressBar }

// progress begins to show something. A size below 0 is not known.
func (a *app) progress(what string, size int64) progress {
	if !isTerminal(a.err) || size == 0 {
		return progress{}
	}
	return progress{progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(plain(what)),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
	)}
}

// reader counts what is read through it.
func (p progress) reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return io.TeeReader(r, p.bar)
}

// writer counts what is written through it.
func (p progress) writer(w io.Writer) io.Writer {
	if p.bar == nil {
		return w
	}
	return io.MultiWriter(w, p.bar)
}

// end takes it off the screen.
func (p progress) end() {
	if p.bar != nil {
		// A terminal that is gone is no reason to fail what succeeded.
		_ = p.bar.Clear()
	}
}
