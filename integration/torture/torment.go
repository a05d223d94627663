package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// torment does to the node all that the campaign is for: the cards of a shuffled
// deck one after the other, and beside them kills of plugin processes at random
// instants. The error says that it cannot go on.
func (c *campaign) torment(ctx context.Context) error {
	r := c.random()
	deck := c.deck(r)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var killer sync.WaitGroup
	killer.Go(func() {
		if err := c.killer(ctx, len(deck)); err != nil {
			stop(err)
		}
	})
	for _, card := range deck {
		if err := card(ctx, r); err != nil {
			stop(err)
			break
		}
		c.dealt.Add(1)
		pause(ctx, time.Duration(r.Int64N(int64(200*time.Millisecond))))
	}
	killer.Wait()
	return context.Cause(ctx)
}

// deck deals swaps, bad versions and kills of the node. None of the latter is among
// the last, so that what a node leaks has some time to show.
func (c *campaign) deck(r *rand.Rand) []func(context.Context, *rand.Rand) error {
	var deck []func(context.Context, *rand.Rand) error
	for n := range c.o.swaps {
		deck = append(deck, func(ctx context.Context, r *rand.Rand) error { return c.swap(ctx, r, n%2 == 0) })
	}
	for n := range c.o.bad {
		kind := spoils[n%len(spoils)]
		deck = append(deck, func(ctx context.Context, r *rand.Rand) error { return c.spoil(ctx, r, kind, r.IntN(3) > 0) })
	}
	r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	for range c.o.hostKills {
		at := r.IntN(len(deck)*4/5 + 1)
		deck = append(deck[:at:at], append([]func(context.Context, *rand.Rand) error{c.killHost}, deck[at:]...)...)
	}
	return deck
}
