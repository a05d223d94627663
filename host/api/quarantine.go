package api

import (
	"net/http"
	"strings"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Quarantine lists jobs that ended plugins, the last first.
type Quarantine struct {
	Jobs []Quarantined `json:"jobs"`
}

// Quarantined describes a job that is under suspicion of ending a plugin, or not
// started any more because it did again and again.
type Quarantined struct {
	Capability   string    `json:"capability"`
	JobDigest    string    `json:"job_digest"`    // BLAKE3 of capability, parameters and input, hex
	PluginDigest string    `json:"plugin_digest"` // SHA-256 of the binary, hex
	Kills        int       `json:"kills"`
	Quarantined  bool      `json:"quarantined"` // not started any more
	Since        time.Time `json:"since"`
	LastCause    string    `json:"last_cause"`
}

func (s *Server) quarantine() Quarantine {
	q := Quarantine{Jobs: []Quarantined{}}
	for _, j := range s.node.Engine().Quarantined() {
		q.Jobs = append(q.Jobs, Quarantined{
			Capability: j.Capability, JobDigest: j.JobDigest, PluginDigest: j.PluginDigest,
			Kills: j.Kills, Quarantined: j.Quarantined, Since: j.Since, LastCause: j.LastCause,
		})
	}
	return q
}

func (s *Server) getQuarantine(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.quarantine())
}

// leastDigits of a digest name a job: fewer would forgive what nobody meant.
const leastDigits = 6

func (s *Server) forgive(w http.ResponseWriter, r *http.Request) {
	digest := strings.ToLower(r.PathValue("digest"))
	switch {
	case len(digest) < leastDigits || strings.Trim(digest, "0123456789abcdef") != "":
		fail(w, wire.NewError(base.Code_invalidArgument, "see inos job quarantine", "%q does not begin the digest of a job: give at least %d of its digits", digest, leastDigits))
	case !s.node.Engine().Forgive(digest):
		fail(w, wire.NewError(base.Code_notFound, "see inos job quarantine", "no job whose digest begins with %s is quarantined", digest))
	default:
		reply(w, http.StatusOK, s.quarantine())
	}
}
