package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
)

// roleEnv makes the test binary play another part than that of the tests: a
// plugin of some kind, what a plugin starts itself, or a host.
const roleEnv = "INOS_SUPERVISOR_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		play(role)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// play never returns for a part that goes on until it is ended.
func play(role string) {
	switch role {
	case "plugin":
		serve(wire.Handshake)
	case "other cookie":
		h := wire.Handshake
		h.MagicCookieValue = "of another program"
		serve(h)
	case "noise":
		fmt.Println("Welcome to \x1b[31mmy plugin!")
		serve(wire.Handshake)
	case "noise like a handshake":
		fmt.Println("a|b|c|d|e")
		serve(wire.Handshake)
	case "huge line":
		fmt.Print(strings.Repeat("x", 1<<20))
		serve(wire.Handshake)
	case "panic":
		panic("no database")
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(3)
	case "mute":
		_ = os.Stdout.Close()
		forever()
	case "hang":
		forever()
	case "other core":
		greet("9|1|unix|%s|grpc\n")
	case "other version":
		greet("1|77|unix|%s|grpc\n")
	case "net/rpc":
		greet("1|1|unix|%s|netrpc\n")
	case "tcp":
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc")
		forever()
	case "outside":
		fmt.Println("1|1|unix|/tmp/elsewhere|grpc")
		forever()
	case "greet and exit":
		fmt.Printf("1|1|unix|%s|grpc\n", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "none"))
	case "greet and stop":
		go greet("1|1|unix|%s|grpc\n")
		stopWhenGreeted()
	case "greet and leave the socket to a child":
		path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			panic(err)
		}
		f, err := l.File()
		if err != nil {
			panic(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=idle")
		cmd.ExtraFiles = []*os.File{f}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Printf("1|1|unix|%s|grpc\n", path)
		forever()
	case "host":
		playHost()
	case "idle":
		forever()
	case "eater":
		eat()
	case "parent of an orphan":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=idle")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println(cmd.Process.Pid)
	default:
		panic("unknown role " + role)
	}
}

func forever() { select {} }

// eaten keeps the collector off.
var eaten [][]byte

// eat takes memory until it is ended, or has so much that there is no limit.
func eat() {
	for range 512 {
		b := make([]byte, 4<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		eaten = append(eaten, b)
	}
	forever()
}

// most is how many children a fork bomb has that nothing bounds.
const most = 200

// forkBomb starts children until it is refused, and returns how many it could.
func forkBomb() int {
	for n := range most {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=idle")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: n%2 == 0}
		if err := cmd.Start(); err != nil {
			return n
		}
	}
	return most
}

// greet listens where the host expects it and prints the handshake.
func greet(format string) {
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin")
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	fmt.Printf(format, path)
	for {
		if _, err := l.Accept(); err != nil {
			panic(err)
		}
	}
}

// stopWhenGreeted stops the process when its socket is there.
func stopWhenGreeted() {
	for {
		if c, err := net.Dial("unix", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin")); err == nil {
			_ = c.Close()
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
		time.Sleep(time.Millisecond)
	}
}

func serve(h goplugin.HandshakeConfig) {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: h,
		Plugins: goplugin.PluginSet{wire.PluginName: wire.ModulePlugin{
			New: func(b *goplugin.GRPCBroker) wire.Lifecycle { return &actor{broker: b} },
		}},
		GRPCServer: wire.NewServer,
	})
}

// actor is a plugin that does what its settings say.
type actor struct {
	broker *goplugin.GRPCBroker
	detail string // answered to Health
}

func (a *actor) Command(ctx context.Context, c wire.Command) (wire.Reply, error) {
	switch body := c.Body.(type) {
	case wire.Describe:
		return wire.Reply{Manifest: &wire.Manifest{Name: "actor", Version: wire.Version{Major: 1}}}, nil
	case wire.Configuration:
		return wire.Reply{}, a.act(body)
	case wire.Health:
		return wire.Reply{Health: &wire.Heartbeat{Status: system.HealthStatus_healthy, Detail: a.detail}}, nil
	}
	return wire.Reply{}, nil
}

