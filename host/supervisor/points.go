package supervisor

import "inos/plugins/sdk/failpoint"

// Where tests put faults. An error makes the step fail; at the steps that cannot
// fail only a delay, a panic or the end of the host is of interest.
var (
	atGroup     = failpoint.New("supervisor/group")     // before a control group is made
	atFork      = failpoint.New("supervisor/fork")      // on the forking thread
	atForked    = failpoint.New("supervisor/forked")    // the process runs, nobody watches it yet
	atHandshake = failpoint.New("supervisor/handshake") // it has printed its first line
	atDial      = failpoint.New("supervisor/dial")      // before the first call
	atReady     = failpoint.New("supervisor/ready")     // before Launch returns it
	atCommand   = failpoint.New("supervisor/command")   // before a command is sent
	atStop      = failpoint.New("supervisor/stop")      // before it is asked to stop
	atKill      = failpoint.New("supervisor/kill")      // before a signal is sent; cannot fail
	atReap      = failpoint.New("supervisor/reap")      // it has ended; cannot fail
	atTakeBack  = failpoint.New("supervisor/take-back") // before its folders go; cannot fail
	atUngroup   = failpoint.New("supervisor/ungroup")   // before its control group is removed
)
