package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketIsTheUsersAlone(t *testing.T) {
	path := SocketPath(privateDir(t))
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after close the socket is there still: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

func TestOpenHomeIsRefused(t *testing.T) {
	dir := privateDir(t)
	if err := os.Chmod(dir, 0o755); err != nil { // what is tested
		t.Fatal(err)
	}
	if _, err := Listen(SocketPath(dir)); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("error %v, want ErrExposed and what to do", err)
	}
}

func TestLiveSocketIsLeftAloneAndADeadOneReplaced(t *testing.T) {
	path := SocketPath(privateDir(t))
	first, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrRunning) {
		t.Errorf("beside a live one: %v, want ErrRunning", err)
	}
	first.SetUnlinkOnClose(false) // as after SIGKILL
	first.Close()
	if _, err := Dial(path); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "inos run") {
		t.Errorf("dial of a dead one: %v, want ErrNotRunning and what to do", err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("in place of a dead one: %v", err)
	}
	second.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

func TestPathMayBeLongerThanAnAddress(t *testing.T) {
	dir := filepath.Join(privateDir(t), strings.Repeat("d", 120), strings.Repeat("e", 120))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := SocketPath(dir)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrRunning) {
		t.Errorf("second: %v, want ErrRunning", err)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after close: %v, want ErrNotRunning", err)
	}
	if _, err := Dial(filepath.Join(dir, "none", "inos.sock")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a folder: %v, want ErrNotRunning", err)
	}
}

func TestStrangersAreNotServed(t *testing.T) {
	ends := socketpair(t)
	if own := (&listener{uid: os.Geteuid()}); !own.trusts(ends[0]) {
		t.Error("the user's own process is a stranger")
	}
	l := &listener{uid: 1000}
	for uid, want := range map[uint32]bool{1000: true, 0: true, 1001: false, 65534: false, 1<<32 - 1: false} {
		if l.knows(uid) != want {
			t.Errorf("user %d: %v, want %v", uid, !want, want)
		}
	}
	if os.Geteuid() != 0 {
		if other := (&listener{uid: os.Geteuid() + 1}); other.trusts(ends[0]) {
			t.Error("another user's process is trusted")
		}
	}
}

func TestHangupIsToldFromSilence(t *testing.T) {
	ends := socketpair(t)
	raw, err := ends[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if hungUp(raw) {
		t.Error("one that says nothing has hung up")
	}
	if _, err := ends[1].Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	if err := ends[1].CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if hungUp(raw) {
		t.Error("one that has finished sending has hung up")
	}
	ends[1].Close()
	if !hungUp(raw) {
		t.Error("one that is gone has not hung up")
	}
}

func socketpair(t *testing.T) (ends [2]*net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[n] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends
}
