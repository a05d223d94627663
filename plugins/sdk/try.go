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
	"inos/protocols/base/v1"
)

// tryPiece is the size of the pieces that Try cuts a stream into: small, so that
// a test of some kilobytes sees several.
const tryPiece = 4096

// Try runs one job of the plugin in this process, without a node, on plain
// memory: the manifest is checked, the parameters too, and the handler sees a Job
// that behaves as in service, streams cut into pieces included. Calls to the host
// fail as not supported. What Start does for the jobs has to be done before: see
// TryStart. It is for tests; see package sdktest.
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

// TryStart runs Plugin.Start in this process, without a node. The Host that it
// sees has a data folder and settings of the caller's choice, and refuses calls. It
// returns what runs Plugin.Stop, which is never nil. It is for tests; see package
// sdktest.
func (p *Plugin) TryStart(ctx context.Context, dataDir string, settings map[string]string) (stop func(context.Context) error, err error) {
	t, err := p.TryPlugin(ctx, dataDir, settings)
	if err != nil {
		return func(context.Context) error { return nil }, err
	}
	return t.Stop, nil
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
	if known, ok := in.(interface{ Len() int }); ok { // as readers of what lies in memory are
		j.head.InputBytes = uint64(known.Len())
	}
	port.ack = func() { j.credit <- struct{}{} }
	if spec.Streams {
		j.credit = make(chan struct{}, wire.StreamWindow)
		for range wire.StreamWindow {
			j.credit <- struct{}{}
		}
	}
	var feeding sync.WaitGroup
	var feedErr error
	feeding.Go(func() {
		if feedErr = feed(ctx, spec, in, j.in); feedErr != nil {
			cancel(feedErr) // or the handler would wait for more
		}
	})
	_, err = j.run()
	j.end()
	cancel(errFinished)
	feeding.Wait()
	if err == nil && feedErr != nil && !errors.Is(feedErr, errFinished) {
		err = feedErr
	}
	if err == nil && j.written > 0 {
		_, err = out.Write(j.out.bytes[:j.written])
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
			return tooLarge(spec, uint64(len(b)))
		}
		return send(piece{bytes: b, last: true})
	}
	for total := uint64(0); ; {
		b := make([]byte, tryPiece)
		n, err := io.ReadFull(in, b)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if total += uint64(n); spec.MaxInput > 0 && total > spec.MaxInput {
			return tooLarge(spec, total)
		}
		if err := send(piece{bytes: b[:n], last: last}); err != nil || last {
			return err
		}
	}
}

func tooLarge(spec *Capability, n uint64) error {
	return wire.NewError(base.Code_invalidArgument, "send less", "%s takes at most %d bytes of input and was given %d or more", spec.Name, spec.MaxInput, n)
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

func (m *memory) consumed(uint64)                  {}
func (m *memory) progress(job, done, total uint64) {}
func (m *memory) pieceBytes() uint64               { return tryPiece }