// act does the setting "do".
func (a *actor) act(c wire.Configuration) error {
	switch do := c.Settings["do"]; do {
	case "exit":
		code, _ := strconv.Atoi(c.Settings["code"])
		os.Exit(code)
	case "panic":
		go panic("out of cheese")
		forever()
	case "hang":
		forever()
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "fail":
		return wire.NewError(base.Code_notSupported, "ask another", "not today")
	case "child", "child in a session of its own":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=idle")
		cmd.Stdout, cmd.Stderr = inherited1, inherited2
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: do != "child"}
		if err := cmd.Start(); err != nil {
			return err
		}
		a.detail = strconv.Itoa(cmd.Process.Pid)
	case "orphan in a session of its own":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=parent of an orphan")
		cmd.Stderr = inherited2
		out, err := cmd.Output()
		a.detail = strings.TrimSpace(string(out))
		return err
	case "eat memory":
		eat()
	case "eat memory in a child":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"=eater")
		return cmd.Run()
	case "fork":
		a.detail = strconv.Itoa(forkBomb())
	case "burn":
		for range 2 {
			go func() {
				for n := uint64(0); ; n++ {
					burnt.Store(n)
				}
			}()
		}
	case "ignore signals":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	case "flood":
		line := []byte(strings.Repeat("f", 1000) + "\n")
		for range 5000 {
			_, _ = inherited2.Write(line)
		}
		_, _ = inherited2.Write([]byte("after the flood\n"))
	case "long lines":
		for _, f := range []*os.File{inherited1, inherited2, os.Stdout, os.Stderr} {
			_, _ = f.WriteString(strings.Repeat("l", 200<<10) + "\n")
		}
	case "print":
		_, _ = os.Stdout.WriteString("to standard output\n")
		_, _ = os.Stderr.WriteString("to standard error\n")
		_, _ = inherited1.WriteString("to descriptor 1\n")
		_, _ = inherited2.WriteString("\x1b[2Jto descriptor 2\n")
		_, _ = inherited2.WriteString(`{"@level":"warn","@message":"as \u001b hclog","@timestamp":"2026-11-24T10:00:00.000000Z","key":"value"}` + "\n")
	case "environment":
		a.detail = strings.Join(os.Environ(), "\n")
	case "folder":
		dir, err := os.Getwd()
		a.detail = dir
		return err
	case "limits":
		var as, core syscall.Rlimit
		err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_AS, &as), syscall.Getrlimit(syscall.RLIMIT_CORE, &core))
		a.detail = fmt.Sprintf("%d %d", as.Max, core.Max)
		return err
	case "read the channel":
		conn, err := net.FileConn(os.NewFile(uintptr(system.ChannelFd), "channel"))
		if err != nil {
			return err
		}
		b := make([]byte, 100)
		n, err := conn.Read(b)
		a.detail = string(b[:n])
		return err
	case "call":
		k, closer, err := wire.DialKernel(a.broker, c.Broker)
		if err != nil {
			return err
		}
		defer closer.Close()
		_, err = k.Syscall(context.Background(), wire.Syscall{Body: wire.LogRecord{Message: "hello"}})
		return err
	}
	return nil
}

// The standard streams that the process inherited. go-plugin puts others in
// their place when it serves.
var inherited1, inherited2 = os.Stdout, os.Stderr

// playHost launches a plugin and waits to be killed.
func playHost() {
	s, err := New(Options{SocketDir: os.Args[1]})
	if err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	p, err := s.Launch(context.Background(), Spec{Path: self, Env: []string{roleEnv + "=plugin"}})
	if err != nil {
		panic(err)
	}
	if err := do(context.Background(), p, "child in a session of its own"); err != nil {
		panic(err)
	}
	h, err := p.Health(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID(), h.Detail)
	forever()
}

// tidy returns a supervisor whose end it checks: no goroutine, descriptor,
// process or folder may be left of the test.
func tidy(t *testing.T) *Supervisor {
	t.Helper()
	return tidyWith(t, backend("with groups"))
}

// backend says by which means a Supervisor of a test keeps its limits.
type backend string

// backends are those there are. With groups is as good as the machine allows.
var backends = []backend{"with groups", "with groups of version 1", "without groups"}

