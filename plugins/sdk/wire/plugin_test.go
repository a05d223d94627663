package wire

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"inos/protocols/base/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lifecycleFunc is a Lifecycle that knows its broker.
type lifecycleFunc func(ctx context.Context, broker *plugin.GRPCBroker, c Command) (Reply, error)

// module is a Lifecycle in service.
type module struct {
	fn     lifecycleFunc
	broker *plugin.GRPCBroker
}

func (m module) Command(ctx context.Context, c Command) (Reply, error) { return m.fn(ctx, m.broker, c) }

type kernelFunc func(ctx context.Context, c Syscall) (Answer, error)

func (f kernelFunc) Syscall(ctx context.Context, c Syscall) (Answer, error) { return f(ctx, c) }

// both is both halves of the protocol, as go-plugin's test connection needs.
type both struct {
	HostPlugin
	module ModulePlugin
}

func (b both) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	return b.module.GRPCServer(broker, s)
}

// serve runs a plugin in this process, behind a socket as a real one is, and
// returns the host's end.
func serve(t *testing.T, fn lifecycleFunc) *Conn {
	t.Helper()
	client, server := plugin.TestPluginGRPCConn(t, false, plugin.PluginSet{PluginName: both{
		module: ModulePlugin{New: func(b *plugin.GRPCBroker) Lifecycle { return module{fn, b} }},
	}})
	dispensed, err := client.Dispense(PluginName)
	if err != nil {
		t.Fatal(err)
	}
	conn := dispensed.(*Conn)
	t.Cleanup(func() {
		hangUp(conn)
		server.Stop()
		<-server.DoneCh
	})
	return conn
}

// hangUp ends the host's end of the connection, as the end of a plugin does.
func hangUp(c *Conn) {
	_ = c.broker.Close() // it returns nil
	_ = c.conn.Close()   // an error says that it was closed before
}

// patient bounds what should be quick.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCommandsAndRepliesCross(t *testing.T) {
	var got Command
	conn := serve(t, func(_ context.Context, _ *plugin.GRPCBroker, c Command) (Reply, error) {
		got = c
		if c.Body == (Describe{}) {
			return Reply{Manifest: &sampleManifest}, nil
		}
		return Reply{Health: &sampleHeartbeat}, nil
	})
	for _, s := range samples() {
		c, ok := s.value.(Command)
		if !ok {
			continue
		}
		r, err := conn.Command(patient(t), c)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("sent %+v, arrived as %+v", c, got)
		}
		want := Reply{ID: c.ID, Health: &sampleHeartbeat}
		if c.Body == (Describe{}) {
			want = Reply{ID: c.ID, Manifest: &sampleManifest}
		}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("%T: replied %+v, arrived as %+v", c.Body, want, r)
		}
	}
}

func TestFailuresCrossIntact(t *testing.T) {
	var failure error
	conn := serve(t, func(context.Context, *plugin.GRPCBroker, Command) (Reply, error) { return Reply{}, failure })
	tests := []struct {
		name  string
		fails error
		is    error
		want  *Error
	}{
		{"an error of ours", sampleError, ErrDataLoss, sampleError},
		{"wrapped", errors.Join(sampleError), ErrDataLoss, sampleError},
		{"any other", errors.New("disk on fire"), ErrInternal, &Error{Message: "disk on fire", Code: base.Code_internal}},
		{"out of time", context.DeadlineExceeded, context.DeadlineExceeded, &Error{Message: "context deadline exceeded", Code: base.Code_deadlineExceeded}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failure = tt.fails
			r, err := conn.Command(patient(t), Command{ID: 3, Body: Start{}})
			var got *Error
			if !errors.As(err, &got) || !reflect.DeepEqual(got, tt.want) || !errors.Is(err, tt.is) {
				t.Errorf("%#v arrived as %#v", tt.want, err)
			}
			if r.ID != 3 || r.Err == nil {
				t.Errorf("the reply is %+v", r)
			}
		})
	}
}

