package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"inos/host/api"
)

// greet is a plugin in every state that an operator may have brought it into.
var greet = api.Plugin{
	File: "greet-2", Name: "greet", Version: "2.0.0", Phase: "serving", Previous: "1.0.0", OnProbation: true, Digest: strings.Repeat("ab", 32),
	Publisher: "us", Since: then, Instances: []api.Instance{{
		ID: 3, PID: 77, Version: "2.0.0", Serving: true, Health: "healthy", Resident: 20 << 20, Running: 2,
		Limits: api.Limits{Memory: 512 << 20, CPUPercent: 150, OpenFiles: 1024},
	}}, Capabilities: []string{"greet.hello"}, Arena: "private",
}

func step(name string, took time.Duration) api.Event {
	return api.Event{Plugin: "greet", Version: "2.0.0", Step: name, TookNs: int64(took), Time: then}
}

func failedStep(name string, took time.Duration, why string) api.Event {
	e := step(name, took)
	e.Error = &api.Error{Code: "unavailable", Message: why}
	return e
}

var swapSteps = []api.Event{
	step("launched", 21340*time.Microsecond), step("checked", 42*time.Microsecond), step("connected", 3*time.Millisecond), step("frozen", 780*time.Millisecond),
	step("adopted", 1200*time.Microsecond), step("started", 950*time.Microsecond), step("tested", 2*time.Millisecond), step("flipped", 130*time.Microsecond),
	{Plugin: "greet", Version: "1.0.0", Step: "drained", TookNs: 2700},
}

func TestSwapShowsItsStepsAndTheVerdict(t *testing.T) {
	s := newStub(t)
	s.changes("POST /v1/plugins/greet/swap", http.StatusOK, greet, swapSteps...)
	s.inos("plugin", "swap", "greet", "2.0.0").wants(t, exitOK).golden(t, "swap.golden")
	s.heard("POST /v1/plugins/greet/swap?version=2.0.0")
}

func TestSwapThatFailsSaysWhyAndWhatServes(t *testing.T) {
	s := newStub(t)
	old := greet
	old.Version, old.OnProbation = "1.0.0", false
	s.answers("GET /v1/plugins/greet", old)
	s.changes("POST /v1/plugins/greet/swap", http.StatusServiceUnavailable, api.Error{Code: "unavailable", Message: "greet 3.0.0 did not pass its self-test: it was not tested within 4s"},
		step("launched", 20*time.Millisecond), step("connected", 3*time.Millisecond),
		failedStep("tested", 4*time.Second, "it was not tested within 4s, and this is a long story of why that is so, which goes on and on and ends nowhere near here"), step("thawed", 500*time.Microsecond))
	s.inos("plugin", "swap", "greet").wants(t, exitFailed).golden(t, "swap-failed.golden")
	s.heard("POST /v1/plugins/greet/swap")
}

