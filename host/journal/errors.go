package journal

import (
	"fmt"
	"time"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

var (
	// errClosing is the reason of everything that the journal's end interrupts.
	errClosing = wire.NewError(base.Code_unavailable, "start the node again", "the journal is closing")
	// errCanceled ends a job that somebody cancelled.
	errCanceled = wire.NewError(base.Code_canceled, "", "the job was cancelled")
)

func unknownJob(id uint64) error {
	return wire.NewError(base.Code_notFound, "see inos job list; a result is kept for a day, or until it is discarded", "there is no durable job %x", id)
}

// damaged says that something of a job was lost.
func damaged(id uint64, err error) *wire.Error {
	return wire.NewError(base.Code_dataLoss, "submit the job again, and see to the disk that holds the node's folder", "durable job %x: %w", id, err)
}

// ended is an outcome that the journal gives a job itself.
func ended(s compute.Status, err *wire.Error) dispatch.Outcome {
	return dispatch.Outcome{Status: s, Err: err}
}

// unknown is the outcome of a job that had been started when the node ended.
func unknown(id uint64) dispatch.Outcome {
	return ended(compute.Status_outcomeUnknown, wire.NewError(base.Code_outcomeUnknown,
		"look whether it took effect, then submit it again if it should", "the node ended while durable job %x ran, and it is not one to run twice", id))
}

// late is the outcome of a job whose time came before its turn. Last is the
// reason why it could not be started, nil when there was none.
func late(capability string, deadline time.Time, last error) dispatch.Outcome {
	why := ""
	if last != nil {
		why = fmt.Sprintf(" (the last reason: %v)", last)
	}
	if deadline.IsZero() {
		return ended(compute.Status_rejected, wire.NewError(base.Code_unavailable, "see inos capability list, then submit it again",
			"%s waited for too long to be started%s", capability, why))
	}
	return ended(compute.Status_timeout, wire.NewError(base.Code_deadlineExceeded, "submit the job again with a later --deadline",
		"%s was not started before its deadline%s", capability, why))
}
