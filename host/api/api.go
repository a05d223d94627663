// Package api is the door of a node: HTTP/1.1 over a unix socket in the node's
// home folder, and a client for it. Whoever may open the socket may run jobs, so
// it is open to the node's own user alone; the package never listens on a
// network.
//
//	GET    /v1/node                    Node
//	GET    /v1/plugins                 Plugins
//	GET    /v1/plugins/{name}          Plugin
//	GET    /v1/plugins/{name}/history  History
//	POST   /v1/plugins/{name}/VERB     changes what serves
//	GET    /v1/events                  Events
//	GET    /v1/capabilities            Capabilities
//	GET    /v1/segment                 Segment
//	GET    /v1/jobs?limit=N&prefix=P   Jobs whose numbers begin with P, the newest first
//	GET    /v1/jobs/{id}               Job
//	DELETE /v1/jobs/{id}               cancels it
//	POST   /v1/jobs?capability=C       runs a job
//	GET    /v1/jobs/{id}/wait          Job, when it has ended
//	GET    /v1/jobs/{id}/result        what a durable job gave
//	DELETE /v1/jobs/{id}/result        forgets a durable job that has ended
//	GET    /v1/quarantine              Quarantine
//	DELETE /v1/quarantine/{digest}     lets a job be started again; answers Quarantine
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
//
// # Durable jobs
//
// With durable=true in the query, POST /v1/jobs answers 202 with the Job as soon as
// it and all of its input are on disk. It runs in the background, whether the client
// stays or not, and survives the node. Its key names it: asked for again, the answer
// is the same job.
//
// The result is kept until it is discarded or expires. A job that succeeded: 200,
// the outcome in headers, the size in Inos-Size, the bytes, and Inos-Error in a
// trailer when they could not be read to the end. One that failed: as for a job that
// is run, in headers. One that has not ended: 503. With discard=true the job is
// forgotten once the client has read all of it; the trailer Inos-Discarded says so.
//
// # Changes
//
// VERB is swap, rollback, pin, unpin, drain or undrain. swap and pin take a version,
// or the first digits of a digest, in the query. The answer is the Plugin when the
// change is done, or the error because of which everything is as it was. A client
// that goes away stops a change that has not come into force.
//
// # Waiting
//
// GET /v1/events takes since (the number of the last event that is known), plugin
// and limit. With wait=1 it answers as soon as there is an event, with follow=1 with
// one line of JSON for each event until the client goes away. Requests that wait
// answer without news after half a minute at most, following apart; ask again then.
//
// Each kind of requests has a number of places of its own: see Options.
//
// # Errors
//
// Whatever is refused is answered with an Error and the status of its code. 429 and
// 503 say that the same may succeed later by itself; 507, that something has run out
// and somebody has to see to it first.
package api

import (
	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/journal"
	"inos/host/node"
)

// Backend is what the door leads to. Its methods must be safe for concurrent use.
type Backend interface {
	Engine() *dispatch.Engine
	Durable() *journal.Journal
	Events() *events.Log
	Operator
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
	headerSize     = "Inos-Size" // of a durable job's result, in bytes

	headerDiscarded = "Inos-Discarded"
)

// outcomeHeaders lists those that come as trailers.
var outcomeHeaders = []string{headerStatus, headerError, headerCost, headerMetrics, headerAttempts}
