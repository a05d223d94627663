package supervisor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLaunchRefusesWhatIsNoPlugin(t *testing.T) {
	tests := []struct {
		role string
		want Reason
		says string
	}{
		{"noise", Noise, `Welcome`},
		{"noise like a handshake", Noise, `"a|b|c|d|e"`},
		{"huge line", Noise, "xxx..."},
		{"mute", Noise, "closed its standard output"},
		{"panic", Crashed, `panic: no database`},
		{"exit", Crashed, `exit status 3, last words "cannot go on"`},
		{"other cookie", NotOurs, "another program"},
		{"other core", WrongProtocol, "version 9"},
		{"other version", WrongProtocol, "version 77"},
		{"net/rpc", NotOurs, "gRPC"},
		{"tcp", NotOurs, "tcp"},
		{"outside", NotOurs, "/tmp/elsewhere"},
		{"greet and exit", Crashed, "after its handshake"},
	}
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			s := tidy(t)
			p, err := s.Launch(t.Context(), spec(t, tt.role))
			var e *LaunchError
			if p != nil || !errors.As(err, &e) {
				t.Fatalf("got %v, %v", p, err)
			}
			if e.Reason != tt.want || !strings.Contains(e.Detail, tt.says) || e.Hint == "" || e.Name != "actor" {
				t.Fatalf("got %+v\nwant %v that says %q", e, tt.want, tt.says)
			}
			if strings.ContainsRune(e.Error(), '\x1b') {
				t.Error("the message carries a control character")
			}
			if !errors.Is(err, tt.want) || tt.want == Crashed && !errors.Is(err, ErrDied) {
				t.Errorf("errors.Is does not find the reason in %v", err)
			}
			if tt.role == "panic" && !strings.Contains(e.Stderr, "goroutine 1") {
				t.Errorf("standard error is %q", e.Stderr)
			}
			if n := s.Processes(); n != 0 {
				t.Errorf("%d processes when Launch returned", n)
			}
		})
	}
}

