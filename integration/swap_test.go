package integration

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/node"
	"inos/integration/nodetest"
	"inos/plugins/sdk/wire"
)

// drop puts a version of a plugin into a folder as an operator would: under
// another name first, and then in one step. The bytes differ from those of every
// other version.
func drop(t *testing.T, dir, as, file string) {
	t.Helper()
	b, err := os.ReadFile(nodetest.Build(t, nodetest.TestPlugin))
	if err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, ".incoming-"+as)
	if err := os.WriteFile(temp, append(b, "\nconduct:"+file...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, as)); err != nil {
		t.Fatal(err)
	}
}

// swapping starts a node whose versions prove themselves quickly.
func swapping(t *testing.T, rule map[string]any, files ...string) (*node.Node, string) {
	t.Helper()
	dir := nodetest.Folder(t, nodetest.Build(t, nodetest.TestPlugin))
	for _, f := range files {
		drop(t, dir, f, f)
	}
	if rule == nil {
		rule = map[string]any{"probation": "1s"}
	}
	home := filepath.Join(t.TempDir(), "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"default": rule})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "policy.json"), string(text), 0o600)
	return nodetest.Start(t, node.Options{Home: home, PluginsDir: dir}), dir
}

// happened waits for an event about a version, or about a file while its version is
// not known, and returns it.
func happened(t *testing.T, n *node.Node, version string, step events.Step) events.Event {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), nodetest.Patience)
	defer stop()
	const file = "pine-v1.0.0"
	for last := uint64(0); ; {
		list, err := n.Events().Wait(ctx, last)
		if err != nil {
			all, _ := n.Events().Since(0)
			for _, e := range all {
				t.Logf("%s %s %s %s %v", e.Module, e.Version, e.Step, e.Took, e.Err)
			}
			t.Fatalf("it never happened that %s was %s", version, step)
		}
		for _, e := range list {
			last = e.ID
			if (e.Version == version || e.Version == "" && e.Module == file) && e.Step == step {
				return e
			}
		}
	}
}

// load keeps running jobs until it is stopped, and checks every answer.
type load struct {
	t    *testing.T
	n    *node.Node
	stop chan struct{}
	all  sync.WaitGroup
	done atomic.Int64
	saw  sync.Map // versions that answered
	fail atomic.Pointer[string]
	okay func(err error) bool
}

