package api

import (
	"fmt"
	"net/http"
	"strconv"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// jobID is the text form of a job's number.
func jobID(id uint64) string { return strconv.FormatUint(id, 16) }

func parseJobID(r *http.Request) (uint64, error) {
	text := r.PathValue("id")
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, wire.NewError(base.Code_invalidArgument, "see inos job list", "%q is not the number of a job", text)
	}
	return id, nil
}

func unknownJob(id uint64) error {
	return wire.NewError(base.Code_notFound, "see inos job list; jobs that ended long ago are forgotten", "there is no job %s", jobID(id))
}

// defaultJobs is how many jobs a list has unless asked for more.
const defaultJobs = 100

func (s *Server) getJobs(w http.ResponseWriter, r *http.Request) {
	limit := defaultJobs
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fail(w, wire.NewError(base.Code_invalidArgument, "give a number above 0", "limit %q is not a number of jobs", text))
			return
		}
		limit = n
	}
	infos := s.node.Engine().Jobs()
	list := Jobs{Jobs: []Job{}, Known: len(infos)}
	for _, i := range infos[:min(limit, len(infos))] {
		list.Jobs = append(list.Jobs, newJob(i))
	}
	reply(w, http.StatusOK, list)
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	info, ok := s.node.Engine().Lookup(id)
	if !ok {
		fail(w, unknownJob(id))
		return
	}
	reply(w, http.StatusOK, newJob(info))
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	e := s.node.Engine()
	if j := e.Find(id); j != nil {
		j.Cancel()
		reply(w, http.StatusOK, newJob(j.Info()))
		return
	}
	if info, ok := e.Lookup(id); ok {
		fail(w, wire.NewError(base.Code_alreadyExists, "", "%s", fmt.Sprintf("job %s has ended already as %s", jobID(id), info.State)))
		return
	}
	fail(w, unknownJob(id))
}
