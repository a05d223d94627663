package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"inos/host/api"
)

// host is the node under test, life after life.
type host struct {
	binary, dir   string // dir is the folder of the run
	home, plugins string

	mu     sync.Mutex
	lives  int
	cmd    *exec.Cmd
	exited chan struct{}
	client *api.Client
	up     chan struct{} // closed while it serves
}

func newHost(binary, dir string) *host {
	return &host{
		binary: binary, dir: dir, home: filepath.Join(dir, "home"), plugins: filepath.Join(dir, "plugins"),
		up: make(chan struct{}),
	}
}

// tag is in the environment of every process of a run, as TMPDIR: what a plugin is
// given of it by the host tells whose process it is.
func (h *host) tag() string { return filepath.Join(h.dir, "tmp") }

// start starts a life, with more in its environment, and returns when the API
// answers.
func (h *host) start(ctx context.Context, environ ...string) error {
	h.mu.Lock()
	h.lives++
	life := h.lives
	h.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(h.dir, "node.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- life %d\n", life)
	cmd := exec.Command(h.binary, "run", "--home", h.home, "--plugins", h.plugins, "--log-level", "debug")
	cmd.Env = append(os.Environ(), "TMPDIR="+h.tag(), "XDG_CONFIG_HOME="+filepath.Join(h.dir, "config"))
	cmd.Env = append(cmd.Env, environ...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the campaign
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	h.mu.Lock()
	h.cmd, h.exited = cmd, exited
	h.mu.Unlock()
	for {
		c, err := api.Dial(filepath.Join(h.home, "inos.sock"))
		if err == nil {
			h.mu.Lock()
			h.client = c
			h.mu.Unlock()
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the node ended at its start in life %d, see %s", life, log.Name())
		case <-ctx.Done():
			return fmt.Errorf("the node did not answer in life %d: %w", life, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// serving lets jobs come.
func (h *host) serving() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.up)
}

// ready waits until the node serves and returns its API.
func (h *host) ready(ctx context.Context) (*api.Client, error) {
	h.mu.Lock()
	up := h.up
	h.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.client, nil
}

// api returns the API of the current life.
func (h *host) api() *api.Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.client
}

// life counts the lives of the node, the first is 1.
func (h *host) life() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lives
}

// pid of the current life.
func (h *host) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cmd.Process.Pid
}

// died returns a channel that is closed when the current life has ended.
func (h *host) died() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.exited
}

// kill ends the current life as the kernel would. It returns when it is over.
func (h *host) kill() {
	h.end(syscall.SIGKILL)
	<-h.died()
}

// stop ends the last life as an operator would.
func (h *host) stop(within time.Duration) error {
	h.end(syscall.SIGTERM)
	select {
	case <-h.died():
		return nil
	case <-time.After(within):
		h.kill()
		return fmt.Errorf("the node did not stop within %s", within)
	}
}

func (h *host) end(sig syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.up:
		h.up = make(chan struct{})
	default:
	}
	_ = h.cmd.Process.Signal(sig) // it may have ended by itself
	if h.client != nil {
		h.client.Close()
	}
}

// process is one process of the run, apart from the campaign and the node.
type process struct {
	pid, parent int
	exe         string
	state       string // as in /proc/PID/stat
	helper      bool   // it is none of the plugins, but was started by one
	grouped     bool   // it is in a control group that the node made
}

// processes lists those that run, or are tagged as, something of this run.
func (h *host) processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	node := 0
	h.mu.Lock()
	if h.cmd != nil {
		node = h.cmd.Process.Pid
	}
	h.mu.Unlock()
	var list []process
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() || pid == node {
			continue
		}
		p := process{pid: pid}
		p.exe, _ = os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if !strings.HasPrefix(p.exe, h.dir+"/") && !bytes.Contains(env, []byte("TMPDIR="+h.tag())) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		p.helper = !strings.HasPrefix(p.exe, h.dir+"/")
		groups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		p.grouped = bytes.Contains(groups, []byte("/inos-"))
		if _, err := fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &p.state, &p.parent); err != nil || p.state == "Z" {
			continue
		}
		list = append(list, p)
	}
	return list
}

// gone waits until no process of the run is left that which chooses, and returns
// those that are.
func (h *host) gone(within time.Duration, which func(process) bool) []process {
	for end := time.Now().Add(within); ; {
		list := slices.DeleteFunc(h.processes(), func(p process) bool { return !which(p) })
		if len(list) == 0 || time.Now().After(end) {
			return list
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// descriptors counts what the node has open.
func (h *host) descriptors() (map[string]int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", h.pid())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sockets := socketNames()
	kinds := make(map[string]int)
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		kind, inode, _ := strings.Cut(to, ":")
		switch {
		case strings.HasPrefix(to, "/"):
			kind = filepath.Dir(to)
		case kind == "socket":
			kind += " " + sockets[strings.Trim(inode, "[]")]
		}
		kinds[kind]++
	}
	return kinds, nil
}

var serial = regexp.MustCompile(`\d{3,}`)

// socketNames returns the names of unix sockets by their inodes, without the numbers
// that are in those of plugins.
func socketNames() map[string]string {
	names := make(map[string]string)
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return names // they tell whose a socket is, and count nothing
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 7 {
			names[f[6]] = serial.ReplaceAllString(f[7], "*")
		}
	}
	return names
}
