package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"inos/host/dispatch"
	"inos/host/node"
	"inos/host/supervisor"
	"inos/integration/nodetest"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

func TestMain(m *testing.M) {
	code := nodetest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// start opens a node that serves the test plugin under the given names.
func start(t *testing.T, o node.Options, names ...string) *node.Node {
	t.Helper()
	o.PluginsDir = nodetest.Folder(t, nodetest.Build(t, nodetest.TestPlugin), names...)
	if o.Home != "" { // it may have a policy that lets in only what is signed
		nodetest.Sign(t, o.Home, o.PluginsDir)
	}
	return nodetest.Start(t, o)
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestJobGivesBackWhatThePluginMade(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	for _, size := range []int{0, 1, 64, 255, 256, 257, 4096, 4097, 1<<20 + 3} {
		in := random(size)
		if out := nodetest.Must(t, n, "probe.echo", in); !bytes.Equal(out, in) {
			t.Errorf("%d bytes: echo gave %d other bytes", size, len(out))
		}
		sum := sha256.Sum256(in)
		if out := nodetest.Must(t, n, "probe.sum", in); !bytes.Equal(out, sum[:]) {
			t.Errorf("%d bytes: the sum is wrong", size)
		}
		inverted := nodetest.Must(t, n, "probe.invert", in)
		for i := range in {
			if inverted[i] != ^in[i] {
				t.Fatalf("%d bytes: byte %d is not inverted", size, i)
			}
		}
	}
}

func TestStreamLargerThanTheArenaPassesThrough(t *testing.T) {
	n := start(t, node.Options{Segment: 8 << 20}, "probe")
	const size = 64 << 20
	want := sha256.New()
	in := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{2}), size), want)
	ctx, stop := context.WithTimeout(t.Context(), nodetest.Patience)
	defer stop()
	j, err := n.Engine().Submit(ctx, dispatch.Request{Capability: "probe.invert", Input: dispatch.Input{Reader: in, Size: -1}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got, total := sha256.New(), 0
	for {
		p, err := j.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(p.Bytes()))
		for i, b := range p.Bytes() {
			back[i] = ^b
		}
		p.Release()
		got.Write(back)
		total += len(back)
	}
	if total != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d of %d bytes came through, or others", total, size)
	}
}

func TestOutcomesReachTheCaller(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	for _, c := range []struct {
		capability string
		params     wire.Params
		budget     uint64
		input      int
		status     compute.Status
		is         error
		says       string
	}{
		{capability: "probe.fail", status: compute.Status_failed, is: wire.ErrNotFound, says: "look elsewhere"},
		{capability: "probe.plain", status: compute.Status_failed, is: wire.ErrInternal, says: "something went wrong"},
		{capability: "probe.panic", status: compute.Status_panicked, is: wire.ErrInternal, says: "the test asked for it"},
		{capability: "probe.large", status: compute.Status_failed, is: wire.ErrResourceExhausted, says: "64 bytes"},
		{capability: "probe.charge", params: wire.Params{{Name: "amount", Value: uint64(5000)}}, budget: 1000, status: compute.Status_budgetExceeded, is: wire.ErrBudgetExceeded, says: "--budget"},
		{capability: "probe.charge", params: wire.Params{{Name: "amount", Value: uint64(50)}}, budget: 1000, status: compute.Status_success},
		{capability: "probe.send", status: compute.Status_failed, is: wire.ErrPermissionDenied, says: "sendMessage"},
		{capability: "probe.spawn", status: compute.Status_failed, is: wire.ErrPermissionDenied, says: "spawn"},
	} {
		t.Run(c.capability, func(t *testing.T) {
			_, o, err := nodetest.Run(t, n, dispatch.Request{Capability: c.capability, Params: c.params, Budget: c.budget}, nil)
			if o.Status != c.status {
				t.Errorf("status %s, want %s (%v)", o.Status, c.status, err)
			}
			if c.is == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q is no %v that says %q", err, c.is, c.says)
			}
		})
	}
}

func TestRefusalsNameWhatIsAccepted(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	for _, c := range []struct {
		name string
		r    dispatch.Request
		is   error
		says string
	}{
		{"unknown capability", dispatch.Request{Capability: "probe.fly"}, wire.ErrNotFound, "probe.echo"},
		{"unknown parameter", dispatch.Request{Capability: "probe.params", Params: wire.Params{{Name: "colour", Value: "red"}}}, wire.ErrInvalidArgument, "choice"},
		{"wrong kind", dispatch.Request{Capability: "probe.params", Params: wire.Params{{Name: "int", Value: "many"}}}, wire.ErrInvalidArgument, "int"},
		{"no choice", dispatch.Request{Capability: "probe.params", Params: wire.Params{{Name: "choice", Value: "c"}}}, wire.ErrInvalidArgument, "a or b"},
		{"missing", dispatch.Request{Capability: "probe.make"}, wire.ErrInvalidArgument, "bytes"},
		{"passed deadline", dispatch.Request{Capability: "probe.echo", Deadline: time.Now().Add(-time.Second)}, wire.ErrDeadlineExceeded, "future"},
		{"budget below the base price", dispatch.Request{Capability: "probe.echo", Budget: 1}, wire.ErrBudgetExceeded, "--budget"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := nodetest.Run(t, n, c.r, nil)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v is no %v that says %q", err, c.is, c.says)
			}
		})
	}
}

