package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"inos/host/dispatch"
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
	q := r.URL.Query()
	limit := defaultJobs
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fail(w, wire.NewError(base.Code_invalidArgument, "give a number above 0", "limit %q is not a number of jobs", text))
			return
		}
		limit = n
	}
	all := s.jobs(q.Get("prefix"))
	list := Jobs{Jobs: []Job{}, Known: len(all)}
	list.Jobs = append(list.Jobs, all[:min(limit, len(all))]...)
	reply(w, http.StatusOK, list)
}

// jobs lists the jobs whose numbers begin with a prefix, those of the journal too,
// the newest first.
func (s *Server) jobs(prefix string) []Job {
	engine := make(map[uint64]dispatch.Info)
	for _, i := range s.node.Engine().Jobs() {
		if strings.HasPrefix(jobID(i.ID), prefix) {
			engine[i.ID] = i
		}
	}
	var all []Job
	for _, j := range s.node.Durable().List(0) {
		if !strings.HasPrefix(jobID(j.ID), prefix) {
			continue
		}
		d := newDurable(j)
		if i, ok := engine[j.ID]; ok && !j.Over() && i.State == stateRunning {
			d.running(i)
		}
		delete(engine, j.ID) // it is one job
		all = append(all, d)
	}
	for _, i := range engine {
		all = append(all, newJob(i))
	}
	slices.SortFunc(all, func(a, b Job) int { return cmp.Or(b.Submitted.Compare(a.Submitted), strings.Compare(b.ID, a.ID)) })
	return all
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	j, err := s.job(id)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, j)
}

// job describes a job, durable or not.
func (s *Server) job(id uint64) (Job, error) {
	if j, err := s.node.Durable().Get(id); err == nil {
		return s.durable(j), nil
	}
	if info, ok := s.node.Engine().Lookup(id); ok {
		return newJob(info), nil
	}
	return Job{}, unknownJob(id)
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	j, err := s.job(id)
	if err == nil && j.Over() {
		err = wire.NewError(base.Code_alreadyExists, "", "job %s has ended already as %s", jobID(id), j.State)
	}
	if err == nil {
		err = s.cancel(r.Context(), id, j.Durable)
	}
	if err != nil {
		fail(w, err)
		return
	}
	s.getJob(w, r)
}

// cancel ends a job. It waits until the end of a durable one is on disk.
func (s *Server) cancel(ctx context.Context, id uint64, durable bool) error {
	if durable {
		ctx, stop := context.WithTimeout(ctx, maxPoll)
		defer stop()
		return s.node.Durable().Cancel(ctx, id)
	}
	if j := s.node.Engine().Find(id); j != nil {
		j.Cancel()
	}
	return nil
}
