// Command inos runs a node and talks to a running one. It holds no knowledge of
// its own about modules or memory: what it shows comes through package api, and
// what it starts is package node.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version string

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	ctx, stop := interruptible()
	code := a.execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// errInterrupted is why the context of a command ends.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first signal ends. The second one ends
// the process, whatever it is doing.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
			return
		}
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}