func TestSyscallsCrossTheBroker(t *testing.T) {
	conn := serve(t, func(ctx context.Context, broker *plugin.GRPCBroker, c Command) (Reply, error) {
		kernel, closer, err := DialKernel(broker, c.Body.(Configuration).Broker)
		if err != nil {
			return Reply{}, err
		}
		defer closer.Close()
		a, err := kernel.Syscall(ctx, Syscall{CallID: 8, Job: 9, Body: SendMessage{"peer", bytes.Repeat([]byte{7}, 10<<20), 1}})
		if err != nil {
			return Reply{}, err
		}
		if a.Body != (Delivery{true, time.Second}) {
			return Reply{}, NewError(base.Code_internal, "", "answered %+v", a)
		}
		_, err = kernel.Syscall(ctx, Syscall{CallID: 10, Body: Noop{}})
		return Reply{}, err
	})
	id, stop, err := conn.ServeKernel(patient(t), kernelFunc(func(_ context.Context, c Syscall) (Answer, error) {
		m, ok := c.Body.(SendMessage)
		if !ok {
			return Answer{}, sampleError
		}
		if c.CallID != 8 || c.Job != 9 || m.Target != "peer" || !bytes.Equal(m.Payload, bytes.Repeat([]byte{7}, 10<<20)) {
			return Answer{}, NewError(base.Code_internal, "", "arrived as call %d of job %d to %s with %d bytes", c.CallID, c.Job, m.Target, len(m.Payload))
		}
		return Answer{Body: Delivery{true, time.Second}}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, err = conn.Command(patient(t), Command{Body: Configuration{Broker: id}})
	var got *Error
	if !errors.As(err, &got) || !reflect.DeepEqual(got, sampleError) {
		t.Errorf("%v; want the failure of the second syscall", err)
	}
	health := grpc_health_v1.NewHealthClient(conn.conn)
	if _, err := health.Check(patient(t), &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName}); err != nil {
		t.Errorf("go-plugin's own service on the same connection: %v", err)
	}
}

func TestDeadlineEndsACallOnBothSides(t *testing.T) {
	ended := make(chan error, 1)
	conn := serve(t, func(ctx context.Context, _ *plugin.GRPCBroker, c Command) (Reply, error) {
		if c.Timeout <= 0 {
			ended <- errors.New("the command does not say how long it may take")
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return Reply{}, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := conn.Command(ctx, Command{Body: Health{}})
	if !errors.Is(err, ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want the end of the deadline", err)
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("the plugin's context: %v", err)
	}
}

func TestCancelledCallSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn := serve(t, func(ctx context.Context, _ *plugin.GRPCBroker, _ Command) (Reply, error) {
		cancel()
		<-ctx.Done()
		return Reply{}, ctx.Err()
	})
	if _, err := conn.Command(ctx, Command{Body: Health{}}); !errors.Is(err, ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want a cancelled call", err)
	}
}

func TestRubbishIsRefusedAndTheConnectionLives(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(nil)
	server.RegisterService(lifecycle.serve(func(context.Context, Command) (Reply, error) { return Reply{}, nil }), nil)
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tests := []struct {
		name, path string
		bytes      []byte
		is         error
		want       string
	}{
		{"text", "/inos.Plugin/Command", []byte("rubbish!rubbish!"), ErrInvalidArgument, "wire.Command: malformed message"},
		{"nothing", "/inos.Plugin/Command", nil, ErrInvalidArgument, "wire.Command: malformed message: 0 bytes"},
		{"more than gRPC takes by itself", "/inos.Plugin/Command", make([]byte, 10<<20), ErrInvalidArgument, "no struct at its root"},
		{"too much", "/inos.Plugin/Command", make([]byte, MaxMessage+8), ErrResourceExhausted, "larger than max"},
		{"no such service", "/inos.Kernel/Syscall", nil, ErrNotSupported, "unknown service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := conn.Invoke(patient(t), tt.path, &packet{tt.bytes}, &packet{}, grpc.CallContentSubtype(CodecName))
			if err := callError(tt.path, err); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %v with %q", err, tt.is, tt.want)
			}
			if _, err := lifecycle.call(patient(t), conn, Command{Body: Start{}}); err != nil {
				t.Errorf("the call after it: %v", err)
			}
		})
	}
}

func TestCodecCarriesOurMessagesAlone(t *testing.T) {
	conn := serve(t, func(context.Context, *plugin.GRPCBroker, Command) (Reply, error) { return Reply{}, nil })
	err := conn.conn.Invoke(patient(t), lifecycle.path(), "text", new(string), grpc.CallContentSubtype(CodecName))
	if err == nil || !strings.Contains(err.Error(), "does not carry a string") {
		t.Error(err)
	}
}

func TestCommandThatCannotBeSentIsNotSent(t *testing.T) {
	conn := serve(t, func(context.Context, *plugin.GRPCBroker, Command) (Reply, error) {
		t.Error("it was sent")
		return Reply{}, nil
	})
	if _, err := conn.Command(patient(t), Command{}); !errors.Is(err, ErrUnfit) {
		t.Errorf("%v; want a command that does not fit", err)
	}
}

func TestReplyThatCannotBeSentIsAFailure(t *testing.T) {
	conn := serve(t, func(context.Context, *plugin.GRPCBroker, Command) (Reply, error) {
		return Reply{Manifest: &Manifest{}, Health: &Heartbeat{}}, nil
	})
	_, err := conn.Command(patient(t), Command{Body: Describe{}})
	if !errors.Is(err, ErrInternal) || !strings.Contains(err.Error(), "body: both a manifest and a heartbeat") {
		t.Errorf("%v; want what is wrong with the reply", err)
	}
}

// replier is a connection to a side that replies the same to everything.
type replier struct{ Reply }

func (r replier) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) (err error) {
	reply.(*packet).bytes, err = r.Encode()
	return err
}

func (replier) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.ErrUnsupported
}

