// Package nodetest starts whole nodes for tests: a real host in the test's own
// process, with real plugin processes built from this repository. When a test
// ends it checks that nothing was left behind: no process, no descriptor, no
// block of an arena. It is for tests only.
package nodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/node"
	"inos/plugins/sdk/wire"
	"inos/shm/arena"
)

// Patience bounds every wait of a test. It is no measure of speed: what takes
// this long has hung.
const Patience = 60 * time.Second

var (
	building sync.Mutex
	built    = make(map[string]string)
	buildDir string
)

// Main runs the tests of a package and removes the binaries built for them.
func Main(m *testing.M) int {
	defer func() {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
	}()
	return m.Run()
}

// Build compiles a main package of this repository, once for each test binary,
// and returns the path of the result.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if path, ok := built[pkg]; ok {
		return path
	}
	if buildDir == "" {
		dir, err := os.MkdirTemp("", "inos-test-") //nolint:usetesting // later tests use what this one built
		if err != nil {
			t.Fatal(err)
		}
		buildDir = dir
	}
	path := filepath.Join(buildDir, filepath.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
	built[pkg] = path
	return path
}

// TestPlugin is the package of the plugin whose conduct follows its name.
const TestPlugin = "inos/integration/testplugin"

// Folder returns a plugins folder with a copy of a binary under each name.
func Folder(t testing.TB, binary string, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		Copy(t, binary, filepath.Join(dir, n))
	}
	return dir
}

// Sign signs every plugin of a folder with a key that a node in home trusts.
func Sign(t testing.TB, home, dir string) {
	t.Helper()
	key, _, err := catalog.LocalKey(filepath.Join(home, "trust"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := catalog.Sign(filepath.Join(dir, f.Name()), key, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// Copy copies a binary.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Start opens a node and closes it when the test ends, after it has checked that
// every block of its arenas is back.
func Start(t testing.TB, o node.Options) *node.Node {
	t.Helper()
	before := descriptors(t)
	if o.Home == "" {
		o.Home = filepath.Join(t.TempDir(), "home")
	}
	if o.Segment == 0 {
		o.Segment = 64 << 20
	}
	if o.Trust == nil { // and not the keys of whoever runs the test
		o.Trust = []string{filepath.Join(o.Home, "trust")}
	}
	log := &logBuffer{}
	if o.Logger == nil {
		o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: log})
	}
	ctx, stop := context.WithTimeout(context.Background(), Patience)
	defer stop()
	n, err := node.Open(ctx, o)
	if err != nil {
		t.Fatalf("node: %v\n%s", err, log)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the node:\n%s", log)
		}
		for _, a := range n.Segment().Arenas {
			for _, owner := range a.Owners {
				if owner.Owner == arena.Host && owner.Blocks > StateBlocks(n) {
					t.Errorf("arena %d: %d blocks (%d bytes) of the host were left behind", a.Arena, owner.Blocks, owner.Bytes)
				}
			}
		}
		ctx, stop := context.WithTimeout(context.Background(), Patience)
		defer stop()
		if err := n.Close(ctx); err != nil {
			t.Errorf("closing the node: %v", err)
		}
		if kids := children(t); len(kids) > 0 {
			t.Errorf("processes left behind: %s", strings.Join(kids, ", "))
		}
		// The poller closes a descriptor a moment after its last user has let go.
		after := descriptors(t)
		for end := time.Now().Add(Patience); after > before && time.Now().Before(end); after = descriptors(t) {
			time.Sleep(5 * time.Millisecond)
		}
		if after > before {
			t.Errorf("%d descriptors were open before the node, %d after it", before, after)
		}
	})
	return n
}

// StateBlocks returns how many blocks of the host are there to stay.
func StateBlocks(n *node.Node) uint64 { return uint64(len(n.Segment().States)) }

// Run runs one job with an input in memory and returns its whole output.
func Run(t testing.TB, n *node.Node, r dispatch.Request, input []byte) ([]byte, dispatch.Outcome, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), Patience)
	defer stop()
	if input != nil {
		r.Input = dispatch.Input{Reader: bytes.NewReader(input), Size: int64(len(input))}
	}
	j, err := n.Engine().Submit(ctx, r)
	if err != nil {
		return nil, dispatch.Outcome{}, err
	}
	defer j.Close()
	return Collect(ctx, j)
}

// Collect reads the whole output of a job and waits for its outcome.
func Collect(ctx context.Context, j *dispatch.Job) ([]byte, dispatch.Outcome, error) {
	var out bytes.Buffer
	for {
		p, err := j.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if o, werr := j.Wait(ctx); werr == nil {
				return out.Bytes(), o, err
			}
			return out.Bytes(), dispatch.Outcome{}, err
		}
		out.Write(p.Bytes())
		p.Release()
	}
	o, err := j.Wait(ctx)
	return out.Bytes(), o, err
}

// Must is Run for jobs that have to succeed.
func Must(t testing.TB, n *node.Node, capability string, input []byte, params ...wire.Param) []byte {
	t.Helper()
	out, _, err := Run(t, n, dispatch.Request{Capability: capability, Params: params}, input)
	if err != nil {
		t.Fatalf("%s: %v", capability, err)
	}
	return out
}

// Plugin returns what the node says of one plugin.
func Plugin(t testing.TB, n *node.Node, name string) node.PluginStatus {
	t.Helper()
	for _, p := range n.Plugins() {
		if p.Name == name || p.File == name {
			return p
		}
	}
	t.Fatalf("the node does not list %s", name)
	return node.PluginStatus{}
}

// Eventually waits until something is true.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// children lists the child processes of this one, zombies included.
func children(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range dirs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		end := bytes.LastIndexByte(b, ')')
		var state string
		var parent int
		if _, err := fmt.Sscan(string(b[end+1:]), &state, &parent); err == nil && parent == os.Getpid() {
			list = append(list, string(b[:end+1])+" "+state)
		}
	}
	return list
}

func descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// logBuffer keeps the log of a node for a test that fails.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// maxLog bounds what is kept.
const maxLog = 1 << 20

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() < maxLog {
		l.buf.Write(p)
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
