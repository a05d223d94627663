package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells whoever waits how far a campaign is, and what it found.
type progress struct {
	every time.Duration
	begin time.Time

	mu    sync.Mutex
	to    io.Writer
	found int
}

func newProgress(to io.Writer, every time.Duration) *progress {
	return &progress{to: to, every: every, begin: time.Now()}
}

// say writes a line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.to, "%6.1fs %s\n", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...))
}

// maxFound bounds how many findings are told: what comes after the first has the
// same cause as a rule.
const maxFound = 50

// find tells of something that must not be.
func (p *progress) find(format string, args ...any) {
	p.mu.Lock()
	p.found++
	n := p.found
	p.mu.Unlock()
	switch {
	case n <= maxFound:
		p.say(time.Now().Format("15:04:05.000 ")+format, args...)
	case n == maxFound+1:
		p.say("there is more of it, which is not told")
	}
}
