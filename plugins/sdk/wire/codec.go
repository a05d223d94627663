// Package wire holds the messages between a host and its plugins as plain Go
// values, and the gRPC services that carry them.
//
// Host and SDK share it; a plugin author meets its types through package sdk.
// It is the only package that reads or writes Cap'n Proto. A message is one
// segment without framing, a multiple of 8 bytes and at most MaxMessage of them.
// Bulk data never rides here: it lies in the segment and is named by reference.
//
// Every decoder takes bytes from a stranger. It works on a copy of its own, so
// that the bytes may lie in memory which others write to; it bounds every text
// and list; and whatever it returns shares nothing with its input. It never
// interprets what it read beyond that: Manifest.Validate and CheckParams do.
package wire

import (
	"bytes"
	"errors"
	"fmt"

	"capnproto.org/go/capnp/v3"
)

// MaxMessage bounds every message, in bytes.
const MaxMessage = 16 << 20

// Bounds of what a message holds, in bytes and in elements. The encoders keep to
// them as well: what one side can send, the other can read.
const (
	maxName = 255      // names, keys, media types
	maxText = 4 << 10  // sentences that a person reads
	maxLong = 64 << 10 // log records, settings
	maxList = 256      // elements of any list that has no nearer bound
)

var (
	// ErrMalformed says that bytes are not the message they should be.
	ErrMalformed = errors.New("malformed message")
	// ErrUnfit says that a value does not fit into a message.
	ErrUnfit = errors.New("does not fit into a message")
)

// encode writes v as the root of a message of its own.
func encode[S, V any](root func(*capnp.Segment) (S, error), write func(*writer, S, V), v V) ([]byte, error) {
	arena := capnp.SingleSegment(nil) // grows in one piece, and its buffers are pooled
	defer arena.Release()
	_, seg, err := capnp.NewMessage(arena)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", v, err)
	}
	s, err := root(seg)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", v, err)
	}
	var w writer
	write(&w, s, v)
	if n := len(seg.Data()); w.err == nil && n > MaxMessage {
		w.fail("", "%d bytes in all, and at most %d travel", n, MaxMessage)
	}
	if w.err != nil {
		return nil, w.describe(v, ErrUnfit)
	}
	return bytes.Clone(seg.Data()), nil
}

// decode reads a message whose root is an S. The library checks each pointer
// against the segment when it is followed, so no bytes make it panic as long as
// the segment does not change, and the copy sees to that.
func decode[S ~capnp.StructKind, V any](b []byte, read func(*reader, S) V) (V, error) {
	var r reader
	var v V
	switch n := len(b); {
	case n == 0, n%8 != 0:
		r.fail("", "%d bytes; a message is a multiple of 8, and not 0", n)
	case n > MaxMessage:
		r.fail("", "%d bytes, and at most %d are read", n, MaxMessage)
	default:
		msg := capnp.Message{
			Arena: capnp.SingleSegment(bytes.Clone(b)),
			// Every object is read once. Pointers that lead to the same bytes again
			// and again run into this.
			TraverseLimit: 2 * uint64(n),
			DepthLimit:    maxDepth,
		}
		root, err := msg.Root()
		switch {
		case err != nil:
			r.fail("", "%v", err)
		case !root.Struct().IsValid():
			r.fail("", "no struct at its root")
		default:
			v = read(&r, S(root.Struct()))
		}
	}
	if r.err != nil {
		err := r.describe(v, ErrMalformed)
		var none V
		return none, err
	}
	return v, nil
}

// maxDepth bounds how deep structs and lists nest. The deepest there are, the
// choices of a parameter in a manifest, need 7.
const maxDepth = 16

// trouble keeps the first thing that went wrong with a message. All that follows
// it is void.
type trouble struct {
	err  error
	path string // of the field, from the object at hand
}

// fail records what is wrong with a field of the object at hand, or with the
// object as a whole when field is empty.
func (t *trouble) fail(field, format string, args ...any) {
	if t.err == nil {
		t.path, t.err = field, fmt.Errorf(format, args...)
	}
}

// check records err, if it is one.
func (t *trouble) check(field string, err error) bool {
	if err != nil {
		t.fail(field, "%v", err)
	}
	return t.err == nil
}

// under turns the path of what went wrong in an object into a path from the
// object that holds it in a field.
func (t *trouble) under(format string, args ...any) {
	if t.err == nil {
		return
	}
	outer := fmt.Sprintf(format, args...)
	if t.path != "" {
		outer += "." + t.path
	}
	t.path = outer
}

// describe names the message that v is, the field, and the problem.
func (t *trouble) describe(v any, kind error) error {
	if t.path == "" {
		return fmt.Errorf("%T: %w: %w", v, kind, t.err)
	}
	return fmt.Errorf("%T: %w: %s: %w", v, kind, t.path, t.err)
}