func underLoad(t *testing.T, n *node.Node, capability string, workers int) *load {
	l := &load{t: t, n: n, stop: make(chan struct{})}
	for range workers {
		l.all.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				out, _, err := nodetest.Run(t, n, dispatch.Request{Capability: capability, Params: wire.Params{{Name: "ms", Value: uint64(2)}}}, nil)
				if err != nil {
					text := err.Error()
					if l.okay == nil || !l.okay(err) {
						l.fail.CompareAndSwap(nil, &text)
					}
				} else {
					l.saw.Store(string(out), true)
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.all.Wait()
	if f := l.fail.Load(); f != nil {
		l.t.Errorf("a job under way failed: %s", *f)
	}
}

func TestNewPluginIsTakenIntoService(t *testing.T) {
	n, dir := swapping(t, nil)
	drop(t, dir, "pine", "pine-v1.0.0")
	nodetest.Eventually(t, "pine serves", func() bool { return len(n.Engine().Capabilities()) > 0 })
	if err := os.Remove(filepath.Join(dir, "pine")); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "pine is gone", func() bool { return len(n.Engine().Capabilities()) == 0 && len(n.Plugins()) == 0 })
}

func TestNewerVersionReplacesTheOldUnderLoad(t *testing.T) {
	for _, kind := range []string{"", "-stateless", "-exclusive"} {
		t.Run("kind"+kind, func(t *testing.T) {
			n, dir := swapping(t, map[string]any{"probation": "300ms", "canary": map[string]any{"percent": 20, "for": "200ms"}}, "pine-v1.0.0"+kind)
			for _, c := range []string{"pine.work", "pine.chore"} {
				l := underLoad(t, n, c, 4)
				defer l.end()
			}
			for _, v := range []string{"2.0.0", "3.0.0"} {
				drop(t, dir, "pine-v"+v+kind, "pine-v"+v+kind)
				happened(t, n, v, events.Flipped)
				nodetest.Eventually(t, v+" answers", func() bool {
					out, _, err := nodetest.Run(t, n, dispatch.Request{Capability: "pine.work"}, nil)
					return err == nil && string(out) == v
				})
				happened(t, n, v, events.Probation)
			}
			nodetest.Eventually(t, "the old ones are gone", func() bool { return len(nodetest.Plugin(t, n, "pine").Instances) == 1 })
		})
	}
}

func TestBadVersionsLeaveTheOldOneServing(t *testing.T) {
	for _, c := range []struct {
		file string // after pine-v2.0.0
		step events.Step
		says string
	}{
		{file: "-initcrash", step: events.Refused, says: "crashed"},
		{file: "-inithang", step: events.Refused, says: "within"},
		{file: "-oldabi", step: events.Refused, says: "ABI"},
		{file: "-oldprotocol", step: events.Refused, says: "protocol"},
		{file: "-failingtest", step: events.Refused, says: "self-test"},
		{file: "-needy", step: events.Refused, says: "nobody"},
		{file: "-circular", step: events.Refused, says: "cycle"},
		{file: "-changed", step: events.Refused, says: "probe.echo"},
		{file: "-alien", step: events.Refused, says: "schema"},
		{file: "-unwell", step: events.RolledBk, says: "not well"},
		{file: "-failing", step: events.RolledBk, says: "jobs failed"},
		{file: "-crash", step: events.RolledBk, says: "does not last"},
	} {
		t.Run(strings.TrimPrefix(c.file, "-"), func(t *testing.T) {
			n, dir := swapping(t, map[string]any{"probation": "20s"}, "pine-v1.0.0", "probe")
			drop(t, dir, "dependent", "dependent")
			nodetest.Eventually(t, "all serve", func() bool {
				serving := 0
				for _, p := range n.Plugins() {
					if p.Phase == node.Serving {
						serving++
					}
				}
				return serving == 3
			})
			l := underLoad(t, n, "pine.work", 4)
			l.okay = func(err error) bool {
				return c.step == events.RolledBk && strings.Contains(err.Error(), "always fails")
			}
			nodetest.Must(t, n, "pine.tally", nil)
			drop(t, dir, "pine-v1.0.0", "pine-v2.0.0"+c.file) // under the name of the old file
			happened(t, n, "2.0.0", c.step)
			l.end()
			p := nodetest.Plugin(t, n, "pine")
			if p.Version != "1.0.0" || p.Phase != node.Serving {
				t.Errorf("%s %s serves", p.Version, p.Phase)
			}
			if out := nodetest.Must(t, n, "pine.work", nil); string(out) != "1.0.0" {
				t.Errorf("%s answers", out)
			}
			if out := nodetest.Must(t, n, "pine.tally", nil); string(out) != "2" {
				t.Errorf("the state is at %s", out)
			}
			found := false
			for _, p := range n.Plugins() {
				if p.Phase == node.Refused {
					found = true
					if !strings.Contains(p.Reason, c.says) {
						t.Errorf("the reason %q does not say %q", p.Reason, c.says)
					}
				}
			}
			if !found {
				t.Error("the new file is not listed as refused")
			}
		})
	}
}

func TestStateIsAdoptedInANewSchemaAndGivenBackByARollback(t *testing.T) {
	n, dir := swapping(t, map[string]any{"probation": "20s"}, "pine-v1.0.0")
	for _, want := range []string{"1", "2"} {
		if got := nodetest.Must(t, n, "pine.tally", nil); string(got) != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	drop(t, dir, "pine-v2.0.0-schema2", "pine-v2.0.0-schema2")
	happened(t, n, "2.0.0", events.Flipped)
	if got := nodetest.Must(t, n, "pine.tally", nil); string(got) != "3" {
		t.Errorf("after the swap: %s", got)
	}
	if err := n.Rollback(soon(t), "pine"); err != nil {
		t.Fatal(err)
	}
	if got := nodetest.Must(t, n, "pine.tally", nil); string(got) != "3" {
		t.Errorf("after the rollback: %s; the old schema's block is as it was at the swap", got)
	}
	if s := n.Segment().States; len(s) != 1 || s[0].Schema != 1 {
		t.Errorf("state blocks %+v", s)
	}
}

func TestOperatorSwapsPinsAndDrains(t *testing.T) {
	n, dir := swapping(t, nil, "pine-v1.0.0")
	drop(t, dir, "pine-v2.0.0", "pine-v2.0.0")
	happened(t, n, "2.0.0", events.Probation)
	if err := n.Swap(soon(t), "pine", "1.0.0"); err != nil {
		t.Fatal(err)
	}
	if p := nodetest.Plugin(t, n, "pine"); p.Version != "1.0.0" || !p.Pinned {
		t.Errorf("%s, pinned %v", p.Version, p.Pinned)
	}
	drop(t, dir, "pine-v3.0.0", "pine-v3.0.0")
	happened(t, n, "3.0.0", events.Launched)
	if p := nodetest.Plugin(t, n, "pine"); p.Version != "1.0.0" {
		t.Errorf("%s serves in spite of the pin", p.Version)
	}
	if err := n.Unpin(soon(t), "pine"); err != nil {
		t.Fatal(err)
	}
	happened(t, n, "3.0.0", events.Probation)

	if err := n.Drain(soon(t), "pine"); err != nil {
		t.Fatal(err)
	}
	j, err := n.Engine().Submit(soon(t), dispatch.Request{Capability: "pine.work"})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if i := j.Info(); i.State != "waiting" {
		t.Errorf("a job of a drained module is %s", i.State)
	}
	if err := n.Undrain(soon(t), "pine"); err != nil {
		t.Fatal(err)
	}
	if out, _, err := nodetest.Collect(soon(t), j); err != nil || string(out) != "3.0.0" {
		t.Errorf("%s, %v", out, err)
	}
	h, err := n.History("pine")
	if err != nil || len(h) != 3 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestRestartKeepsWhatWasRolledBackOut(t *testing.T) {
	dir := nodetest.Folder(t, nodetest.Build(t, nodetest.TestPlugin))
	home := filepath.Join(t.TempDir(), "home")
	o := node.Options{Home: home, PluginsDir: dir}
	drop(t, dir, "pine", "pine-v1.0.0")
	n, err := node.Open(soon(t), o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(soon(t)) // a second time does nothing
	drop(t, dir, "pine", "pine-v2.0.0-unwell")
	happened(t, n, "2.0.0", events.RolledBk)
	if err := n.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	n = nodetest.Start(t, o)
	if p := nodetest.Plugin(t, n, "pine"); p.Version != "1.0.0" || p.Phase != node.Serving {
		t.Errorf("%s %s serves after a restart", p.Version, p.Phase)
	}
	for _, p := range n.Plugins() {
		if p.Version == "2.0.0" && (p.Phase != node.Refused || !strings.Contains(p.Reason, "not well")) {
			t.Errorf("the version that was rolled back is %s: %s", p.Phase, p.Reason)
		}
	}
}

func TestPinOnAVersionThatIsRolledBackGoes(t *testing.T) {
	n, dir := swapping(t, map[string]any{"probation": "20s"}, "pine-v2.0.0")
	drop(t, dir, "pine-v1.0.0-unwell", "pine-v1.0.0-unwell")
	happened(t, n, "1.0.0", events.Launched)
	nodetest.Eventually(t, "the older one stands by", func() bool { return n.Swap(soon(t), "pine", "1.0.0") == nil })
	happened(t, n, "1.0.0", events.RolledBk)
	nodetest.Eventually(t, "the better one serves, and nothing is pinned", func() bool {
		p := nodetest.Plugin(t, n, "pine")
		return p.Version == "2.0.0" && !p.Pinned && p.Exchanging == ""
	})
	if h, err := n.History("pine"); err != nil || h[0].Version != "2.0.0" || h[1].Outcome != "rolled back" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestSwapThatIsGivenUpRefusesNobody(t *testing.T) {
	n, dir := swapping(t, nil, "pine-v2.0.0")
	drop(t, dir, "pine-v1.0.0", "pine-v1.0.0")
	happened(t, n, "1.0.0", events.Launched)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	nodetest.Eventually(t, "the older one is known", func() bool {
		err := n.Swap(gone, "pine", "1.0.0")
		return err != nil && strings.Contains(err.Error(), "canceled")
	})
	for _, p := range n.Plugins() {
		if p.Phase == node.Refused {
			t.Errorf("%s is refused: %s", p.Version, p.Reason)
		}
	}
}
