package sdk

import (
	"context"
	"fmt"
	"io"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// input is how far a handler has read.
type input struct {
	current piece  // the one that was taken last
	taken   uint64 // pieces taken
	peeked  bool   // Input has looked at the current one, and Next has not given it yet
	rest    []byte // what Read has not yet returned of it
}

// Next returns a view of the next piece of the input, or io.EOF. The view is
// valid until the following call. For a capability that does not stream the
// whole input is one piece.
func (j *Job) Next() ([]byte, error) {
	if j.peeked {
		j.peeked = false
	} else {
		j.giveBack()
		if err := j.receive(); err != nil {
			return nil, err
		}
	}
	if len(j.current.bytes) == 0 && j.current.last {
		return nil, io.EOF
	}
	return j.current.bytes, nil
}

// receive waits for one more piece.
func (j *Job) receive() error {
	if j.taken > 0 && j.current.last {
		return io.EOF
	}
	select {
	case j.current = <-j.in:
	default:
		select {
		case j.current = <-j.in:
		case <-j.Context().Done():
			return context.Cause(j.Context())
		}
	}
	j.taken++
	return nil
}

// giveBack tells the host that the current piece of a stream is no longer read.
// An input that came as a whole stays where it is until the job is done.
func (j *Job) giveBack() {
	j.rest = nil
	if j.current.streamed {
		j.port.consumed(j.id)
		j.current = piece{last: j.current.last}
	}
}

// Input returns a view of the whole input, valid until the handler returns. It
// takes nothing away from Next and Read, which begin at the first byte whether
// Input was called or not. Of a stream it can give only one that came in a single
// piece, and only before Next or Read was called.
func (j *Job) Input() ([]byte, error) {
	if j.taken == 0 {
		if err := j.receive(); err != nil {
			return nil, err
		}
		j.peeked = true
	}
	if j.current.last && j.taken == 1 && (j.peeked || !j.spec.Streams) {
		return j.current.bytes, nil
	}
	return nil, fmt.Errorf("job %x: %w", j.id, errInPieces)
}

var errInPieces = wire.NewError(base.Code_notSupported, "read it with Next or Read", "the input comes in pieces and cannot be seen as a whole")

// Read copies the next bytes of the input. Next gives them without a copy.
func (j *Job) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(j.rest) == 0 {
		in, err := j.Next()
		if err != nil {
			return 0, err
		}
		j.rest = in
	}
	n := copy(p, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

// InputBlock returns the whole input as a block that can be passed on to Host
// calls as it is. Of a stream it can give what Input can. It is borrowed: it ends
// with the handler.
func (j *Job) InputBlock() (*Block, error) {
	in, err := j.Input()
	if err != nil {
		return nil, err
	}
	return &Block{block: block{ref: j.current.ref, bytes: in}, length: uint64(len(in))}, nil
}
