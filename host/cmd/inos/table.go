package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
)

// table prints rows in aligned columns.
type table struct {
	w     *tabwriter.Writer
	shade int // the column that may have colours, -1 for none
}

// newTable starts a table. The column called by the name shaded has colours when
// a person looks at it; empty means none.
func newTable(w io.Writer, shaded string, head ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), shade: -1}
	for i, h := range head {
		if h == shaded && isTerminal(w) && os.Getenv("NO_COLOR") == "" {
			t.shade = i
		}
	}
	cells := make([]any, len(head))
	for i, h := range head {
		cells[i] = h
	}
	t.row(cells...)
	return t
}

// row adds a row. What is empty shows as a dash.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		text := plain(fmt.Sprint(c))
		if text == "" {
			text = "-"
		}
		if i == t.shade {
			text = colour(text)
		}
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, text)
	}
	io.WriteString(t.w, "\n")
}

// end writes the table out.
func (t *table) end() { t.w.Flush() }

// colours of words that say how something is. All codes are equally long, and
// words without a colour get the code for none, so that columns stay aligned.
var colours = map[string]string{
	"ok": "32", "success": "32", "serving": "32", "healthy": "32",
	"rolled back": "31", "served": "32", "quarantined": "31", "suspected": "33",
	"warn": "33", "starting": "33", "held": "33", "restarting": "33", "waiting": "33", "skipped": "33", "degraded": "33",
	"fail": "31", "failed": "31", "refused": "31", "stopped": "31", "timeout": "31",
}

func colour(text string) string {
	code, ok := colours[text]
	if !ok {
		code = "39"
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// plain replaces what would do more to a terminal than show: texts come from
// plugins and from those who named what they stored.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// pairs prints facts, each with its name.
type pairs struct{ w *tabwriter.Writer }

func newList(w io.Writer) pairs { return pairs{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// pair adds a fact. One that is empty is left out.
func (p pairs) pair(name, value string) {
	if value != "" {
		fmt.Fprintf(p.w, "%s\t%s\n", plain(name), plain(value))
	}
}

func (p pairs) end() { p.w.Flush() }