func TestSwapAsJSONHoldsStepsPluginAndError(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer any
		code   int
		plugin bool
	}{
		"done":   {http.StatusOK, greet, exitOK, true},
		"failed": {http.StatusServiceUnavailable, api.Error{Code: "unavailable", Message: "no"}, exitFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t)
			s.changes("POST /v1/plugins/greet/swap", c.status, c.answer, swapSteps...)
			var got change
			said := s.inos("plugin", "swap", "greet", "--json").wants(t, c.code)
			if err := json.Unmarshal([]byte(said.out), &got); err != nil {
				t.Fatalf("%v in\n%s", err, said.out)
			}
			if len(got.Steps) != len(swapSteps) || (got.Plugin != nil) != c.plugin || (got.Error == nil) != c.plugin {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestChangesSayWhatTheyChanged(t *testing.T) {
	for line, want := range map[string]string{
		"swap greet":       "greet 2.0.0 serves already",
		"rollback greet":   "greet 2.0.0 serves again",
		"pin greet abcdef": "greet 2.0.0 is pinned until inos plugin unpin greet",
		"unpin greet":      "the folder decides again",
		"drain greet":      "greet is held",
		"undrain greet":    "greet 2.0.0 takes jobs",
	} {
		t.Run(line, func(t *testing.T) {
			words := strings.Fields(line)
			s := newStub(t)
			s.answers("GET /v1/plugins/greet", greet)
			s.changes("POST /v1/plugins/greet/"+words[0], http.StatusOK, greet)
			said := s.inos(append([]string{"plugin"}, words...)...).wants(t, exitOK, want)
			if words[0] == "drain" {
				said.wants(t, exitOK, "waiting for 2 running jobs of greet")
			}
			path := "POST /v1/plugins/greet/" + words[0]
			if len(words) > 2 {
				path += "?version=" + words[2]
			}
			s.heard(path)
		})
	}
}

func TestChangeOfAPluginThatIsNotThere(t *testing.T) {
	s := newStub(t)
	s.changes("POST /v1/plugins/none/rollback", http.StatusNotFound, api.Error{Code: "notFound", Message: "there is no none", Hint: "see inos plugin list"})
	s.inos("plugin", "rollback", "none").wants(t, exitNotFound, "there is no none", "see inos plugin list")
}

func TestPluginsAreListedWithWhatIsUnusual(t *testing.T) {
	s := newStub(t)
	pinned, held := greet, greet
	pinned.Name, pinned.Pinned, pinned.OnProbation, pinned.Exchanging, pinned.Lingering, pinned.Publisher = "moss", true, false, "3.0.0", 1, ""
	held.Name, held.Held, held.Phase, held.OnProbation = "oak", true, "held", false
	held.Reason, held.Hint = "an operator drained it", "inos plugin undrain oak lets its jobs go on"
	s.answers("GET /v1/plugins", api.Plugins{Plugins: []api.Plugin{greet, pinned, held}})
	s.inos("plugin", "list").wants(t, exitOK).golden(t, "plugins.golden")
}

func TestPluginIsShownWithItsHistoryAndLimits(t *testing.T) {
	s := newStub(t)
	s.answers("GET /v1/plugins/greet", greet)
	s.answers("GET /v1/node", api.Node{Means: api.Means{Memory: "cgroup v2", CPU: "none"}})
	s.inos("plugin", "info", "greet").wants(t, exitOK).golden(t, "plugin.golden")
	s.answers("GET /v1/plugins/greet/history", api.History{Versions: []api.Version{
		{Version: "2.0.0", Digest: greet.Digest, File: "greet-2", Publisher: "us", Size: 3 << 20, Admitted: then, Outcome: "served", Serving: true, Pinned: true, Stored: true},
		{Version: "3.0.0", Digest: strings.Repeat("cd", 32), File: "greet-3", Size: 3 << 20, Admitted: then, Outcome: "rolled back", Reason: "5 of 8 jobs failed", Stored: true},
		{Version: "1.0.0", Digest: strings.Repeat("ef", 32), File: "greet-1", Size: 3 << 20, Outcome: "served"},
	}})
	s.inos("plugin", "history", "greet").wants(t, exitOK).golden(t, "history.golden")
}

func TestEventsAreLines(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	all := append([]api.Event{{Plugin: "greet-2", Step: "seen", Time: then, ID: 9, Missed: 4}}, swapSteps[:2]...)
	all = append(all, failedStep("ended", 0, "killed by the memory limit\nof 512 MiB"), api.Event{Plugin: "greet", Version: "1.0.0", Instance: 7, Step: "rolled back", Detail: "to 1.0.0: é", Time: then})
	for n := range all {
		all[n].ID = uint64(8 + n)
	}
	var b strings.Builder
	show := newSteps(&b)
	for _, e := range all {
		show.event(e)
	}
	golden(t, "output/events.golden", []byte(b.String()))
}

func TestBarsGrowWithTheLogarithm(t *testing.T) {
	s := newSteps(&strings.Builder{})
	for d, want := range map[time.Duration]string{
		0: "", shortest: "", time.Millisecond: "█████", 10 * time.Millisecond: strings.Repeat("█", 10), time.Hour: strings.Repeat("█", widest), 200 * time.Microsecond: "█▌",
	} {
		if got := s.bar(d); got != want || cells(d) != utf8.RuneCountInString(got) {
			t.Errorf("%s: %q of %d cells, want %q", d, got, cells(d), want)
		}
	}
}
