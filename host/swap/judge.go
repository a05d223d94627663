package swap

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Judge says when a new generation has to go. The zero value of each field means
// its default.
type Judge struct {
	// Every is how often it looks, default 100 ms.
	Every time.Duration
	// AskEvery is how often the generation is asked how it is, default 500 ms, and
	// AnswerWithin how long it may take to say, default 2 s.
	AskEvery, AnswerWithin time.Duration
	// Unwell is how often in a row it may say that it is not well, or say nothing,
	// default 1: the second time counts.
	Unwell int
	// MinFailed is how many jobs must have failed before their share is looked at,
	// default 4, so that one unlucky job does not end a version.
	MinFailed uint64
	// Jump is by how much the share of jobs that fail may rise above that of the
	// generation before, default 0.25.
	Jump float64
}

// EnsureDefaults fills in what was left zero.
func (j *Judge) EnsureDefaults() {
	j.Every = cmp.Or(j.Every, 100*time.Millisecond)
	j.AskEvery = cmp.Or(j.AskEvery, 500*time.Millisecond)
	j.AnswerWithin = cmp.Or(j.AnswerWithin, 2*time.Second)
	j.Unwell = cmp.Or(j.Unwell, 1)
	j.MinFailed = cmp.Or(j.MinFailed, 4)
	j.Jump = cmp.Or(j.Jump, 0.25)
}

// share returns how many of the jobs failed, 0 to 1.
func (t Tally) share() float64 {
	if t.Failed == 0 {
		return 0
	}
	return float64(t.Failed) / float64(t.Failed+t.Succeeded)
}

// worse explains what is wrong with the jobs of a generation, nil when nothing is.
func (j Judge) worse(before, now Tally) error {
	if now.Failed < j.MinFailed || now.share() <= before.share()+j.Jump {
		return nil
	}
	return fmt.Errorf("%d of its %d jobs failed, %.0f %%, and before it %.0f %% did", now.Failed, now.Failed+now.Succeeded, 100*now.share(), 100*before.share())
}

// Watch observes a generation for a time. It returns nil when the time is over and
// nothing was wrong, and what was wrong as soon as it is known: a process that
// ended, a bad answer about its health, or more jobs that failed than before.
func (j Judge) Watch(ctx context.Context, period time.Duration, before Tally, s Subject) error {
	j.EnsureDefaults()
	start := s.Tally()
	end := time.NewTimer(period)
	defer end.Stop()
	look := time.NewTicker(j.Every)
	defer look.Stop()
	ask := time.NewTicker(j.AskEvery)
	defer ask.Stop()
	unwell, over := 0, false
	answers := make(chan error, 1)
	asking := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.Failed():
			return fmt.Errorf("it ended: %w", s.Cause())
		case <-look.C:
			if err := j.worse(before, s.Tally().minus(start)); err != nil {
				return err
			}
		case <-ask.C:
			if asking {
				continue
			}
			asking = true
			go func() {
				ctx, stop := context.WithTimeout(ctx, j.AnswerWithin)
				defer stop()
				answers <- s.Health(ctx)
			}()
		case err := <-answers:
			asking = false
			if err == nil {
				unwell = 0
			} else if unwell++; unwell > j.Unwell {
				return fmt.Errorf("its health check failed %d times in a row: %w", unwell, err)
			}
			if over && unwell == 0 {
				return j.worse(before, s.Tally().minus(start))
			}
		case <-end.C:
			select {
			case <-s.Failed():
				return fmt.Errorf("it ended: %w", s.Cause())
			default:
			}
			// What has not answered yet, or not well, has not proved itself.
			if over = asking || unwell > 0; over {
				continue
			}
			return j.worse(before, s.Tally().minus(start))
		}
	}
}
