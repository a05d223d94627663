package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"inos/host/dispatch"
	"inos/host/node"
	"inos/host/supervisor"
	"inos/integration/nodetest"
	"inos/plugins/sdk/wire"
	"inos/shm/arena"
)

// commons returns a home whose policy lets every plugin share one arena.
func commons(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "policy.json"), `{"default": {"arena": "commons"}}`, 0o600)
	return home
}

// copiedIn adds up what the host copied into the arenas, and from one to another.
func copiedIn(n *node.Node) (in, across uint64) {
	for _, a := range n.Segment().Arenas {
		in += a.CopiedIn
		across += a.Crossed
	}
	return in, across
}

func TestInputIsCopiedOnceAndPassedOnByReference(t *testing.T) {
	n := start(t, node.Options{Home: commons(t)}, "first", "second")
	in := random(1 << 20)
	before, _ := copiedIn(n)

	// first has second say where the input lies that first was given.
	out := nodetest.Must(t, n, "first.call", in, wire.Param{Name: "capability", Value: "second.refs"})
	var seen arena.Ref
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Length != uint64(len(in)) || seen.Arena != n.Segment().Arenas[0].Arena {
		t.Errorf("the second plugin saw %+v, not the input in the commons", seen)
	}
	if got, across := copiedIn(n); got-before != uint64(len(in)) || across != 0 {
		t.Errorf("%d bytes were copied in and %d across for an input of %d that two plugins read", got-before, across, len(in))
	}

	// first has second make an output, which comes back as it is.
	before, _ = copiedIn(n)
	if out := nodetest.Must(t, n, "first.call", in, wire.Param{Name: "capability", Value: "second.echo"}); !bytes.Equal(out, in) {
		t.Error("other bytes came back")
	}
	if got, across := copiedIn(n); got-before != uint64(len(in)) || across != 0 {
		t.Errorf("%d bytes were copied in and %d across, the input has %d and the output none", got-before, across, len(in))
	}
}

func TestPrivateArenasCostOneCopyEachWay(t *testing.T) {
	n := start(t, node.Options{}, "first", "second")
	in := random(100_000)
	before, _ := copiedIn(n)
	if out := nodetest.Must(t, n, "first.call", in, wire.Param{Name: "capability", Value: "second.echo"}); !bytes.Equal(out, in) {
		t.Error("other bytes came back")
	}
	if got, across := copiedIn(n); got-before != uint64(len(in)) || across != uint64(2*len(in)) {
		t.Errorf("%d bytes were copied in and %d across, want the input of %d once in, over to the second and back", got-before, across, len(in))
	}
}

func TestFullArenaAndQueueAreRefusedAtOnce(t *testing.T) {
	n := start(t, node.Options{Segment: 8 << 20, Dispatch: dispatch.Options{QueueLimit: 4}}, "probe")
	if _, _, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.echo"}, make([]byte, 8<<20)); !errors.Is(err, wire.ErrResourceExhausted) {
		t.Errorf("an input larger than the arena: %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), nodetest.Patience)
	defer stop()
	var full error
	var jobs []*dispatch.Job
	for range 100 { // more than run and wait
		j, err := n.Engine().Submit(ctx, dispatch.Request{Capability: "probe.wait"})
		if err != nil {
			full = err
			break
		}
		jobs = append(jobs, j)
	}
	if !errors.Is(full, wire.ErrResourceExhausted) {
		t.Errorf("%d jobs were taken, then %v", len(jobs), full)
	}
	for _, j := range jobs {
		j.Close()
	}
	nodetest.Must(t, n, "probe.echo", []byte("x"))
}

func TestSegmentLargerThanMemoryIsRefusedAtOnce(t *testing.T) {
	_, err := node.Open(t.Context(), node.Options{Home: filepath.Join(t.TempDir(), "h"), Segment: 1 << 46})
	if err == nil {
		t.Fatal("64 TiB were given")
	}
	t.Log(err)
}

// TestScribblingPluginHarmsNobodyElse has a plugin overwrite, a million times, at
// random, all shared memory that it can write, while another works.
func TestScribblingPluginHarmsNobodyElse(t *testing.T) {
	writes := uint64(1_000_000)
	if testing.Short() {
		writes = 100_000
	}
	n := start(t, node.Options{Restart: supervisor.BackoffOptions{Limit: 1}}, "hostile", "probe")
	in := random(10_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, o, err := nodetest.Run(t, n, dispatch.Request{
			Capability: "hostile.scribble",
			Params:     wire.Params{{Name: "writes", Value: writes}, {Name: "seed", Value: uint64(7)}},
		}, nil)
		t.Logf("the scribbling job ended as %s: %v", o.Status, err)
	}()
	jobs := 0
	for over := false; !over || jobs < 100; jobs++ {
		if out := nodetest.Must(t, n, "probe.echo", in); !bytes.Equal(out, in) {
			t.Fatal("the other plugin's output was damaged")
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	if p := nodetest.Plugin(t, n, "probe"); p.Restarts != 0 || len(p.Instances) != 1 || p.Instances[0].Offences != 0 {
		t.Errorf("the other plugin was not left alone: %+v", p)
	}
	t.Logf("%d jobs of the other plugin meanwhile; the hostile one is now %s: %s", jobs, nodetest.Plugin(t, n, "hostile").Phase, nodetest.Plugin(t, n, "hostile").Reason)
}
