package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"inos/plugins/sdk/wire"
)

func TestProcessServesAndStops(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	m, err := p.Describe(t.Context())
	if err != nil || m.Name != "actor" {
		t.Fatalf("got %v, %v", m, err)
	}
	for _, step := range []func(context.Context) error{p.Start, p.Freeze, p.Thaw, p.Drain} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Adopt(t.Context(), wire.Adoption{FromInstance: 1}); err != nil {
		t.Fatal(err)
	}
	if _, ended := p.ExitState(); ended {
		t.Fatal("it is said to have ended")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := gone(t, p); !state.Clean() || state.PID != p.PID() {
		t.Errorf("it ended with %+v", state)
	}
	if _, err := p.Health(t.Context()); !errors.Is(err, ErrDied) {
		t.Errorf("a call after the end: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestProcessReportsAFailureOfThePlugin(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	var e *wire.Error
	if err := do(t.Context(), p, "fail"); !errors.As(err, &e) || e.Message != "not today" || !errors.Is(err, wire.ErrNotSupported) {
		t.Fatalf("got %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDeathIsSeenHoweverItComes(t *testing.T) {
	tests := []struct {
		name string
		end  func(p *Process) error
		want func(s ExitState) bool
		text string
	}{
		{"exit", func(p *Process) error {
			return p.Configure(context.Background(), wire.Configuration{Settings: map[string]string{"do": "exit", "code": "7"}})
		}, func(s ExitState) bool { return s.Code == 7 && s.Signal == 0 && !s.Clean() }, "exit status 7"},
		{"exit without complaint", func(p *Process) error { return do(context.Background(), p, "exit") }, ExitState.Clean, "exit status 0"},
		{"panic", func(p *Process) error { return do(context.Background(), p, "panic") },
			func(s ExitState) bool { return s.Code == 2 && strings.Contains(s.Stderr, "out of cheese") }, `last words "panic: out of cheese`},
		{"signal", func(p *Process) error {
			_ = syscall.Kill(p.PID(), syscall.SIGSEGV)
			return do(context.Background(), p, "hang")
		}, func(s ExitState) bool { return s.Code != 0 }, ""},
		{"kill from outside", func(p *Process) error {
			_ = syscall.Kill(p.PID(), syscall.SIGKILL)
			return do(context.Background(), p, "hang")
		}, func(s ExitState) bool { return s.Signal == syscall.SIGKILL && s.Killed == "" }, "signal 9 (killed)"},
		{"kill by the host", func(p *Process) error {
			go p.Kill("it was ugly")
			return do(context.Background(), p, "hang")
		}, func(s ExitState) bool { return s.Signal == syscall.SIGKILL && s.Killed == "it was ugly" }, "killed by the host: it was ugly"},
		{"kill while it is stopped", func(p *Process) error {
			_ = syscall.Kill(p.PID(), syscall.SIGSTOP)
			go p.Kill("it stood still")
			return do(context.Background(), p, "hang")
		}, func(s ExitState) bool { return s.Killed == "it stood still" }, "it stood still"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tidy(t)
			p := launch(t, s)
			// The call would take 10 s if death went unseen.
			if err := tt.end(p); !errors.Is(err, ErrDied) {
				t.Fatalf("the call that was under way: %v", err)
			}
			<-p.Dead()
			state := gone(t, p)
			if !tt.want(state) || !strings.Contains(state.String(), tt.text) {
				t.Errorf("it ended with %q: %+v", state, state)
			}
			if err := unix.Kill(state.PID, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("the process is still in the table: %v", err)
			}
		})
	}
}

func TestCallsEndWithTheProcess(t *testing.T) {
	// Even if its connection stays, because something it left behind holds it.
	p := &Process{spec: Spec{CallTimeout: time.Hour}}
	p.life, p.endLife = context.WithCancel(t.Context())
	ctx, cancel := p.bounded(t.Context())
	defer cancel()
	if ctx.Err() != nil {
		t.Fatal("it ended before the process")
	}
	p.endLife()
	if <-ctx.Done(); !errors.Is(context.Cause(ctx), ErrDied) {
		t.Errorf("it ended because of %v", context.Cause(ctx))
	}
}

func TestConnectionsThatGoPluginForgetsAreClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var d dials
	var conns []*grpc.ClientConn
	for range 2 {
		conn, err := grpc.NewClient("passthrough:nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithChainStreamInterceptor(d.intercept))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			if _, err := conn.NewStream(ctx, &grpc.StreamDesc{}, "/a/b"); err == nil {
				t.Fatal("there is a stream to nowhere")
			}
		}
		conns = append(conns, conn)
	}
	if !slices.Equal(d.conns, conns) {
		t.Errorf("%d connections were seen, want each of 2 once", len(d.conns))
	}
	d.close()
	for _, c := range conns {
		if c.GetState() != connectivity.Shutdown {
			t.Errorf("a connection is %v", c.GetState())
		}
	}
}

func TestCallsHaveDeadlines(t *testing.T) {
	s := tidy(t)
	sp := spec(t, "plugin")
	sp.CallTimeout = 50 * time.Millisecond
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(context.Background(), p, "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a handler that hangs: %v", err)
	}
	halt(t, p)
	if _, err := p.Health(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a process that is stopped: %v", err)
	}
	if _, _, err := p.ServeKernel(context.Background(), &kernel{}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a service for a process that is stopped: %v", err)
	}
	p.Kill("it hangs")
	gone(t, p)
}

// halt stops a process with all its threads.
func halt(t *testing.T, p *Process) {
	t.Helper()
	err := syscall.Kill(p.PID(), syscall.SIGSTOP)
	for err == nil {
		if err = unix.Waitid(unix.P_PID, p.PID(), nil, unix.WSTOPPED|unix.WNOWAIT, nil); err == nil {
			return
		}
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	t.Fatal(err)
}

func TestStopForcesWhatDoesNotEnd(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := do(ctx, p, "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := p.Stop(ctx); !errors.Is(err, ErrForced) {
		t.Fatalf("got %v", err)
	}
	if state, ended := p.ExitState(); !ended || state.Killed == "" {
		t.Errorf("it ended with %+v, %v", state, ended)
	}
}

func TestWhatStandsStillIsStoppedAndKilledAtOnce(t *testing.T) {
	// Not by a deadline: there is none before the end of the test.
	s := tidy(t)
	sp := spec(t, "plugin")
	sp.CallTimeout = time.Hour
	for _, how := range []string{"stop", "kill"} {
		t.Run(how, func(t *testing.T) {
			p, err := s.Launch(t.Context(), sp)
			if err != nil {
				t.Fatal(err)
			}
			halt(t, p)
			if how == "kill" {
				p.Kill("it stood still")
				if state := gone(t, p); state.Killed != "it stood still" {
					t.Errorf("it ended with %v", state)
				}
				return
			}
			if err := p.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if state := gone(t, p); !state.Clean() {
				t.Errorf("it ended with %v", state)
			}
		})
	}
}

func TestGrandchildrenDieWithTheGroup(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	fd := watchPID(t, says(t, p, "child"))
	p.Kill("with all that is its own")
	gone(t, p)
	if !ended(fd, 20_000) {
		t.Error("the grandchild lives on")
	}
}

func TestGrandchildrenAreReapedByAHostThatAdoptsThem(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	s := tidy(t)
	p := launch(t, s)
	says(t, p, "child")
	says(t, p, "child in a session of its own")
	p.Kill("with all that is its own")
	gone(t, p)
	if left := children(t); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
}

func TestGrandchildrenInASessionOfTheirOwnEndToo(t *testing.T) {
	for _, o := range backends {
		for how, end := range map[string]func(*Process) error{
			"killed":  func(p *Process) error { p.Kill("it has hidden a child"); return nil },
			"stopped": func(p *Process) error { return p.Stop(context.Background()) },
			"crashed": func(p *Process) error { _ = do(context.Background(), p, "exit"); return nil },
		} {
			for _, child := range []string{"child in a session of its own", "orphan in a session of its own"} {
				t.Run(fmt.Sprintf("%v/%s/%s", o, how, child), func(t *testing.T) {
					s := tidyWith(t, o)
					p := launch(t, s)
					pid := says(t, p, child)
					if n, err := strconv.Atoi(pid); err != nil || groupOf(t, n) == p.PID() {
						t.Fatalf("process %q is not outside the group: %v", pid, err)
					}
					fd := watchPID(t, pid)
					if err := end(p); err != nil {
						t.Error(err)
					}
					gone(t, p) // though the grandchild has its pipes open
					if !ended(fd, 20_000) {
						t.Error("the grandchild lives on")
					}
				})
			}
		}
	}
}

func groupOf(t *testing.T, pid int) int {
	t.Helper()
	group, err := unix.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	return group
}

// watchPID returns a pidfd.
func watchPID(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestPluginsEndWithAHostThatIsKilled(t *testing.T) {
	host := exec.CommandContext(t.Context(), spec(t, "").Path, shortDir(t))
	host.Env = append(os.Environ(), roleEnv+"=host")
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 40)
	n, err := out.Read(b)
	if err != nil {
		t.Fatal(err, host.Wait())
	}
	plugin, child, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	fd, hidden := watchPID(t, plugin), watchPID(t, child)
	defer func() { _ = unix.PidfdSendSignal(hidden, unix.SIGKILL, nil, 0) }() // nobody finds it without groups
	if ended(fd, 0) {
		t.Fatal("the plugin has ended before the host was killed")
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // killed
	if !ended(fd, 20_000) {
		t.Error("the plugin outlives its host")
	}
	next := tidy(t)
	if next.Enforcement().Children < GroupV1 {
		t.Log("no control groups, so nobody finds what the plugin had hidden: ", next.Enforcement().Note)
	} else if !ended(hidden, 20_000) {
		t.Error("what the plugin had hidden outlives the next node's start")
	}
}

func TestForkingThreadOutlivesThreadsOfTheCaller(t *testing.T) {
	// The parent-death signal fires when the thread that forked ends. Goroutines
	// that end while locked to their thread take it with them.
	s := tidy(t)
	done := make(chan *Process)
	go func() {
		lockAndEnd(func() { done <- launch(t, s) })
	}()
	p := <-done
	for range 20 {
		ended := make(chan struct{})
		go lockAndEnd(func() { close(ended) })
		<-ended
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatalf("the plugin ended with a thread: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestChannelReachesThePlugin(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	if _, err := p.Channel().Write([]byte("memory comes")); err != nil {
		t.Fatal(err)
	}
	if got := says(t, p, "read the channel"); got != "memory comes" {
		t.Errorf("the plugin read %q", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := p.Channel().Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the channel after the end: %v", err)
	}
}

func TestSyscallsReachTheHost(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	k := &kernel{}
	id, stop, err := p.ServeKernel(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Configure(t.Context(), wire.Configuration{Broker: id, Settings: map[string]string{"do": "call"}}); err != nil {
		t.Fatal(err)
	}
	if got := k.heard(); got != "hello" {
		t.Errorf("the host heard %q", got)
	}
	stop()
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServedKernelEndsWithTheProcess(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	if _, _, err := p.ServeKernel(t.Context(), &kernel{}); err != nil {
		t.Fatal(err)
	}
	p.Kill("nobody stops the service") // what is left of it, tidy finds
	gone(t, p)
}

// kernel keeps what plugins log.
type kernel struct {
	mu   sync.Mutex
	text string
}

func (k *kernel) Syscall(_ context.Context, c wire.Syscall) (wire.Answer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l, ok := c.Body.(wire.LogRecord); ok {
		k.text = l.Message
	}
	return wire.Answer{}, nil
}

func (k *kernel) heard() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text
}

func TestEnvironmentIsNotTheHosts(t *testing.T) {
	t.Setenv("INOS_TEST_SECRET", "hunter2")
	t.Setenv("LANG", "C.UTF-8")
	s := tidy(t)
	sp := spec(t, "plugin")
	sp.Env = append(sp.Env, "GIVEN=yes", "INOS_CHANNEL_FD=99")
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Split(says(t, p, "environment"), "\n")
	for _, want := range []string{"GIVEN=yes", "LANG=C.UTF-8", "INOS_CHANNEL_FD=3"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.Contains([]string{"PATH", "LANG", "TMPDIR", "GIVEN", "GORACE", roleEnv, "INOS_CHANNEL_FD", markerEnv, wire.Handshake.MagicCookieKey}, name) && !strings.HasPrefix(name, "PLUGIN_") {
			t.Errorf("it sees %s", e)
		}
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWorksInAFolderOfItsOwn(t *testing.T) {
	s := tidy(t)
	p := launch(t, s)
	dir := says(t, p, "folder")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", dir, info, err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestLimitsAreInForce(t *testing.T) {
	s := tidy(t)
	sp := spec(t, "plugin")
	sp.Limits.OpenFiles = 200
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Limits(), (Limits{
		Memory: Unlimited, CPUPercent: Unlimited, Processes: Unlimited, AddressSpace: Unlimited, OpenFiles: 200,
	}); got != want {
		t.Errorf("in force is %+v, want %+v", got, want)
	}
	if got, want := says(t, p, "limits"), strconv.FormatUint(Unlimited, 10)+" 0"; got != want {
		t.Errorf("the plugin has %q, want %q", got, want)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestManyProcessesAtOnce(t *testing.T) {
	s := tidy(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p, err := s.Launch(t.Context(), spec(t, "plugin"))
			if err != nil {
				t.Error(err)
				return
			}
			switch i % 3 {
			case 0:
				if err := p.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			case 1:
				p.Kill("every third")
				<-p.Gone()
			}
		})
	}
	wg.Wait() // what still runs, Close ends
}
