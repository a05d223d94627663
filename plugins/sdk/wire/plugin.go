package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// ProtocolVersion is the version of the go-plugin protocol: the services below.
// What the messages mean has versions of its own, the ABI's.
const ProtocolVersion = 1

// PluginName is the name under which go-plugin dispenses a module.
const PluginName = "inos"

// Handshake is how a host and a plugin recognise each other before anything is
// sent. The cookie keeps a person from starting a plugin by hand; it is no secret.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "INOS_PLUGIN",
	MagicCookieValue: "8d1f5bd2c4a94b0e9f6a3f0c7e21d35a",
}

// Lifecycle is what a plugin offers the host. Calls come one at a time unless
// one has run out of time; an error it returns reaches the caller as an Error.
type Lifecycle interface {
	Command(ctx context.Context, c Command) (Reply, error)
}

// Kernel is what the host offers a plugin. It is called from many goroutines at
// once; an error it returns reaches the caller as an Error.
type Kernel interface {
	Syscall(ctx context.Context, c Syscall) (Answer, error)
}

var (
	lifecycle = method[Command, Reply]{"inos.Plugin", "Command", DecodeCommand, DecodeReply}
	kernel    = method[Syscall, Answer]{"inos.Kernel", "Syscall", DecodeSyscall, DecodeAnswer}
)

// NewServer makes the gRPC servers of both sides, with their limits at
// MaxMessage. It is the GRPCServer of a plugin.ServeConfig.
func NewServer(options []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage))...)
}

// HostPlugin is the host's half of the plugin protocol: what it dispenses is a
// *Conn.
type HostPlugin struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer implements plugin.GRPCPlugin and refuses: the host serves no module.
func (HostPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("wire: a host serves no module; use ModulePlugin")
}

// GRPCClient implements plugin.GRPCPlugin.
func (HostPlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &Conn{conn, broker}, nil
}

// ModulePlugin is the plugin's half of the plugin protocol.
type ModulePlugin struct {
	plugin.NetRPCUnsupportedPlugin

	// New makes what the host commands. It is called once, before the first
	// command; the broker is for DialKernel.
	New func(broker *plugin.GRPCBroker) Lifecycle
}

// GRPCServer implements plugin.GRPCPlugin.
func (p ModulePlugin) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(lifecycle.serve(p.New(broker).Command), nil)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin and refuses: a module commands nobody.
func (ModulePlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("wire: a module commands nobody; use HostPlugin")
}

// Conn is the host's end of the connection to one plugin process. It is safe for
// concurrent use and ends with the go-plugin client that dispensed it.
type Conn struct {
	conn   *grpc.ClientConn
	broker *plugin.GRPCBroker
}

// Command has the plugin do something and returns what it says. A failure that
// it reports comes back as an *Error, and so does a call without an answer. Give
// ctx a deadline: a process that was stopped never answers. A Timeout of 0 becomes
// what is left until then.
func (c *Conn) Command(ctx context.Context, cmd Command) (Reply, error) {
	if end, ok := ctx.Deadline(); ok && cmd.Timeout == 0 {
		cmd.Timeout = time.Until(end)
	}
	return lifecycle.call(ctx, c.conn, cmd)
}

// ServeKernel offers k to the plugin, which finds it with the id. It returns when
// the plugin can call, or when ctx ends. Whoever calls stop, any number of times,
// knows afterwards that no syscall runs any more and that the contexts of those
// that did had ended.
func (c *Conn) ServeKernel(ctx context.Context, k Kernel) (id uint32, stop func(), err error) {
	id = c.broker.NextId()
	started, ended := make(chan *grpc.Server, 1), make(chan struct{})
	go func() {
		defer close(ended)
		c.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
			s := NewServer(append(options, grpc.WaitForHandlers(true)))
			s.RegisterService(kernel.serve(k.Syscall), nil)
			started <- s
			return s
		})
	}()
	select {
	case s := <-started:
		return id, sync.OnceFunc(func() { s.Stop(); <-ended }), nil
	case <-ended:
		return 0, nil, errors.New("wire: the plugin was not told of the syscall service; its connection may have ended")
	case <-ctx.Done():
		go func() { // the broker gives up by itself when its connection ends
			select {
			case s := <-started:
				s.Stop()
			case <-ended:
			}
		}()
		return 0, nil, fmt.Errorf("wire: offering the syscall service: %w", context.Cause(ctx))
	}
}

// kernelConn is the plugin's end of the connection to a Kernel.
type kernelConn struct{ conn *grpc.ClientConn }

// DialKernel connects to the Kernel that the host serves under an id. An id can
// be dialled once. The caller closes the connection.
func DialKernel(broker *plugin.GRPCBroker, id uint32) (Kernel, io.Closer, error) {
	conn, err := broker.DialWithOptions(id)
	if err != nil {
		return nil, nil, fmt.Errorf("wire: syscall service %d: %w", id, err)
	}
	return kernelConn{conn}, conn, nil
}

// Syscall implements Kernel. A failure that the host reports comes back as an
// *Error, and so does a call without an answer.
func (k kernelConn) Syscall(ctx context.Context, c Syscall) (Answer, error) {
	return kernel.call(ctx, k.conn, c)
}