func TestParametersArriveTyped(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	out := nodetest.Must(t, n, "probe.params", nil,
		wire.Param{Name: "text", Value: "grün"}, wire.Param{Name: "flag", Value: true}, wire.Param{Name: "int", Value: int64(-7)},
		wire.Param{Name: "uint", Value: uint64(1 << 63)}, wire.Param{Name: "float", Value: 0.5}, wire.Param{Name: "data", Value: []byte{0, 255}})
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"text": "grün", "flag": true, "int": -7.0, "uint": 9223372036854775808.0, "float": 0.5, "data": "AP8=", "choice": "a"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
}

func TestCancelledAndLateJobsEnd(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	ctx, stop := context.WithTimeout(t.Context(), nodetest.Patience)
	defer stop()
	j, err := n.Engine().Submit(ctx, dispatch.Request{Capability: "probe.wait"})
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the job reports progress", func() bool { return j.Info().Done == 1 && j.Info().Total == 2 })
	j.Cancel()
	if o, err := j.Wait(ctx); err != nil || o.Status != compute.Status_canceled {
		t.Errorf("cancelled job ended as %v, %v", o.Status, err)
	}
	j.Close()
	_, o, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.wait", Deadline: time.Now().Add(50 * time.Millisecond)}, nil)
	if o.Status != compute.Status_timeout || !errors.Is(err, wire.ErrDeadlineExceeded) {
		t.Errorf("late job ended as %v, %v", o.Status, err)
	}
	nodetest.Eventually(t, "the plugin has let go of both", func() bool {
		return nodetest.Plugin(t, n, "probe").Instances[0].Running == 0
	})
}

func TestDeathOfAPluginEndsEachJobInOneWay(t *testing.T) {
	n := start(t, node.Options{Restart: supervisor.BackoffOptions{Initial: time.Millisecond}}, "probe")
	t.Run("idempotent is retried", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "died")
		out, o, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.once", Params: wire.Params{{Name: "file", Value: file}}}, nil)
		if err != nil || string(out) != "survived" || o.Attempts != 2 {
			t.Errorf("%q after %d attempts, %v", out, o.Attempts, err)
		}
	})
	t.Run("other is not", func(t *testing.T) {
		_, o, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.crash"}, nil)
		if o.Status != compute.Status_outcomeUnknown || !errors.Is(err, wire.ErrOutcomeUnknown) || o.Attempts != 1 {
			t.Errorf("%s after %d attempts: %v", o.Status, o.Attempts, err)
		}
	})
	t.Run("poison is quarantined", func(t *testing.T) {
		_, o, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.poison"}, nil)
		if o.Status != compute.Status_quarantined || !errors.Is(err, wire.ErrQuarantined) || o.Attempts != 3 {
			t.Errorf("%s after %d attempts: %v", o.Status, o.Attempts, err)
		}
	})
	if out := nodetest.Must(t, n, "probe.echo", []byte("still here")); string(out) != "still here" {
		t.Errorf("afterwards echo gives %q", out)
	}
}

func TestStateOutlivesTheProcess(t *testing.T) {
	n := start(t, node.Options{}, "probe")
	for i, want := range []string{"1", "2", "3"} {
		if out := nodetest.Must(t, n, "probe.count", nil); string(out) != want {
			t.Fatalf("call %d counted %s", i, out)
		}
		if _, _, err := nodetest.Run(t, n, dispatch.Request{Capability: "probe.crash"}, nil); err == nil {
			t.Fatal("the plugin did not crash")
		}
	}
}

func TestHandlerThatIgnoresCancellationIsEnded(t *testing.T) {
	n := start(t, node.Options{Dispatch: dispatch.Options{CancelGrace: 50 * time.Millisecond}}, "probe")
	pid := nodetest.Plugin(t, n, "probe").Instances[0].PID
	_, o, _ := nodetest.Run(t, n, dispatch.Request{Capability: "probe.deaf", Deadline: time.Now().Add(20 * time.Millisecond)}, nil)
	if o.Status != compute.Status_timeout {
		t.Errorf("ended as %s", o.Status)
	}
	nodetest.Eventually(t, "another process serves", func() bool {
		p := nodetest.Plugin(t, n, "probe")
		return p.Phase == node.Serving && len(p.Instances) == 1 && p.Instances[0].PID != pid
	})
	nodetest.Must(t, n, "probe.echo", nil)
}
