// Command torture breaks a running node in every way it knows, under load, and
// checks what is left: it starts the real inos with real plugin processes, gives it
// jobs over its API, kills and stops plugins, drops good and bad versions into the
// plugins folder and kills the node itself, and at the end compares what the node
// acknowledged with what it did.
//
// It drives the node from outside alone, through the command, the API, the plugins
// folder and signals, and computes every answer by itself. The last line it prints
// is the verdict; the exit code is 0 only when nothing was lost, doubled, wrong or
// left behind. What happened and why is told on standard error, and the run's folder
// stays when something was wrong.
//
// Run it from within the repository: it builds what it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options of a campaign: how many faults of each kind, and where the randomness
// comes from.
type options struct {
	kills, swaps, hostKills, bad int

	seed  uint64
	slack int    // how many times as long the node may take for what is bounded, 0 for 1
	dir   string // folder of the run, empty for a new one
	keep  bool   // the folder stays even when all went well
}

func main() {
	var o options
	flag.IntVar(&o.kills, "kills", 500, "plugin processes to kill or stop")
	flag.IntVar(&o.swaps, "swaps", 200, "versions to bring into service")
	flag.IntVar(&o.hostKills, "hostkills", 50, "times to kill the node")
	flag.IntVar(&o.bad, "bad", 100, "bad versions to drop into the folder")
	flag.Uint64Var(&o.seed, "seed", 0, "of the randomness, 0 for a new one")
	flag.StringVar(&o.dir, "dir", "", "folder of the run, which must not exist (default a new one)")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder of the run")
	flag.Parse()
	if flag.NArg() > 0 || min(o.kills, o.swaps, o.hostKills, o.bad) < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := run(ctx, o, newProgress(os.Stderr, 5*time.Second))
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		if !errors.Is(err, errBroken) {
			os.Exit(1)
		}
	}
	fmt.Println(v)
	if err != nil || !v.clean() {
		os.Exit(1)
	}
}

// run makes one campaign. The error says that it could not be made to its end, not
// that something was found.
func run(ctx context.Context, o options, log *progress) (verdict, error) {
	for o.seed == 0 {
		o.seed = rand.Uint64()
	}
	log.say("seed %d: %d kills, %d swaps, %d kills of the node, %d bad versions", o.seed, o.kills, o.swaps, o.hostKills, o.bad)
	c, err := newCampaign(o, log)
	if err != nil {
		return verdict{}, err
	}
	defer c.close()
	return c.run(ctx)
}

// errBroken says that the campaign ended early, with a verdict on what it did.
var errBroken = errors.New("the campaign could not go on")
