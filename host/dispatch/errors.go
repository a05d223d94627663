package dispatch

import (
	"errors"
	"fmt"
	"strings"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// ErrClash says that a capability has an owner already.
var ErrClash = errors.New("dispatch: capability clash")

// errStopping answers jobs that come while the node stops.
var errStopping = wire.NewError(base.Code_unavailable, "start the node again", "the node is stopping")

// maxNamed bounds the alternatives that one error message lists.
const maxNamed = 24

func unknownCapability(name string, known []string) error {
	hint := "no plugin is served yet; see inos plugin list"
	if len(known) > 0 {
		more := ""
		if len(known) > maxNamed {
			known, more = known[:maxNamed], ", ..."
		}
		hint = "served are " + strings.Join(known, ", ") + more
	}
	return wire.NewError(base.Code_notFound, hint, "no plugin serves %q", name)
}

// addresseeGone answers a job for an instance that is not there.
func addresseeGone(instance uint32) *wire.Error {
	return wire.NewError(base.Code_unavailable, "see inos plugin list", "the instance %d that was to run the job is gone", instance)
}

// quarantined answers a job that ends its plugin.
func quarantined(capability string, kills int, last any) *wire.Error {
	return wire.NewError(base.Code_quarantined, "look at the input and at the plugin's log, mend either, or lift it with inos job forgive",
		"%s with this input ended its plugin %d times and is not started any more: %v", capability, kills, last)
}

// errReplaced is why a capability is gone that a new version does not have.
var errReplaced = errors.New("the version that serves now does not have it")

// notServedNow explains what became of a capability.
func notServedNow(capability, module string, reason error) error {
	return wire.NewError(base.Code_notFound, "see inos plugin list", "no plugin serves %q now, %s did: %v", capability, module, reason)
}

func noLongerServed(capability, module string) *wire.Error {
	return wire.NewError(base.Code_notFound, "see inos plugin info "+module, "%s does not serve %s any more", module, capability)
}

func queueFull(module string, limit int) error {
	return wire.NewError(base.Code_resourceExhausted, "submit again when some have ended, or start more instances",
		"%d jobs wait for %s already", limit, module)
}

func inputTooLarge(capability string, size, limit uint64) error {
	return wire.NewError(base.Code_invalidArgument, "send less, or ask for a capability that streams",
		"%s takes at most %d bytes of input and was given %d or more", capability, limit, size)
}

// refusal is the outcome of a job that was taken in and then not started.
func refusal(err error) compute.Status {
	if errors.Is(err, wire.ErrNotFound) {
		return compute.Status_rejected
	}
	return statusOf(err)
}

// statusOf is the outcome that an error of the engine stands for.
func statusOf(err error) compute.Status {
	var e *wire.Error
	if !errors.As(err, &e) {
		return compute.Status_failed
	}
	switch e.Code {
	case base.Code_budgetExceeded:
		return compute.Status_budgetExceeded
	case base.Code_deadlineExceeded:
		return compute.Status_timeout
	case base.Code_canceled:
		return compute.Status_canceled
	case base.Code_invalidArgument:
		return compute.Status_invalidParams
	case base.Code_notSupported:
		return compute.Status_notSupported
	case base.Code_resourceExhausted:
		return compute.Status_outOfMemory
	case base.Code_outcomeUnknown:
		return compute.Status_outcomeUnknown
	case base.Code_quarantined:
		return compute.Status_quarantined
	case base.Code_unavailable:
		return compute.Status_rejected
	default:
		return compute.Status_failed
	}
}

// statusError describes an outcome that came without words.
func statusError(capability string, s compute.Status) *wire.Error {
	code, hint := base.Code_internal, "see the plugin's log"
	switch s {
	case compute.Status_budgetExceeded:
		code, hint = base.Code_budgetExceeded, "run the job again with a larger --budget"
	case compute.Status_timeout:
		code, hint = base.Code_deadlineExceeded, "run the job again with a later --deadline"
	case compute.Status_invalidParams:
		code, hint = base.Code_invalidArgument, "see inos plugin info for the parameters it takes"
	case compute.Status_canceled:
		code, hint = base.Code_canceled, ""
	case compute.Status_notSupported:
		code, hint = base.Code_notSupported, ""
	case compute.Status_outOfMemory:
		code, hint = base.Code_resourceExhausted, "start the node with a larger --segment"
	}
	return wire.NewError(code, hint, "%s ended as %s", capability, s)
}

// deathOf describes what the end of an instance did to a job.
func deathOf(module string, job uint64, cause error) error {
	return fmt.Errorf("%s ended while it ran job %x: %w", module, job, cause)
}