// forgetVersion2 makes a supervisor that has started nothing yet do without it.
func forgetVersion2(t *testing.T, s *Supervisor) {
	t.Helper()
	var rest []*branch
	for _, b := range s.tree.branches {
		if !b.unified {
			rest = append(rest, b)
		} else if err := removeGroups(b.dir); err != nil {
			t.Fatal(err)
		}
	}
	s.tree.branches = rest
	if len(rest) == 0 {
		t.Skip("no control groups of version 1 on this machine")
	}
	s.enforcement = s.tree.enforcement()
}

func tidyWith(t *testing.T, b backend) *Supervisor {
	t.Helper()
	goroutines, files := goleak.IgnoreCurrent(), descriptors(t)
	dir := shortDir(t)
	s, err := New(Options{SocketDir: dir, WithoutGroups: b == "without groups"})
	if err != nil {
		t.Fatal(err)
	}
	if b == "with groups of version 1" {
		defer forgetVersion2(t, s)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := s.Processes(); n != 0 {
			t.Errorf("%d processes are not taken back", n)
		}
		goleak.VerifyNone(t, goroutines)
		if left := settle(func() []string { return surplus(descriptors(t), files) }); len(left) > 0 {
			t.Errorf("descriptors left open: %q", left)
		}
		if left := settle(func() []string { return children(t) }); len(left) > 0 {
			t.Errorf("processes left: %q", left)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the folder for sockets: %v, %v", left, err)
		}
		if left := ownGroups(t); len(left) > 0 {
			t.Errorf("control groups left: %q", left)
		}
	})
	return s
}

// ownGroups lists the control groups of supervisors of this process.
func ownGroups(t *testing.T) []string {
	t.Helper()
	list, err := hierarchies("/")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, h := range list {
		found, err := filepath.Glob(filepath.Join(h.dir, fmt.Sprintf("inos-%d-*", os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// shortDir makes a folder for sockets. The name of a test would be too long a
// part of its name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "inos-test-") //nolint:usetesting // t.TempDir has the name of the test in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// settle asks until there is nothing left, or some seconds have passed: what
// others close is closed when they get to it.
func settle(left func() []string) []string {
	end := time.Now().Add(5 * time.Second)
	for {
		l := left()
		if len(l) == 0 || time.Now().After(end) {
			return l
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// descriptors lists what this process has open, the poller's own apart.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "/proc/") && !strings.Contains(target, "event") {
			list = append(list, target)
		}
	}
	return list
}

// surplus lists what is in now and was not before.
func surplus(now, before []string) []string {
	before = slices.Clone(before)
	var list []string
	for _, n := range now {
		if i := slices.Index(before, n); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else {
			list = append(list, n)
		}
	}
	return list
}

// children lists the processes that have this one as their parent, dead ones
// included.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // number (name) state parent ...
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			list = append(list, string(b))
		}
	}
	return list
}

// quickExit spares a process that was built with the race detector the second
// that it sleeps before it exits.
const quickExit = "GORACE=atexit_sleep_ms=0"

// spec is that of the test binary in a role.
func spec(t *testing.T, role string) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Path: self, Name: "actor", Env: []string{roleEnv + "=" + role, quickExit}, StartTimeout: 20 * time.Second}
}

// launch starts a plugin that serves.
func launch(t *testing.T, s *Supervisor) *Process {
	t.Helper()
	p, err := s.Launch(t.Context(), spec(t, "plugin"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// do has the plugin do something of actor's.
func do(ctx context.Context, p *Process, what string) error {
	return p.Configure(ctx, wire.Configuration{Settings: map[string]string{"do": what}})
}

// says returns what the plugin found when it did something.
func says(t *testing.T, p *Process, what string) string {
	t.Helper()
	if err := do(t.Context(), p, what); err != nil {
		t.Fatal(err)
	}
	h, err := p.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h.Detail
}

// gone waits until everything of p is taken back.
func gone(t *testing.T, p *Process) ExitState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	state, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// lockAndEnd runs f on a thread that ends with it.
func lockAndEnd(f func()) {
	runtime.LockOSThread()
	f()
}

// burnt keeps what a process burns its time on from being optimised away.
var burnt atomic.Uint64
