// Command crash measures what a job that ends its plugin costs the others: jobs are
// run for a while, then for as long again while one such job is submitted, which has
// to be quarantined after at most three deaths. Both are done in turn, with a new
// input each time, and every answer is checked.
//
//	make bench-crash
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inos/host/dispatch"
	"inos/host/node"
	"inos/integration/bench/report"
	"inos/protocols/compute/v1"
)

func main() {
	rounds := flag.Int("rounds", 3, "rounds of one quiet and one poisoned window")
	window := flag.Duration("window", 10*time.Second, "length of a window")
	out := flag.String("o", "docs/bench", "folder of the report")
	flag.Parse()
	if err := run(*rounds, *window, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-crash:", err)
		os.Exit(1)
	}
}

// The modules: one is poisoned, the other stands beside it.
const (
	poisoned  = "poisoned"
	bystander = "bystander"
)

func run(rounds int, window time.Duration, out string) (err error) {
	dir, err := os.MkdirTemp("", "inos-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	folder := filepath.Join(dir, "plugins")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	for _, name := range []string{poisoned, bystander} {
		text, err := exec.Command("go", "build", "-o", filepath.Join(folder, name), "inos/integration/testplugin").CombinedOutput()
		if err != nil {
			return fmt.Errorf("building the plugin: %w\n%s", err, text)
		}
	}
	ctx := context.Background()
	n, err := node.Open(ctx, node.Options{Home: filepath.Join(dir, "home"), PluginsDir: folder, StartTimeout: time.Minute, Trust: []string{}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close(ctx)) }()

	rate := map[string][2][]float64{}
	for round := range rounds {
		for class := range 2 {
			got, err := measure(ctx, n, window, class == 1, round)
			if err != nil {
				return err
			}
			for module, jobs := range got {
				r := rate[module]
				r[class] = append(r[class], jobs)
				rate[module] = r
			}
			fmt.Fprintf(os.Stderr, "round %d of %d, poison %v: %.0f and %.0f jobs a second\n", round+1, rounds, class == 1, got[poisoned], got[bystander])
		}
	}
	r := report.New("crash", "github.com/hashicorp/go-plugin")
	for _, m := range []struct{ module, work string }{
		{bystander, "jobs of another plugin, while one is poisoned"},
		{poisoned, fmt.Sprintf("other jobs of the poisoned plugin, over %s", window)},
	} {
		r.AtLeast(0.95, report.Row{
			Work: m.work, Unit: "jobs/s", Against: "the same without poison",
			Ours: report.Quantile(rate[m.module][1], 0.5), Peer: report.Quantile(rate[m.module][0], 0.5),
		})
	}
	return r.Write(os.Stdout, out)
}

// measure runs jobs of both modules for a time, and counts them.
func measure(ctx context.Context, n *node.Node, window time.Duration, poison bool, round int) (map[string]float64, error) {
	ctx, stop := context.WithTimeout(ctx, window)
	defer stop()
	var all sync.WaitGroup
	var count [2]atomic.Int64
	errs := make(chan error, 16)
	for w := range 8 {
		all.Go(func() {
			module := [2]string{poisoned, bystander}[w%2]
			for k := 0; ctx.Err() == nil; k++ {
				if err := echo(n, module, fmt.Sprintf("%d %d %d", round, w, k)); err != nil {
					errs <- err
					return
				}
				count[w%2].Add(1)
			}
		})
	}
	if poison {
		all.Go(func() {
			o, err := run1(n, dispatch.Request{Capability: poisoned + ".poison"}, fmt.Sprint("poison ", round))
			if o.Status != compute.Status_quarantined || o.Attempts > 3 {
				errs <- fmt.Errorf("the poison ended as %v after %d starts: %w", o.Status, o.Attempts, err)
			}
		})
	}
	from := time.Now()
	all.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	took := time.Since(from).Seconds()
	return map[string]float64{poisoned: float64(count[0].Load()) / took, bystander: float64(count[1].Load()) / took}, nil
}

// echo has a module give something back.
func echo(n *node.Node, module, text string) error {
	_, err := run1(n, dispatch.Request{Capability: module + ".echo"}, text)
	return err
}

// run1 runs one job and checks that its output is its input.
func run1(n *node.Node, r dispatch.Request, text string) (dispatch.Outcome, error) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	r.Input = dispatch.Input{Reader: strings.NewReader(text), Size: int64(len(text))}
	j, err := n.Engine().Submit(ctx, r)
	if err != nil {
		return dispatch.Outcome{}, err
	}
	defer j.Close()
	p, err := j.Next(ctx)
	if err == nil {
		if string(p.Bytes()) != text {
			err = fmt.Errorf("%s answered %q to %q", r.Capability, p.Bytes(), text)
		}
		p.Release()
	}
	o, late := j.Wait(ctx)
	return o, errors.Join(err, late)
}
