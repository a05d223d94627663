package supervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/time/rate"
)

// Bounds of what a plugin prints.
const (
	maxLine   = 16 << 10 // bytes; what is longer is cut. go-plugin's scanner gives up at 64 KiB
	tailBytes = 4 << 10  // of standard error that are kept
	logRate   = 64 << 10 // bytes of standard error per second that are logged in the long run
	logBurst  = 1 << 20  // bytes that may come at once
)

// tail keeps the last bytes that were written to it. It may be used by many
// goroutines at once.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, line...)
	// Moved rarely, so that a flood costs one copy for every few lines.
	if len(t.b) > 4*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
}

// String returns them with the control characters taken out that are not the
// ends of lines.
func (t *tail) String() string {
	t.mu.Lock()
	last := string(t.b[max(0, len(t.b)-tailBytes):])
	t.mu.Unlock()
	parts := strings.Split(last, "\n")
	for i, p := range parts {
		parts[i] = clean(p)
	}
	return strings.Join(parts, "\n")
}

// limiter decides which lines are logged. One is shared by all streams of a
// process.
func limiter() *rate.Limiter { return rate.NewLimiter(logRate, logBurst) }

// lines reads a plugin's pipe and gives on whole lines only, none longer than
// maxLine, and none that see turns down. It is read by one goroutine.
type lines struct {
	file    *os.File
	in      *bufio.Reader
	see     func(line []byte) bool // called with every line; false leaves it out
	pending []byte
	left    int  // lines left out since the last one that was given on
	cut     bool // within a line whose beginning was given on
}

func newLines(file *os.File, see func([]byte) bool) *lines {
	return &lines{file: file, in: bufio.NewReaderSize(file, maxLine), see: see}
}

// Read gives on the next part of a line. When the plugin is gone and its pipe is
// only held open by somebody it left behind, the deadline that was set then ends
// it like the pipe's end.
func (l *lines) Read(b []byte) (int, error) {
	for len(l.pending) == 0 {
		line, err := l.line()
		if len(line) > 0 && l.see(line) {
			l.pending = append(l.notice(), line...)
			break
		}
		if len(line) > 0 {
			l.left++
		}
		if err != nil {
			if l.pending = l.notice(); len(l.pending) > 0 {
				break
			}
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
				err = io.EOF
			}
			return 0, err
		}
	}
	n := copy(b, l.pending)
	l.pending = l.pending[n:]
	return n, nil
}

// line returns the next line with its end. Of one that does not fit it returns
// the beginning at once, since the end may never come, and drops the rest.
func (l *lines) line() ([]byte, error) {
	b, err := l.in.ReadSlice('\n')
	for l.cut {
		l.cut = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !l.cut {
			return nil, err
		}
		b, err = l.in.ReadSlice('\n')
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		l.cut = true
		return append(bytes.Clone(b[:maxLine-len("...\n")]), "...\n"...), nil
	case len(b) > 0 && b[len(b)-1] != '\n':
		return append(bytes.Clone(b), '\n'), err
	}
	return b, err
}

// notice is the line that says how many were left out.
func (l *lines) notice() []byte {
	if l.left == 0 {
		return nil
	}
	b := fmt.Appendf(nil, "[WARN] %d lines were left out: the plugin prints faster than %d KiB/s\n", l.left, logRate>>10)
	l.left = 0
	return b
}

// Close closes the pipe.
func (l *lines) Close() error { return l.file.Close() }

// sink takes what a served plugin prints with its standard streams, which then
// come over its connection, and logs it line by line. Written by one goroutine.
type sink struct {
	limit *rate.Limiter
	emit  func(line string)
	part  []byte
}

// Write takes everything.
func (s *sink) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		s.part = append(s.part, line[:min(len(line), maxLine-len(s.part))]...)
		rest = after
		if !whole {
			break
		}
		if len(s.part) > 0 && s.limit.AllowN(time.Now(), len(s.part)) {
			s.emit(string(s.part))
		}
		s.part = s.part[:0]
	}
	return len(b), nil
}

// clean replaces what would act on a terminal or begin a line of its own.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
