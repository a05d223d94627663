package dispatch

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"inos/protocols/compute/v1"
)

// urgency is the order in which priorities are served.
var urgency = []compute.Priority{
	compute.Priority_emergency, compute.Priority_critical, compute.Priority_high, compute.Priority_normal, compute.Priority_low,
}

// TestQueueMatchesItsModel compares the queue with a list that is sorted by
// priority and keeps the order of arrival.
func TestQueueMatchesItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model []*Job
		rank := func(j *Job) int { return slices.Index(urgency, j.priority) }
		place := func(j *Job) {
			model = append(model, j)
			slices.SortStableFunc(model, func(a, b *Job) int { return rank(a) - rank(b) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				j := &Job{priority: rapid.SampledFrom(urgency).Draw(t, "priority")}
				q.push(j)
				place(j)
			},
			"push front": func(t *rapid.T) {
				j := &Job{priority: rapid.SampledFrom(urgency).Draw(t, "priority")}
				q.pushFront(j)
				model = append([]*Job{j}, model...)
				slices.SortStableFunc(model, func(a, b *Job) int { return rank(a) - rank(b) })
			},
			"remove any": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip()
				}
				n := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				q.remove(model[n])
				model = slices.Delete(model, n, n+1)
			},
			"": func(t *rapid.T) {
				if q.size != len(model) {
					t.Fatalf("%d jobs, not %d", q.size, len(model))
				}
				var first *Job
				if len(model) > 0 {
					first = model[0]
				}
				if q.first() != first {
					t.Fatal("another job comes first")
				}
				at := 0
				for i := range q.lists {
					var before *Job
					for j := q.lists[i].head; j != nil; before, j = j, j.next {
						if at == len(model) || model[at] != j || j.prev != before {
							t.Fatalf("place %d is another's", at)
						}
						at++
					}
					if q.lists[i].tail != before {
						t.Fatal("the tail is not the last")
					}
				}
			},
		})
	})
}

// A priority that this build does not know, from a newer client, is served as a
// normal one.
func TestUnknownPriorityCountsAsNormal(t *testing.T) {
	if level(compute.Priority(99)) != level(compute.Priority_normal) {
		t.Error("it does not")
	}
}

func BenchmarkQueue(b *testing.B) {
	var q queue
	jobs := make([]Job, 64)
	for i := range jobs {
		jobs[i].priority = urgency[i%len(urgency)]
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range jobs {
			q.push(&jobs[i])
		}
		for j := q.first(); j != nil; j = q.first() {
			q.remove(j)
		}
	}
}
