package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
)

// steps draws what happens to plugins, one line for each event as it comes.
type steps struct {
	w       io.Writer
	shade   bool   // somebody looks at it who sees colours
	version string // that the change is about, which the first of its events names
}

func newSteps(w io.Writer) *steps {
	return &steps{w: w, shade: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

// change draws a step of a change of one plugin: how it went, how long it took. A
// step of another version than the first one's says so.
func (s *steps) change(e api.Event) {
	if s.version == "" {
		s.version = e.Version
	}
	if e.Version != s.version && e.Version != "" {
		e.Detail = strings.TrimSpace(e.Version + " " + e.Detail)
	}
	line := fmt.Sprintf("  %s %-11s %8s  %s", s.mark(e), plain(e.Step), took(e), s.bar(time.Duration(e.TookNs)))
	if about := remark(e); about != "" {
		line = fmt.Sprintf("%s%s  %s", line, strings.Repeat(" ", max(0, widest-cells(time.Duration(e.TookNs)))), about)
	}
	fmt.Fprintln(s.w, strings.TrimRight(line, " "))
}

// event draws an event of any plugin.
func (s *steps) event(e api.Event) {
	if e.Missed > 0 {
		fmt.Fprintf(s.w, "%d events before this are forgotten\n", e.Missed)
	}
	who := e.Plugin + " " + e.Version
	if e.Instance != 0 {
		who = fmt.Sprintf("%s #%d", who, e.Instance)
	}
	line := fmt.Sprintf("%5d  %s  %-22s  %s %-11s %8s  %s",
		e.ID, e.Time.Local().Format("15:04:05.000"), plain(strings.TrimSpace(who)), s.mark(e), plain(e.Step), took(e), remark(e))
	fmt.Fprintln(s.w, strings.TrimRight(line, " "))
}

// mark says how a step went.
func (s *steps) mark(e api.Event) string {
	mark, code := "✓", "32"
	if e.Error != nil {
		mark, code = "✗", "31"
	}
	if s.shade {
		return "\x1b[" + code + "m" + mark + "\x1b[0m"
	}
	return mark
}

func took(e api.Event) string {
	if e.TookNs <= 0 {
		return ""
	}
	return units.Duration(time.Duration(e.TookNs))
}

// longestRemark is how much of an error stands on the line of its step: all of it
// is in the verdict, or in --json.
const longestRemark = 100

func remark(e api.Event) string {
	text := e.Detail
	if e.Error != nil {
		text = e.Error.Message
	}
	if text = plain(text); utf8.RuneCountInString(text) > longestRemark {
		text = string([]rune(text)[:longestRemark-1]) + "…"
	}
	return text
}

// A bar is as long as the logarithm of a duration: its steps are known one by one,
// so there is no longest one yet to compare with, and they span microseconds to
// minutes.
const (
	shortest = 100 * time.Microsecond // has no bar
	tenfold  = 5                      // characters for each tenfold
	widest   = 6 * tenfold            // for 100 s and more
)

// eighths of a character, from none to all.
var eighths = []rune(" ▏▎▍▌▋▊▉█")

// length of a duration's bar in eighths of a character.
func length(d time.Duration) int {
	if d <= shortest {
		return 0
	}
	return int(8 * min(widest, tenfold*math.Log10(float64(d)/float64(shortest))))
}

// cells that a bar takes.
func cells(d time.Duration) int { return (length(d) + 7) / 8 }

func (s *steps) bar(d time.Duration) string {
	n := length(d)
	text := strings.Repeat(string(eighths[8]), n/8)
	if rest := n % 8; rest > 0 {
		text += string(eighths[rest])
	}
	if s.shade && text != "" {
		return "\x1b[36m" + text + "\x1b[0m"
	}
	return text
}
