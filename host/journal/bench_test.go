package journal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkDurableSubmit takes jobs in, each on disk before the next of the same
// caller; alone, and 64 callers at a time, who share transactions.
func BenchmarkDurableSubmit(b *testing.B) {
	for _, callers := range []int{1, 64} {
		name := fmt.Sprint(callers)
		if callers == 1 {
			name = "alone"
		}
		b.Run(name, func(b *testing.B) {
			h := newTheatre(b)
			h.attach(func(*actor, task) {}, once)
			j, err := Open(b.TempDir(), Options{Engine: h.engine, MaxJobs: b.N + 1, Parallel: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer h.crash(j)
			h.submit(j, ask(once, nil)) // keeps the lane: only submissions are measured
			in := bytesOf(100)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := j.Submit(context.Background(), ask(once, in)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			s := j.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(float64(s.Commits)/float64(s.Transactions), "commits/sync")
		})
	}
}
