package dispatch

import "inos/protocols/compute/v1"

// levels is the number of priorities.
const levels = 5

// level maps a priority to a queue, the most urgent first.
func level(p compute.Priority) int {
	switch p {
	case compute.Priority_emergency:
		return 0
	case compute.Priority_critical:
		return 1
	case compute.Priority_high:
		return 2
	case compute.Priority_low:
		return 4
	default:
		return 3
	}
}

// queue holds waiting jobs: first come first served within a priority. The links
// are in the jobs, so that every operation takes constant time and no memory.
// Its owner locks it.
type queue struct {
	lists [levels]list
	size  int
}

type list struct{ head, tail *Job }

// push adds j at the end of its priority.
func (q *queue) push(j *Job) {
	l := &q.lists[level(j.priority)]
	j.stands = q
	j.prev, j.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = j
	} else {
		l.head = j
	}
	l.tail = j
	q.size++
}

// pushFront adds j before all others of its priority: it has waited already.
func (q *queue) pushFront(j *Job) {
	l := &q.lists[level(j.priority)]
	j.stands = q
	j.prev, j.next = nil, l.head
	if l.head != nil {
		l.head.prev = j
	} else {
		l.tail = j
	}
	l.head = j
	q.size++
}

// remove takes j out, wherever it stands.
func (q *queue) remove(j *Job) {
	l := &q.lists[level(j.priority)]
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		l.head = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		l.tail = j.prev
	}
	j.prev, j.next, j.stands = nil, nil, nil
	q.size--
}

// after returns the job whose turn is next after that of j, or nil.
func (q *queue) after(j *Job) *Job {
	for i := level(j.priority) + 1; j.next == nil && i < levels; i++ {
		if next := q.lists[i].head; next != nil {
			return next
		}
	}
	return j.next
}

// first returns the job whose turn it is, or nil.
func (q *queue) first() *Job {
	for i := range q.lists {
		if j := q.lists[i].head; j != nil {
			return j
		}
	}
	return nil
}
