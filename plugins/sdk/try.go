package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/credits"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

// tryPiece is the size of the pieces that Try cuts a stream into: small, so that
// a test of some kilobytes sees several.
const tryPiece = 4096

// Try runs one job of the plugin in this process, without a node, on plain
// memory: the manifest is checked, the parameters too, and the handler sees a Job
// that behaves as in service, streams cut into pieces included. Calls to the host
// fail as not supported. It is for tests; see package sdktest.
func (p *Plugin) Try(ctx context.Context, capability string, params Params, in io.Reader, out io.Writer) error {
	m, err := p.Manifest()
	if err != nil {
		return err
	}
	for i := range m.Capabilities {
		if m.Capabilities[i].Name == capability {
			return p.try(ctx, &m.Capabilities[i], &p.Capabilities[i], params, in, out)
		}
	}
	return fmt.Errorf("plugin %s has no capability %q", p.Name, capability)
}

func (p *Plugin) try(ctx context.Context, told *wire.Capability, spec *Capability, params Params, in io.Reader, out io.Writer) error {
	checked, err := wire.CheckParams(told.Params, params)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errFinished)
	if spec.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, spec.Timeout, errDeadline)
		defer stop()
	}
	port := &memory{out: out}
	j := &Job{
		id: 1, spec: spec, params: checked, budget: credits.NewBudget(0), port: port, base: ctx,
		log: hclog.NewNullLogger(), host: &Host{}, in: make(chan piece),
	}
	j.head = wire.Job{ID: 1, Capability: spec.Name, Params: checked}
	port.ack = func() { j.credit <- struct{}{} }
	if spec.Streams {
		j.credit = make(chan struct{}, wire.StreamWindow)
		for range wire.StreamWindow {
			j.credit <- struct{}{}
		}
	}
	var feeding sync.WaitGroup
	var feedErr error
	feeding.Go(func() { feedErr = feed(ctx, spec, in, j.in) })
	status, err := j.run()
	j.end()
	cancel(errFinished)
	feeding.Wait()
	if err == nil && feedErr != nil && !errors.Is(feedErr, errFinished) {
		err = feedErr
	}
	if err == nil && j.written > 0 {
		_, err = out.Write(j.out.bytes[:j.written])
	}
	if err == nil && status != compute.Status_success {
		err = fmt.Errorf("%s ended as %s", spec.Name, status)
	}
	return err
}

// feed gives the job its input as the node would: whole, or in pieces.
func feed(ctx context.Context, spec *Capability, in io.Reader, to chan<- piece) error {
	send := func(p piece) error {
		select {
		case to <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if in == nil {
		return send(piece{last: true})
	}
	if !spec.Streams {
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if limit := spec.MaxInput; limit > 0 && uint64(len(b)) > limit {
			return fmt.Errorf("%s takes at most %d bytes of input and was given %d", spec.Name, limit, len(b))
		}
		return send(piece{bytes: b, last: true})
	}
	for {
		b := make([]byte, tryPiece)
		n, err := io.ReadFull(in, b)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if err := send(piece{bytes: b[:n], last: last}); err != nil || last {
			return err
		}
	}
}

// memory is a port without rings: blocks come from the heap, pieces go straight
// to a writer.
type memory struct {
	out io.Writer
	ack func()
}

func (m *memory) lease(_ context.Context, n uint64) (block, error) {
	return block{bytes: make([]byte, max(n, 1))}, nil
}

func (m *memory) release(block) {}

func (m *memory) emit(_ uint64, b block, n uint64) error {
	_, err := m.out.Write(b.bytes[:n])
	m.ack()
	return err
}

func (m *memory) consumed(uint64) error            { return nil }
func (m *memory) progress(job, done, total uint64) {}
func (m *memory) pieceBytes() uint64               { return tryPiece }
