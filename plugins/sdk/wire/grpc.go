package wire

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"inos/protocols/base/v1"
)

// CodecName is the content subtype of our calls. go-plugin's own services keep
// to protobuf on the same connections.
const CodecName = "capnp"

func init() { encoding.RegisterCodecV2(codec{}) }

// codec hands gRPC the bytes of our messages as they are.
type codec struct{}

// packet is one message on its way.
type packet struct{ bytes []byte }

func (codec) Name() string { return CodecName }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(*packet)
	if !ok {
		return nil, fmt.Errorf("wire: the codec %q does not carry a %T", CodecName, v)
	}
	return mem.BufferSlice{mem.SliceBuffer(p.bytes)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*packet)
	if !ok {
		return fmt.Errorf("wire: the codec %q does not carry a %T", CodecName, v)
	}
	p.bytes = data.Materialize()
	return nil
}

// question is a message that is answered under its number.
type question interface {
	Encode() ([]byte, error)
	number() uint64
}

// answer is a message that answers a question, with what was asked for or with a
// failure.
type answer[A any] interface {
	Encode() ([]byte, error)
	number() uint64
	failure() *Error
	to(number uint64, failure *Error) A // the same answer, addressed
}

// method is one unary call of gRPC.
type method[Q question, A answer[A]] struct {
	service, name string
	readQuestion  func([]byte) (Q, error)
	readAnswer    func([]byte) (A, error)
}

func (m method[Q, A]) path() string { return "/" + m.service + "/" + m.name }

// serve describes the service that answers the call with fn. An error of fn is
// part of the answer; one of gRPC's own says that there is none.
func (m method[Q, A]) serve(fn func(context.Context, Q) (A, error)) *grpc.ServiceDesc {
	handle := func(_ any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var in packet
		if err := receive(&in); err != nil {
			return nil, err
		}
		q, err := m.readQuestion(in.bytes)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		a, err := fn(ctx, q)
		b, err := a.to(q.number(), AsError(err)).Encode()
		if err != nil { // say at least that there was an answer
			var none A
			b, err = none.to(q.number(), AsError(err)).Encode()
		}
		return &packet{b}, err
	}
	return &grpc.ServiceDesc{
		ServiceName: m.service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: m.name, Handler: handle}},
	}
}

// call asks q of the other side and returns its answer, and the failure in it.
func (m method[Q, A]) call(ctx context.Context, conn grpc.ClientConnInterface, q Q) (A, error) {
	var none A
	b, err := q.Encode()
	if err != nil {
		return none, err
	}
	var out packet
	err = conn.Invoke(ctx, m.path(), &packet{b}, &out,
		grpc.CallContentSubtype(CodecName), grpc.MaxCallSendMsgSize(MaxMessage), grpc.MaxCallRecvMsgSize(MaxMessage))
	if err != nil {
		return none, callError(m.path(), err)
	}
	a, err := m.readAnswer(out.bytes)
	switch {
	case err != nil:
		return none, fmt.Errorf("%s: %w", m.path(), err)
	case a.number() != q.number():
		return none, NewError(base.Code_internal, "the other side mixes up its answers; restart it", "%s: asked %d and got the answer to %d", m.path(), q.number(), a.number())
	case a.failure() != nil:
		return a, a.failure()
	}
	return a, nil
}

// callError says in our terms why a call had no answer.
func callError(path string, err error) *Error {
	code, hint := base.Code_internal, "see the log of the other side"
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		code, hint = base.Code_deadlineExceeded, "the other side is busy or stopped"
	case codes.Canceled:
		code, hint = base.Code_canceled, ""
	case codes.Unavailable:
		code, hint = base.Code_unavailable, "the process on the other side has ended or ends; see its log"
	case codes.InvalidArgument:
		code, hint = base.Code_invalidArgument, "the two sides may be built from different schemas"
	case codes.Unimplemented:
		code, hint = base.Code_notSupported, "the other side does not offer this service"
	case codes.ResourceExhausted:
		code, hint = base.Code_resourceExhausted, fmt.Sprintf("keep messages below %d bytes; bulk data goes through the segment", MaxMessage)
	}
	return NewError(code, hint, "%s: %w", path, &callFailure{err})
}

// callFailure prints what a gRPC error says without its code, which is ours by
// then.
type callFailure struct{ err error }

func (f *callFailure) Error() string { return status.Convert(f.err).Message() }
func (f *callFailure) Unwrap() error { return f.err }