func TestLaunchGivesUpOnWhatHangs(t *testing.T) {
	for _, role := range []string{"hang", "greet and stop"} {
		t.Run(role, func(t *testing.T) {
			s := tidy(t)
			sp := spec(t, role)
			sp.StartTimeout = 300 * time.Millisecond
			_, err := s.Launch(t.Context(), sp)
			if !errors.Is(err, Hung) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestLaunchEndsWithItsContext(t *testing.T) {
	s := tidy(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := s.Launch(ctx, spec(t, "hang")); !errors.Is(err, Canceled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Launch(ctx, spec(t, "plugin")); !errors.Is(err, Canceled) {
		t.Fatalf("with a context that ended before: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Launch(ctx, spec(t, "hang")); !errors.Is(err, Hung) {
		t.Fatalf("with a deadline: %v", err)
	}
}

func TestASlowStartIsGivenUpAtOnce(t *testing.T) {
	// Not by a timeout: there is none before the end of the test.
	for _, o := range backends {
		for _, role := range []string{"hang", "mute", "greet and stop", "greet and leave the socket to a child"} {
			t.Run(string(o)+"/"+role, func(t *testing.T) {
				s := tidyWith(t, o)
				sp := spec(t, role)
				sp.StartTimeout = time.Hour
				ctx, cancel := context.WithCancel(t.Context())
				result := make(chan error, 1)
				go func() {
					_, err := s.Launch(ctx, sp)
					result <- err
				}()
				if role != "mute" { // that fails by itself
					if left := settle(func() []string { return quiet(t, s, role) }); len(left) > 0 {
						t.Fatal(left)
					}
				}
				cancel()
				if err := <-result; !errors.Is(err, Canceled) && role != "mute" || err == nil {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	t.Run("while the binary is checked", func(t *testing.T) {
		s := tidy(t)
		sp := spec(t, "plugin")
		sp.Digest = "of another"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Launch(ctx, sp); !errors.Is(err, Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// quiet waits for a launch to have got where its role stands still: it returns
// nothing then.
func quiet(t *testing.T, s *Supervisor, role string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.live {
		if p.forked() != nil && (role == "hang" || p.greeting.Load() != nil) {
			return nil
		}
	}
	return []string{"the launch gets nowhere"}
}

func TestLaunchEndsWithTheSupervisor(t *testing.T) {
	s := tidy(t)
	result := make(chan error)
	go func() {
		_, err := s.Launch(context.Background(), spec(t, "hang"))
		result <- err
	}()
	for s.Processes() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Launch(t.Context(), spec(t, "plugin")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestLaunchTellsWhyTheKernelStartsNothing(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self := spec(t, "plugin").Path
	sum := sha256.Sum256([]byte("#!/bin/sh\n"))
	tests := []struct {
		name string
		spec Spec
		want Reason
		says string
	}{
		{"rubbish", Spec{Path: write("rubbish", "hello", 0o700)}, CannotExecute, "this machine"},
		{"missing", Spec{Path: filepath.Join(dir, "missing")}, CannotExecute, "not there"},
		{"missing interpreter", Spec{Path: write("script", "#!/nonexistent/sh\n", 0o700)}, CannotExecute, "interpreter"},
		{"not executable", Spec{Path: write("text", "#!/bin/sh\n", 0o600)}, CannotExecute, "noexec"},
		{"relative", Spec{Path: "plugin"}, BadSpec, "not absolute"},
		{"folder too deep", Spec{Path: self, Dir: "/" + strings.Repeat("x", MaxSocketDir)}, BadSpec, "bytes"},
		{"folder not there", Spec{Path: self, Dir: filepath.Join(shortDir(t), "missing")}, CannotExecute, "missing"},
		{"bad variable", Spec{Path: self, Env: []string{"A"}}, BadSpec, "NAME=value"},
		{"other digest", Spec{Path: write("good", "#!/bin/sh\nexit\n", 0o700), Digest: fmt.Sprintf("%x", sum)}, BadDigest, "admitted"},
		{"digest of nothing", Spec{Path: filepath.Join(dir, "missing"), Digest: fmt.Sprintf("%x", sum)}, CannotExecute, "missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tidy(t)
			_, err := s.Launch(t.Context(), tt.spec)
			var e *LaunchError
			if !errors.As(err, &e) || e.Reason != tt.want || !strings.Contains(e.Error(), tt.says) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestABinaryThatIsBusyIsTriedAgain(t *testing.T) {
	// As when another thread forks while the binary is copied into the store.
	path := filepath.Join(t.TempDir(), "plugin")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("#!/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	tries := 0
	command := func() *exec.Cmd {
		tries++
		if tries == 3 {
			_ = f.Close()
		}
		return exec.Command(path)
	}
	c, err := startChild(command, &fence{})
	if err != nil || tries != 3 {
		t.Fatalf("after %d tries: %v", tries, err)
	}
	c.watch()
	if state := c.exit(); !state.Clean() {
		t.Errorf("it ended with %v", state)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("1|1|unix|/tmp/plugin|grpc|")
	f.Add("1|2|tcp|:1")
	f.Add("hello")
	f.Fuzz(func(t *testing.T, line string) {
		e := judge(line)
		if e == nil && !strings.Contains(line, "|grpc") {
			t.Fatalf("%q passes for a handshake", line)
		}
		if e != nil && (e.Detail == "" || e.Hint == "" || len(e.Detail) > 8*maxWords) {
			t.Fatalf("%q: %+v", line, e)
		}
	})
}

func TestLaunchAcceptsTheDigestThatWasAdmitted(t *testing.T) {
	s := tidy(t)
	sp := spec(t, "plugin")
	b, err := os.ReadFile(sp.Path)
	if err != nil {
		t.Fatal(err)
	}
	sp.Digest = strings.ToUpper(fmt.Sprintf("%x", sha256.Sum256(b)))
	p, err := s.Launch(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReasonsHaveAWordAndAHint(t *testing.T) {
	seen := map[string]bool{}
	for r := BadSpec; r <= Canceled; r++ {
		if seen[r.String()] || strings.Contains(r.String(), "reason-") || reasons[r].hint == "" {
			t.Errorf("reason %d: %q, %q", r, r, reasons[r].hint)
		}
		seen[r.String()] = true
	}
	if got := Reason(200).String(); got != "reason-200" {
		t.Errorf("got %q", got)
	}
}
