package integration

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inos/host/dispatch"
	"inos/host/node"
	"inos/host/supervisor"
	"inos/integration/nodetest"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

// ruled opens a node with the test plugin and one rule for all plugins.
func ruled(t *testing.T, o node.Options, rule map[string]any) *node.Node {
	t.Helper()
	o.Home = t.TempDir()
	policy, err := json.Marshal(map[string]any{"default": rule})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(o.Home, "policy.json"), string(policy), 0o600)
	return start(t, o, "probe")
}

// soon is a context for what must not hang.
func soon(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), nodetest.Patience)
	t.Cleanup(stop)
	return ctx
}

// waiting submits a job that runs until it is cancelled, and waits until it does.
func waiting(t *testing.T, n *node.Node) *dispatch.Job {
	t.Helper()
	j, err := n.Engine().Submit(soon(t), dispatch.Request{Capability: "probe.wait"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	nodetest.Eventually(t, "the job runs", func() bool { return j.Info().Done == 1 })
	return j
}

func TestSpawnStartsAllOrNone(t *testing.T) {
	n := ruled(t, node.Options{}, map[string]any{"max_instances": 3})
	if _, err := n.Spawn(soon(t), "probe", 3); !errors.Is(err, wire.ErrResourceExhausted) || !strings.Contains(err.Error(), "max_instances") {
		t.Errorf("error %v", err)
	}
	if p := nodetest.Plugin(t, n, "probe"); len(p.Instances) != 1 {
		t.Errorf("%d instances after a refusal", len(p.Instances))
	}
	first, err := n.Spawn(soon(t), "probe", 2)
	if p := nodetest.Plugin(t, n, "probe"); err != nil || len(p.Instances) != 3 || p.Instances[1].ID != first {
		t.Errorf("first is %d, %v: %+v", first, err, p.Instances)
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if err := n.StopInstance(soon(t), "probe", first); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it is gone", func() bool { return len(nodetest.Plugin(t, n, "probe").Instances) == 2 })
	if _, err := n.Spawn(stopped, "probe", 1); err == nil {
		t.Error("a start that was given up succeeded")
	}
	if _, err := n.Spawn(soon(t), "probe", 1); err != nil { // the failed one keeps no place
		t.Error(err)
	}
}

func TestOneInstanceIsLeftWhenAllAreStoppedAtOnce(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	if _, err := n.Spawn(soon(t), "probe", 3); err != nil {
		t.Fatal(err)
	}
	stopped := 0
	for _, i := range nodetest.Plugin(t, n, "probe").Instances {
		if n.StopInstance(soon(t), "probe", i.ID) == nil {
			stopped++
		}
	}
	if stopped != 3 {
		t.Errorf("%d of 4 may stop", stopped)
	}
	nodetest.Eventually(t, "one is left", func() bool { return len(nodetest.Plugin(t, n, "probe").Instances) == 1 })
	if p := nodetest.Plugin(t, n, "probe"); p.Restarts != 0 || p.Phase != node.Serving {
		t.Errorf("%s after %d restarts", p.Phase, p.Restarts)
	}
	nodetest.Must(t, n, "probe.echo", []byte("x"))
}

func TestDeathOfTheLastBesideOneThatIsStoppedIsNoticed(t *testing.T) {
	n := start(t, node.Options{StopTimeout: 300 * time.Millisecond, Restart: supervisor.BackoffOptions{Initial: time.Millisecond}}, "probe")
	second, err := n.Spawn(soon(t), "probe", 1)
	if err != nil {
		t.Fatal(err)
	}
	waiting(t, n)
	waiting(t, n) // one in each, so that the one to be stopped stays for a while
	if err := n.StopInstance(soon(t), "probe", second); err != nil {
		t.Fatal(err)
	}
	was := nodetest.Plugin(t, n, "probe")
	if len(was.Instances) != 2 {
		t.Fatalf("%d instances", len(was.Instances))
	}
	if err := syscall.Kill(was.Instances[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "a new one serves", func() bool {
		p := nodetest.Plugin(t, n, "probe")
		return p.Phase == node.Serving && len(p.Instances) == 1 && p.Instances[0].ID > second
	})
	nodetest.Must(t, n, "probe.echo", []byte("x"))
}

func TestPluginStopsInOrderThoughItsJobDoesNotEndInTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "farewell")
	n := ruled(t, node.Options{StopTimeout: 200 * time.Millisecond}, map[string]any{"settings": map[string]string{"farewell": file}})
	j := waiting(t, n)
	if err := n.Close(soon(t)); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "farewell" {
		t.Errorf("the plugin said %q, %v", b, err)
	}
	if o, err := j.Wait(soon(t)); err != nil || o.Status != compute.Status_canceled {
		t.Errorf("its job ended as %s, %v", o.Status, err)
	}
}

func TestCloseDoesNotOutlastItsContext(t *testing.T) {
	n := start(t, node.Options{StopTimeout: nodetest.Patience}, "probe")
	j, err := n.Engine().Submit(soon(t), dispatch.Request{Capability: "probe.deaf"})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-j.Done():
	default:
		t.Error("the job has no outcome")
	}
}

func TestPhaseFollowsTheLifeOfAPlugin(t *testing.T) {
	n := start(t, node.Options{Restart: supervisor.BackoffOptions{
		First: time.Second, Initial: time.Second, Max: time.Second, Random: func() float64 { return 1 },
	}}, "probe")
	p := nodetest.Plugin(t, n, "probe")
	if p.Phase != node.Serving || !p.RetryAt.IsZero() {
		t.Fatalf("%s, next start %v", p.Phase, p.RetryAt)
	}
	if err := syscall.Kill(p.Instances[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it waits to be started again", func() bool {
		p = nodetest.Plugin(t, n, "probe")
		if p.Phase == node.Serving && len(p.Instances) == 0 {
			t.Error("it serves without a process")
		}
		return p.Phase == node.BackingOff && !p.RetryAt.IsZero() && strings.Contains(p.Reason, "killed")
	})
	nodetest.Eventually(t, "it serves again", func() bool { p = nodetest.Plugin(t, n, "probe"); return p.Phase == node.Serving })
	if !p.RetryAt.IsZero() || p.Reason != "" || p.Restarts != 1 || len(p.Instances) != 1 {
		t.Errorf("next start %v, reason %q, %d restarts, %d instances", p.RetryAt, p.Reason, p.Restarts, len(p.Instances))
	}
}

func TestCloseWhileAPluginComesBackLeavesNothing(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
		n := start(t, node.Options{Restart: supervisor.BackoffOptions{Initial: time.Nanosecond}}, "probe")
		if err := syscall.Kill(nodetest.Plugin(t, n, "probe").Instances[0].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause) // to meet it at another step each time
		if err := n.Close(soon(t)); err != nil {
			t.Errorf("after %s: %v", pause, err)
		}
	}
}

func TestStatusMayBeAskedForWhilePluginsDie(t *testing.T) {
	n := start(t, node.Options{HeartbeatEvery: time.Millisecond, Restart: supervisor.BackoffOptions{Initial: time.Nanosecond, Limit: 1000}}, "probe")
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					n.Segment()
					n.Plugins()
				}
			}
		})
	}
	for range 5 {
		was := nodetest.Plugin(t, n, "probe").Instances[0]
		if err := syscall.Kill(was.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, "another serves", func() bool {
			p := nodetest.Plugin(t, n, "probe")
			return len(p.Instances) == 1 && p.Instances[0].ID != was.ID
		})
	}
	close(done)
	asking.Wait()
}

func TestLongFolderForSocketsIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	if n, err := node.Open(soon(t), node.Options{Home: t.TempDir(), Segment: 8 << 20}); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("error %v", err)
		if err == nil {
			_ = n.Close(soon(t))
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
