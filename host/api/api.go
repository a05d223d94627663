// Package api is the door of a node: HTTP/1.1 over a unix socket in the node's
// home folder, and a client for it. Whoever may open the socket may run jobs, so
// it is open to the node's own user alone; the package never listens on a
// network.
//
//	GET    /v1/node               Node
//	GET    /v1/plugins            Plugins
//	GET    /v1/plugins/{name}     Plugin
//	GET    /v1/capabilities       Capabilities
//	GET    /v1/segment            Segment
//	GET    /v1/jobs?limit=N       Jobs, the newest first
//	GET    /v1/jobs/{id}          Job
//	DELETE /v1/jobs/{id}          cancels it
//	POST   /v1/jobs?capability=C  runs a job
//
// The command serves a node with Server; the command and whole-node tests talk to
// one with Client. What comes in is read straight into the arena and what goes
// out is written straight from it.
//
// # Running a job
//
// The query of POST /v1/jobs has
//
//	capability  what to run
//	param       "name=value", once for each parameter
//	deadline    how long it may take, as "1m30s"
//	budget      micro-credits it may cost, 0 for no bound
//	priority    low, normal, high, critical or emergency
//	key         refuses the job while another with this key is under way
//
// The body is the input. As soon as the job is taken in, an interim answer 102
// has its number in the header Inos-Job. What follows depends on what comes
// first. Output: 200, the pieces of output as the plugin hands them over, and the
// outcome in the trailers Inos-Status, Inos-Error, Inos-Cost, Inos-Metrics and
// Inos-Attempts. The end of a job without output, when it succeeded: the same,
// with an empty body. When it failed, or was never taken in: a status that says
// so, the outcome in headers of those names, and the error as JSON in the body.
//
// A client that goes away cancels its job.
package api

import (
	"inos/host/dispatch"
	"inos/host/node"
)

// Backend is what the door leads to. Its methods must be safe for concurrent use.
type Backend interface {
	Engine() *dispatch.Engine
	Plugins() []node.PluginStatus
	Segment() node.SegmentStatus
	Info() node.Info
}

// Headers and trailers of a job.
const (
	headerJob      = "Inos-Job"
	headerStatus   = "Inos-Status"
	headerError    = "Inos-Error"
	headerCost     = "Inos-Cost"
	headerMetrics  = "Inos-Metrics"
	headerAttempts = "Inos-Attempts"
)

// outcomeHeaders lists those that come as trailers.
var outcomeHeaders = []string{headerStatus, headerError, headerCost, headerMetrics, headerAttempts}
