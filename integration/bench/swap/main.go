// Command swap measures what the exchange of a plugin costs those who use it: how
// long it takes with 1 GiB of state and with none, and by how much the jobs of the
// time wait longer. Both are measured in one run, in turn; every answer is checked.
//
//	make bench-swap
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/node"
	"inos/integration/bench/report"
	"inos/plugins/sdk/wire"
)

func main() {
	rounds := flag.Int("rounds", 10, "swaps of each kind")
	out := flag.String("o", "docs/bench", "folder of the report")
	flag.BoolVar(&steps, "steps", false, "print every step")
	flag.Parse()
	if err := run(*rounds, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-swap:", err)
		os.Exit(1)
	}
}

// steps says whether every step is printed.
var steps bool

// Capabilities of the two modules: one holds 1 GiB, the other next to nothing.
const (
	large = "large"
	small = "small"
)

func run(rounds int, out string) (err error) {
	dir, err := os.MkdirTemp("", "inos-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "testplugin")
	if text, err := exec.Command("go", "build", "-o", binary, "inos/integration/testplugin").CombinedOutput(); err != nil {
		return fmt.Errorf("building the plugin: %w\n%s", err, text)
	}
	home, folder := filepath.Join(dir, "home"), filepath.Join(dir, "plugins")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(folder, 0o700)); err != nil {
		return err
	}
	// Room for both halves of the state, and for jobs.
	policy := fmt.Sprintf(`{"default": {"probation": "0s", "arena_bytes": %d}, "plugins": {%q: {"arena_bytes": %d}}}`, 16<<20, large, 2<<30+64<<20)
	if err := os.WriteFile(filepath.Join(home, "policy.json"), []byte(policy), 0o600); err != nil {
		return err
	}
	b := &bench{folder: folder, binary: binary}
	for _, m := range []string{large, small} {
		if err := b.drop(m, 0); err != nil {
			return err
		}
	}
	ctx := context.Background()
	b.node, err = node.Open(ctx, node.Options{
		Home: home, PluginsDir: folder, Segment: 2<<30 + 256<<20, StartTimeout: time.Minute, Trust: []string{},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.node.Close(ctx)) }()
	return b.measure(ctx, rounds, out)
}

type bench struct {
	node           *node.Node
	folder, binary string

	mu      sync.Mutex
	latency [2][]float64 // ms: of jobs apart from swaps, and of those during one
	during  bool
	wrong   error
}

// drop puts a version of a module into the folder.
func (b *bench) drop(module string, version int) error {
	text, err := os.ReadFile(b.binary)
	if err != nil {
		return err
	}
	conduct := ""
	if module == large {
		conduct = "-huge"
	}
	temp := filepath.Join(b.folder, ".incoming")
	name := fmt.Sprintf("%s-v1.%d.0%s", module, version, conduct)
	if err := os.WriteFile(temp, append(text, "\nconduct:"+name...), 0o700); err != nil { //nolint:gosec // a program
		return err
	}
	return os.Rename(temp, filepath.Join(b.folder, module))
}

// measure swaps both modules in turn, under load.
func (b *bench) measure(ctx context.Context, rounds int, out string) error {
	load, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { b.load(load) })
	}
	took := map[string][]float64{}
	var err error
	for round := 1; round <= rounds && err == nil; round++ {
		for _, m := range []string{small, large} {
			var d time.Duration
			if d, err = b.swap(ctx, m, round); err != nil {
				break
			}
			took[m] = append(took[m], float64(d)/1e6)
			time.Sleep(time.Second) // of jobs apart from swaps
			fmt.Fprintf(os.Stderr, "round %d of %d: %s in %s\n", round, rounds, m, d.Round(time.Microsecond))
		}
	}
	stop()
	all.Wait()
	if err = errors.Join(err, b.wrong); err != nil {
		return err
	}
	r := report.New("swap", "github.com/hashicorp/go-plugin")
	r.AtMost(1.2, report.Row{
		Work: "swap of a plugin that holds 1 GiB of state", Unit: "ms", Against: "one that holds 64 bytes",
		Ours: report.Quantile(took[large], 0.5), Peer: report.Quantile(took[small], 0.5),
	})
	r.Within(50, report.Row{
		Work: "p99 latency of small jobs during a swap, 4 callers", Unit: "ms", Against: "the same jobs apart from swaps",
		Ours: report.Quantile(b.latency[1], 0.99), Peer: report.Quantile(b.latency[0], 0.99),
	})
	return r.Write(os.Stdout, out)
}

// swap drops a version and waits until it serves. It returns how long that took
// from the moment that the binary was admitted.
func (b *bench) swap(ctx context.Context, module string, round int) (time.Duration, error) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	_, last := b.node.Events().Since(0)
	b.set(true)
	defer b.set(false)
	if err := b.drop(module, round); err != nil {
		return 0, err
	}
	version := fmt.Sprintf("1.%d.0", round)
	var from time.Time
	for {
		list, err := b.node.Events().Wait(ctx, last)
		if err != nil {
			return 0, fmt.Errorf("%s %s did not come: %w", module, version, err)
		}
		for _, e := range list {
			last = e.ID
			if steps {
				fmt.Fprintf(os.Stderr, "  %s %s %s %s\n", e.Module, e.Version, e.Step, e.Took)
			}
			if e.Module != module || e.Version != version && e.Step != events.Refused {
				continue
			}
			switch e.Step {
			case events.Launched:
				from = e.Time.Add(-e.Took)
			case events.Flipped:
				if e.Err == nil {
					return e.Time.Sub(from), nil
				}
			case events.Refused, events.RolledBk:
				return 0, fmt.Errorf("%s %s: %w", module, version, e.Err)
			}
		}
	}
}

func (b *bench) set(during bool) {
	b.mu.Lock()
	b.during = during
	b.mu.Unlock()
}

// load runs small jobs of both modules, one after the other, and checks them.
func (b *bench) load(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		module := [2]string{small, large}[n%2]
		b.mu.Lock()
		during := b.during
		b.mu.Unlock()
		from := time.Now()
		err := b.job(module)
		ms := float64(time.Since(from)) / 1e6
		b.mu.Lock()
		if err != nil {
			b.wrong = errors.Join(b.wrong, err)
		}
		class := 0
		if during || b.during {
			class = 1
		}
		b.latency[class] = append(b.latency[class], ms)
		bad := b.wrong != nil
		b.mu.Unlock()
		if bad {
			return
		}
		time.Sleep(time.Millisecond) // a load, not a flood: two CPUs are shared with the swap
	}
}

// job has a module give its input back.
func (b *bench) job(module string) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	j, err := b.node.Engine().Submit(ctx, dispatch.Request{Capability: module + ".work", Params: wire.Params{{Name: "ms", Value: uint64(0)}}})
	if err != nil {
		return err
	}
	defer j.Close()
	p, err := j.Next(ctx)
	if err != nil {
		return err
	}
	answer := string(p.Bytes())
	p.Release()
	if len(answer) < len("1.0.0") || answer[:2] != "1." {
		return fmt.Errorf("%s answered %q", module, answer)
	}
	if _, err := j.Next(ctx); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one answer: %w", module, err)
	}
	return nil
}
