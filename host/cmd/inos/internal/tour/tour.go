// Package tour gives every plugin of a running node one real job, to show that
// all of it works. Which job that is, the plugins' own manifests say. Apart from
// these self-tests and one long way through storage, if somebody serves it, it
// calls nothing: what else a capability does, it cannot know.
package tour

import (
	"context"
	"fmt"
	"time"

	"inos/host/api"
	"inos/host/node"
)

// Node is what the tour needs of a node. *api.Client is one.
type Node interface {
	Plugins(ctx context.Context) ([]api.Plugin, error)
	Capabilities(ctx context.Context) ([]api.Capability, error)
	Run(ctx context.Context, r api.RunRequest) (api.RunResult, error)
}

// Results of a stop.
const (
	OK      = "ok"
	Failed  = "failed"
	Refused = "refused" // by the node, before the tour
	Skipped = "skipped" // the plugin declares no self-test
)

// Stop is one row of the tour's report.
type Stop struct {
	Plugin     string `json:"plugin"`
	Capability string `json:"capability,omitempty"`
	Result     string `json:"result"`
	Why        string `json:"why,omitempty"` // when it is not ok
	TookNs     int64  `json:"took_ns"`
	Bytes      uint64 `json:"bytes"` // in and out
}

// Good reports whether every plugin in service did its job, and there was one.
func Good(stops []Stop) bool {
	good := false
	for _, s := range stops {
		if s.Result == Failed {
			return false
		}
		good = good || s.Result == OK
	}
	return good
}

// jobTimeout bounds one job of the tour.
const jobTimeout = 2 * time.Minute

// Run makes the tour. Its error says that the node could not be asked; what went
// wrong on the way is in the stops.
func Run(ctx context.Context, n Node) ([]Stop, error) {
	plugins, err := n.Plugins(ctx)
	if err != nil {
		return nil, err
	}
	served, err := n.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]api.Capability, len(served))
	for _, c := range served {
		byName[c.Name] = c
	}
	var stops []Stop
	_, canPut := byName[putCapability]
	get, canGet := byName[getCapability]
	storage := canPut && canGet
	for _, p := range plugins {
		s := visit(ctx, n, p)
		if s.Result == Skipped && storage && p.Name == get.Module {
			continue // it is not skipped: the way through storage is its job
		}
		stops = append(stops, s)
		if ctx.Err() != nil {
			return stops, context.Cause(ctx)
		}
	}
	if storage {
		_, canDelete := byName[deleteCapability]
		stops = append(stops, roundTrip(ctx, n, get.Module, canDelete))
	}
	return stops, ctx.Err()
}

// visit lets a plugin do its self-test.
func visit(ctx context.Context, n Node, p api.Plugin) Stop {
	s := Stop{Plugin: p.Name}
	switch {
	case p.Phase == string(node.Refused):
		s.Result, s.Why = Refused, p.Reason
		return s
	case p.Phase != string(node.Serving):
		s.Result, s.Why = Failed, fmt.Sprintf("it is %s", p.Phase)
		if p.Reason != "" {
			s.Why += ": " + p.Reason
		}
		return s
	}
	if p.Manifest == nil || p.Manifest.SelfTest == "" {
		s.Result, s.Why = Skipped, "no self-test declared"
		return s
	}
	s.Capability = p.Manifest.SelfTest
	began := time.Now()
	res, err := n.Run(ctx, api.RunRequest{Capability: s.Capability, Deadline: jobTimeout})
	s.finish(began, res.Metrics.InputBytes+res.Bytes, err)
	return s
}

func (s *Stop) finish(began time.Time, bytes uint64, err error) {
	s.TookNs, s.Bytes, s.Result = int64(time.Since(began)), bytes, OK
	if err != nil {
		s.Result, s.Why = Failed, err.Error()
	}
}
