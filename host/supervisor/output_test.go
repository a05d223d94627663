package supervisor

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
)

// record is an output for a logger that can be read while it is written.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// logged has the plugin do something and returns what was logged until it was
// gone.
func logged(t *testing.T, what string) (string, ExitState) {
	t.Helper()
	s := tidy(t)
	var log record
	sp := spec(t, "plugin")
	sp.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(t.Context(), p, what); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return log.String(), gone(t, p)
}

func TestWhatAPluginPrintsIsLoggedAndHarmless(t *testing.T) {
	log, state := logged(t, "print")
	for _, want := range []string{"to descriptor 1: stream=stdout", "to descriptor 2", "[WARN]", "hclog: key=value"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is missing in the log:\n%s", want, log)
		}
	}
	if strings.ContainsRune(log, '\x1b') {
		t.Errorf("a control character got into the log: %q", log)
	}
	if strings.Contains(log, "gracefully") || strings.Contains(log, "[ERROR]") {
		t.Errorf("go-plugin's own messages are in the log:\n%s", log)
	}
	if !strings.Contains(state.Stderr, "to descriptor 2") || strings.ContainsRune(state.Stderr, '\x1b') {
		t.Errorf("the end of standard error is %q", state.Stderr)
	}
}

func TestAFloodIsCutAndCounted(t *testing.T) {
	log, state := logged(t, "flood")
	if len(log) > 2*logBurst || !strings.Contains(log, "lines were left out") {
		t.Errorf("%d bytes were logged; says it so: %v", len(log), strings.Contains(log, "left out"))
	}
	if !strings.HasSuffix(state.Stderr, "after the flood\n") || len(state.Stderr) > tailBytes {
		t.Errorf("kept %d bytes that end in %q", len(state.Stderr), state.Stderr[max(0, len(state.Stderr)-40):])
	}
}

func TestLongLinesDoNotStopAPlugin(t *testing.T) {
	log, _ := logged(t, "long lines")
	for line := range strings.Lines(log) {
		if len(line) > maxLine+200 {
			t.Errorf("a line of %d bytes was logged", len(line))
		}
	}
	if !strings.Contains(log, "lll...") {
		t.Error("the beginning of the long lines is missing")
	}
}

func TestLinesAreCutAndLeftOut(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := newLines(r, func(line []byte) bool { return !bytes.HasPrefix(line, []byte("drop")) })
	defer l.Close()
	long := strings.Repeat("x", 3*maxLine)
	go func() {
		defer w.Close()
		_, _ = w.WriteString("first\ndrop\ndrop\n\n" + long + "\nlast\ndrop\nunended")
	}()
	b, err := io.ReadAll(l)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first", "[WARN] 2 lines were left out: the plugin prints faster than 64 KiB/s", "", long[:maxLine-4] + "...", "last",
		"[WARN] 1 lines were left out: the plugin prints faster than 64 KiB/s", "unended"}
	var got []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		got = append(got, s.Text())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %d lines, want %d:\n%.200q", len(got), len(want), got)
	}
}

func TestALineThatNeverEndsIsSeen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l := newLines(r, func([]byte) bool { return true })
	defer l.Close()
	if _, err := w.WriteString(strings.Repeat("x", 2*maxLine)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReaderSize(l, 4*maxLine).ReadString('\n')
	if err != nil || len(line) != maxLine {
		t.Fatalf("got %d bytes, %v", len(line), err)
	}
	// The deadline that is set when a process is gone ends the stream.
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(l); err != nil || len(rest) > 0 {
		t.Errorf("got %d bytes, %v", len(rest), err)
	}
}

func TestTailKeepsTheLastBytesOnly(t *testing.T) {
	var kept tail
	for range 10_000 {
		kept.add([]byte("some line\n"))
	}
	kept.add([]byte("the\x1b[31m end\n"))
	if got := kept.String(); len(got) > tailBytes+2 || !strings.HasSuffix(got, "some line\nthe\uFFFD[31m end\n") {
		t.Errorf("got %d bytes that end in %q", len(got), got[max(0, len(got)-40):])
	}
	if len(kept.b) > 5*tailBytes {
		t.Errorf("it holds %d bytes", len(kept.b))
	}
}

func TestSinkMakesLines(t *testing.T) {
	var got []string
	s := &sink{limit: rate.NewLimiter(0, 10), emit: func(l string) { got = append(got, l) }}
	for _, part := range []string{"a", "b\nc\n", "\n", strings.Repeat("z", 3*maxLine), "\nd\n"} {
		if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "ab c d"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q; the long line is above the rate", got, want)
	}
	if cap(s.part) > 2*maxLine {
		t.Errorf("it keeps %d bytes", cap(s.part))
	}
}
