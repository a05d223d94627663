// Package twin lets a test run a part of itself in a second, real process that
// shares memory with the first: the test binary starts itself again and plays a
// role instead of running tests. For tests of the shm room alone.
package twin

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// roleEnv names the role that a process plays, filesEnv how many files it got.
const (
	roleEnv  = "INOS_TEST_ROLE"
	filesEnv = "INOS_TEST_FILES"
)

// patience ends a process that hangs. It is far beyond what any role takes.
const patience = 2 * time.Minute

// Role is what the second process does with the files that Start handed to it. An
// error is printed, and fails the test that waits for it.
type Role func(files []*os.File) error

// Main is the body of TestMain. The first process runs the tests and then fails
// when goroutines are left over.
func Main(m *testing.M, roles map[string]Role) {
	name := os.Getenv(roleEnv)
	if name == "" {
		goleak.VerifyTestMain(m)
		return
	}
	n, err := strconv.Atoi(os.Getenv(filesEnv))
	if role := roles[name]; err == nil && role == nil {
		err = fmt.Errorf("no role %q", name)
	}
	var files []*os.File
	for i := range n {
		unix.CloseOnExec(3 + i)
		files = append(files, os.NewFile(uintptr(3+i), "inherited"))
	}
	if err == nil {
		err = roles[name](files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is a second process that plays a role.
type Process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	stop context.CancelFunc
}

// Start starts the role in a second process, which is killed when the test ends.
func Start(t testing.TB, role string, files ...*os.File) *Process {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	p := &Process{cmd: exec.CommandContext(ctx, os.Args[0]), stop: stop}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, filesEnv+"="+strconv.Itoa(len(files)))
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Wait()
		}
	})
	return p
}

// Wait waits for the process and fails the test unless it ended well.
func (p *Process) Wait(t testing.TB) {
	t.Helper()
	err := p.cmd.Wait()
	p.stop()
	if err != nil {
		t.Fatalf("the second process: %v\n%s", err, p.out.Bytes())
	}
}

// Memory returns n bytes that other processes can map through the file. Both
// live until the test ends.
func Memory(t testing.TB, n int) ([]byte, *os.File) {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	if err := f.Truncate(int64(n)); err != nil {
		t.Fatal(err)
	}
	b, err := Map(f, n, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Munmap(b)
		_ = f.Close()
	})
	return b, f
}

// Map maps n bytes of f, for good.
func Map(f *os.File, n, prot int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, n, prot, unix.MAP_SHARED)
}
