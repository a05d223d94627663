package failpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// action is what a term does.
type action uint8

const (
	off action = iota
	fail
	boom
	wait
	kill
	tear
)

// term is one step of what a point does.
type term struct {
	action action
	count  int // hits that it holds for, 0 for ever
	text   string
	wait   time.Duration
	bytes  int
}

// Bounds of what can be asked for.
const (
	maxText  = 64 << 10
	maxTerms = 64
	maxCount = 1 << 30
	maxDelay = time.Hour
)

// parse reads NAME=TERMS;NAME=TERMS...
func parse(text string) (map[string][]term, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("failpoints: %d bytes are more than %d", len(text), maxText)
	}
	plans := make(map[string][]term)
	for _, part := range split(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, terms, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok || !wellFormed.MatchString(name) {
			return nil, fmt.Errorf("failpoints: %q is not of the form room/point=terms", part)
		}
		if _, twice := plans[name]; twice {
			return nil, fmt.Errorf("failpoints: %s is there twice", name)
		}
		list, err := parseTerms(terms)
		if err != nil {
			return nil, fmt.Errorf("failpoints: %s: %w", name, err)
		}
		plans[name] = list
	}
	return plans, nil
}

// split cuts text at sep where that is not within brackets.
func split(text, sep string) []string {
	var parts []string
	depth, from := 0, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '(':
			depth++
		case text[i] == ')' && depth > 0:
			depth--
		case depth == 0 && strings.HasPrefix(text[i:], sep):
			parts = append(parts, text[from:i])
			i += len(sep) - 1
			from = i + 1
		}
	}
	return append(parts, text[from:])
}

// parseTerms reads TERM->TERM... An empty text is no term.
func parseTerms(text string) ([]term, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	parts := split(text, "->")
	if len(parts) > maxTerms {
		return nil, fmt.Errorf("%d terms are more than %d", len(parts), maxTerms)
	}
	var list []term
	for i, part := range parts {
		t, err := parseTerm(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if t.count == 0 && i < len(parts)-1 {
			return nil, fmt.Errorf("%q has no count, so what comes after it never happens", part)
		}
		list = append(list, t)
	}
	return list, nil
}

// parseTerm reads [COUNT*]ACTION[(ARGUMENT)].
func parseTerm(text string) (t term, err error) {
	body := text
	if count, rest, ok := strings.Cut(text, "*"); ok && !strings.Contains(count, "(") {
		if t.count, err = strconv.Atoi(count); err != nil || t.count < 1 || t.count > maxCount {
			return term{}, fmt.Errorf("%q: the count is not between 1 and %d", text, maxCount)
		}
		body = rest
	}
	name, argument, given := strings.Cut(body, "(")
	if given {
		var closed bool
		if argument, closed = strings.CutSuffix(argument, ")"); !closed {
			return term{}, fmt.Errorf("%q: a bracket is not closed", text)
		}
	}
	switch name {
	case "off":
		t.action = off
	case "error":
		t.action, t.text = fail, argument
	case "panic":
		t.action, t.text = boom, argument
	case "kill":
		t.action = kill
	case "delay":
		t.action = wait
		if t.wait, err = time.ParseDuration(argument); err != nil || t.wait < 0 || t.wait > maxDelay {
			return term{}, fmt.Errorf("%q: give a duration of at most %s, as delay(50ms)", text, maxDelay)
		}
	case "torn":
		t.action = tear
		if t.bytes, err = strconv.Atoi(argument); err != nil || t.bytes < 0 {
			return term{}, fmt.Errorf("%q: give a number of bytes, as torn(7)", text)
		}
	default:
		return term{}, fmt.Errorf("%q: the actions are off, error, panic, delay, kill and torn", text)
	}
	if given && (t.action == off || t.action == kill) {
		return term{}, fmt.Errorf("%q: %s takes no argument", text, name)
	}
	return t, nil
}
