package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos/host/api"
)

// kept is a durable job that has ended well.
var kept = api.Job{
	ID: "abc123", Capability: "greet.hello", State: "success", Priority: "normal", Submitted: then, Ended: then.Add(3 * time.Second), Expires: then.Add(24 * time.Hour),
	TookNs: 3e9, Attempts: 1, OutBytes: 5, Durable: true, Key: "k",
}

// durables is a node with that job, and one that failed.
func durables(t *testing.T) *stub {
	t.Helper()
	s := newStub(t)
	lost := kept
	lost.ID, lost.State, lost.Error = "def456", "failed", &api.Error{Code: "internal", Message: "it broke", Hint: "mend it"}
	s.mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		list := api.Jobs{Jobs: []api.Job{}}
		for _, j := range []api.Job{kept, lost, {ID: "aa", Capability: "greet.hello", State: "running", Submitted: then}} {
			if strings.HasPrefix(j.ID, r.URL.Query().Get("prefix")) {
				list.Jobs = append(list.Jobs, j)
			}
		}
		list.Known = len(list.Jobs)
		s.write(w, http.StatusOK, list)
	})
	for _, j := range []api.Job{kept, lost} {
		s.answers("GET /v1/jobs/"+j.ID, j)
		s.answers("GET /v1/jobs/"+j.ID+"/wait", j)
		s.answers("DELETE /v1/jobs/"+j.ID+"/result", j)
	}
	s.mux.HandleFunc("GET /v1/jobs/abc123/result", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Inos-Status", "success")
		w.Header().Set("Inos-Size", "5")
		_, _ = io.WriteString(w, "hello")
	})
	s.mux.HandleFunc("GET /v1/jobs/def456/result", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Inos-Status", "failed")
		s.write(w, http.StatusInternalServerError, lost.Error)
	})
	s.mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		if in, err := io.ReadAll(r.Body); err != nil || r.URL.Query().Get("durable") != "true" || string(in) != "the input" {
			t.Errorf("submitted %q, %v with %s", in, err, r.URL.RawQuery)
		}
		s.write(w, http.StatusAccepted, kept)
	})
	return s
}

func TestDurableJobIsHandedOver(t *testing.T) {
	s := durables(t)
	line := []string{"job", "run", "greet.hello", "--durable", "--key", "k", "--in", "-", "--home", s.home}
	if said := inosWith(t, "the input", line...).wants(t, exitOK); said.out != "abc123\n" {
		t.Errorf("it printed %q", said.out)
	}
	var j api.Job
	if err := json.Unmarshal([]byte(inosWith(t, "the input", append(line, "--json")...).wants(t, exitOK).out), &j); err != nil || j.ID != "abc123" {
		t.Errorf("%+v, %v", j, err)
	}
	if said := inosWith(t, "the input", append(line, "--wait")...).wants(t, exitOK, "job abc123 is on the node's disk"); said.out != "hello" {
		t.Errorf("it printed %q", said.out)
	}
	post := "POST /v1/jobs?capability=greet.hello&durable=true&key=k"
	s.heard(post, post, post)
}

func TestResultOfADurableJob(t *testing.T) {
	s := durables(t)
	if said := s.inos("job", "result", "abc").wants(t, exitOK); said.out != "hello" {
		t.Errorf("it printed %q", said.out)
	}
	s.heard()
	file := filepath.Join(t.TempDir(), "result")
	s.inos("job", "result", "abc123", "-o", file, "--discard").wants(t, exitOK)
	if b, err := os.ReadFile(file); err != nil || string(b) != "hello" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	s.heard("DELETE /v1/jobs/abc123/result")
	var res api.RunResult
	said := s.inos("job", "result", "def456", "-o", file, "--json").wants(t, exitFailed, "it broke", "mend it")
	if err := json.Unmarshal([]byte(said.out), &res); err != nil || res.Status != "failed" || res.Error == nil {
		t.Errorf("%+v, %v", res, err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "hello" {
		t.Errorf("a job that failed has changed the file to %q, %v", b, err)
	}
	s.inos("job", "result", "def456", "--discard").wants(t, exitFailed, "it broke")
	s.heard("DELETE /v1/jobs/abc123/result", "DELETE /v1/jobs/def456/result")
	s.inos("job", "result", "a").wants(t, exitUsage, "several jobs begin with a")
}

func TestResultIsNotDiscardedUnlessItIsSafe(t *testing.T) {
	s := durables(t)
	s.inos("job", "result", "abc123", "-o", filepath.Join(t.TempDir(), "none", "file"), "--discard").wants(t, exitFailed, "no such file")
	s.inos("job", "result", "abc123", "-o", "/dev/full", "--discard").wants(t, exitFailed, "no space left", "free some space")
	s.heard()
	s.inos("job", "result", "abc123", "-o", "/dev/null", "--discard").wants(t, exitOK)
	s.heard("DELETE /v1/jobs/abc123/result")
}

func TestJobsAreWaitedForAndShown(t *testing.T) {
	s := durables(t)
	s.inos("job", "wait", "abc123").wants(t, exitOK).golden(t, "job.golden")
	s.inos("job", "wait", "def456").wants(t, exitFailed, "it broke", "mend it")
	s.inos("job", "list").wants(t, exitOK).golden(t, "jobs.golden")
}

func TestQuarantineIsListedAndForgiven(t *testing.T) {
	s := newStub(t)
	s.answers("GET /v1/quarantine", api.Quarantine{Jobs: []api.Quarantined{
		{Capability: "greet.hello", JobDigest: strings.Repeat("ab", 32), PluginDigest: strings.Repeat("cd", 32), Kills: 3, Quarantined: true, Since: then, LastCause: "killed by\nSIGSEGV"},
		{Capability: "greet.hello", JobDigest: strings.Repeat("ef", 32), Kills: 1, Since: then},
	}})
	s.answers("DELETE /v1/quarantine/{digest}", api.Quarantine{Jobs: []api.Quarantined{}})
	s.inos("job", "quarantine").wants(t, exitOK).golden(t, "quarantine.golden")
	s.inos("job", "forgive", "ABABABAB").wants(t, exitOK, "abababab")
	s.heard("DELETE /v1/quarantine/abababab")
}

func TestPluginsThatDoNotServeAreNamedWhenACapabilityIsMissing(t *testing.T) {
	s := newStub(t)
	s.mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		s.write(w, http.StatusNotFound, api.Error{Code: "notFound", Message: `no plugin serves "oak.grow"`, Hint: "see inos plugin list"})
	})
	s.answers("GET /v1/plugins", api.Plugins{Plugins: []api.Plugin{greet, {Name: "oak", Phase: "starting"}, {Name: "elm", Phase: "refused"}}})
	s.inos("job", "run", "oak.grow").wants(t, exitNotFound, "oak is starting, elm is refused: see inos plugin list")
}
