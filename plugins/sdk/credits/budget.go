// Package credits keeps count of what a job costs: a Budget that refuses a charge
// it cannot pay, and a Tracker that turns bytes and time into a price. All
// amounts are micro-credits.
//
// Host and plugins use it. It keeps numbers only: it moves no money, keeps no
// ledger and reads no clock but the one it is given.
package credits

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
)

// ErrBudgetExceeded says that a charge was refused because too little was left.
var ErrBudgetExceeded = errors.New("budget exceeded")

// Budget is an amount that may be spent and how much of it was. It is safe for
// concurrent use; make it with NewBudget.
type Budget struct {
	limit uint64
	spent atomic.Uint64
}

// NewBudget returns a budget of limit micro-credits. As on the wire, 0 stands for
// no bound.
func NewBudget(limit uint64) *Budget {
	if limit == 0 {
		limit = math.MaxUint64
	}
	return &Budget{limit: limit}
}

// Charge spends n micro-credits, or returns ErrBudgetExceeded and spends nothing.
// Of charges made at once exactly those are taken that fit, in some order.
func (b *Budget) Charge(n uint64) error {
	for {
		spent := b.spent.Load()
		if left := b.limit - spent; n > left {
			return fmt.Errorf("%w: a charge of %d micro-credits with %d of %d left", ErrBudgetExceeded, n, left, b.limit)
		}
		// Only the sum that was checked may be stored: another charge in between
		// means checking again.
		if b.spent.CompareAndSwap(spent, spent+n) {
			return nil
		}
	}
}

// Check returns ErrBudgetExceeded if a charge of n would be refused now.
func (b *Budget) Check(n uint64) error {
	if left := b.Left(); n > left {
		return fmt.Errorf("%w: %d micro-credits are needed and %d of %d are left", ErrBudgetExceeded, n, left, b.limit)
	}
	return nil
}

// Limit returns the whole amount; math.MaxUint64 when there is no bound.
func (b *Budget) Limit() uint64 { return b.limit }

// Spent returns the sum of all charges. It never exceeds Limit.
func (b *Budget) Spent() uint64 { return b.spent.Load() }

// Left returns what may still be spent.
func (b *Budget) Left() uint64 { return b.limit - b.spent.Load() }