func TestReplyToAnotherCommandIsRefused(t *testing.T) {
	_, err := lifecycle.call(patient(t), replier{Reply{ID: 4}}, Command{ID: 5, Body: Start{}})
	if !errors.Is(err, ErrInternal) || !strings.Contains(err.Error(), "asked 5 and got the answer to 4") {
		t.Error(err)
	}
}

func TestStopWaitsForSyscalls(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	conn := serve(t, func(ctx context.Context, broker *plugin.GRPCBroker, c Command) (Reply, error) {
		kernel, closer, err := DialKernel(broker, c.Body.(Configuration).Broker)
		if err != nil {
			return Reply{}, err
		}
		defer closer.Close()
		_, err = kernel.Syscall(ctx, Syscall{Body: Noop{}})
		return Reply{}, err
	})
	ended := false
	id, stop, err := conn.ServeKernel(patient(t), kernelFunc(func(ctx context.Context, _ Syscall) (Answer, error) {
		close(running)
		<-ctx.Done()
		<-release
		ended = true
		return Answer{}, ctx.Err()
	}))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := conn.Command(patient(t), Command{Body: Configuration{Broker: id}})
		result <- err
	}()
	<-running
	go close(release)
	stop()
	if !ended {
		t.Error("a syscall outlived the end of its service")
	}
	stop()
	if err := <-result; !errors.Is(err, ErrUnavailable) {
		t.Errorf("the plugin saw %v; want a service that is not there", err)
	}
}

func TestKernelIsNotOfferedToAPluginThatIsGone(t *testing.T) {
	conn := serve(t, func(context.Context, *plugin.GRPCBroker, Command) (Reply, error) { return Reply{}, nil })
	hangUp(conn)
	nobody := kernelFunc(func(context.Context, Syscall) (Answer, error) { return Answer{}, nil })
	if _, _, err := conn.ServeKernel(patient(t), nobody); err == nil {
		t.Error("it was offered")
	}
	if _, err := conn.Command(patient(t), Command{Body: Start{}}); err == nil {
		t.Error("a command was carried out")
	}
}

func TestEachHalfRefusesToBeTheOther(t *testing.T) {
	if err := (HostPlugin{}).GRPCServer(nil, nil); err == nil {
		t.Error("a host serves a module")
	}
	if _, err := (ModulePlugin{}).GRPCClient(t.Context(), nil, nil); err == nil {
		t.Error("a module commands")
	}
}
