package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
)

func TestNodeDescribesItself(t *testing.T) {
	d := open(t, Options{})
	ctx := t.Context()
	if n, err := d.client.Node(ctx); err != nil || n.ID != "ab" || n.Segment != 8<<20 || n.PID != 7 {
		t.Errorf("node %+v, %v", n, err)
	}
	list, err := d.client.Plugins(ctx)
	if err != nil || len(list) != 2 || list[0].Phase != "refused" || list[0].Manifest != nil || list[1].Instances[0].PID != 7 {
		t.Errorf("plugins %+v, %v", list, err)
	}
	for _, name := range []string{"test", "test-1"} {
		p, err := d.client.Plugin(ctx, name)
		if err != nil || p.Name != "test" || len(p.Manifest.Capabilities) != 7 || p.Manifest.Needs[0] != "log" || p.Manifest.Dependencies[0].Max != "9.0.0" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := d.client.Plugin(ctx, "none/../x"); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	caps, err := d.client.Capabilities(ctx)
	if err != nil || len(caps) != 7 || caps[1].Name != "test.echo" || caps[1].Module != "test" || caps[1].Instances != 1 || !caps[1].Streams {
		t.Errorf("capabilities %+v, %v", caps, err)
	}
	s, err := d.client.Segment(ctx)
	if err != nil || s.Size != 8<<20 || len(s.Arenas) != 1 || len(s.Links) != 1 || len(s.Regions) == 0 || s.Owners[0] != (Owner{1, "test"}) {
		t.Errorf("segment %+v, %v", s, err)
	}
}

// The names of fields are a promise to programs in any language.
func TestFieldNamesAreSnakeCaseAndListsAreNeverNull(t *testing.T) {
	d := open(t, Options{})
	if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.need", Params: []string{"x=1"}}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"node", "plugins", "plugins/test", "plugins/broken", "plugins/test/history", "capabilities", "segment", "jobs", "events", "quarantine"} {
		resp, err := d.client.http.Get("http://inos/v1/" + path)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		err = json.NewDecoder(resp.Body).Decode(&v)
		resp.Body.Close()
		if err != nil || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v, %v", path, resp.Header, err)
		}
		check(t, path, v)
	}
}

func check(t *testing.T, path string, v any) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		t.Errorf("%s is null", path)
	case map[string]any:
		for name, field := range v {
			if strings.ToLower(name) != name || strings.ContainsAny(name, " -") {
				t.Errorf("%s: field %q is not in snake case", path, name)
			}
			check(t, path+"."+name, field)
		}
	case []any:
		for _, field := range v {
			check(t, path+"[]", field)
		}
	}
}

func TestJobsThatAreNotThere(t *testing.T) {
	d := open(t, Options{})
	res, err := d.client.Run(t.Context(), RunRequest{Capability: "test.need", Params: []string{"x=1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   string
		want error
	}{{"abc", wire.ErrNotFound}, {"not-a-number", wire.ErrInvalidArgument}, {"fffffffffffffffff", wire.ErrInvalidArgument}} {
		if _, err := d.client.Job(t.Context(), c.id); !errors.Is(err, c.want) {
			t.Errorf("show %s: %v, want %v", c.id, err, c.want)
		}
		if _, err := d.client.Cancel(t.Context(), c.id); !errors.Is(err, c.want) {
			t.Errorf("cancel %s: %v, want %v", c.id, err, c.want)
		}
	}
	if _, err := d.client.Cancel(t.Context(), res.Job); !errors.Is(err, wire.ErrAlreadyExists) {
		t.Errorf("cancel of a job that has ended: %v", err)
	}
	for range 3 {
		if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.need", Params: []string{"x=1"}}); err != nil {
			t.Fatal(err)
		}
	}
	if jobs, err := d.client.Jobs(t.Context(), 2); err != nil || len(jobs.Jobs) != 2 || jobs.Known != 4 || jobs.Jobs[1].ID == res.Job {
		t.Errorf("jobs %+v, %v; want the two newest of 4", jobs, err)
	}
	if _, err := d.client.Jobs(t.Context(), -1); !errors.Is(err, wire.ErrInvalidArgument) {
		t.Errorf("error %v, want ErrInvalidArgument", err)
	}
}

// raw sends bytes as they are and returns the answer.
func (d *door) raw(t *testing.T, request string) *http.Response {
	t.Helper()
	conn := d.dial(t)
	_, _ = io.WriteString(conn, request) // the server may refuse before it has read all
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%.60q: %v", request, err)
		}
		if resp.StatusCode >= 200 {
			return resp
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	d := open(t, Options{})
	post := func(query string) string {
		return "POST /v1/jobs?" + query + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
	}
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"unknown path", "GET /v2/node HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"unknown method", "PATCH /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"no HTTP", "hello\r\n\r\n", 400},
		{"headers without end", "GET /v1/node HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes) + "\r\n\r\n", 431},
		{"deadline is no time", post("capability=test.echo&deadline=soon"), 400},
		{"deadline is past", post("capability=test.echo&deadline=-1s"), 400},
		{"budget is no number", post("capability=test.echo&budget=much"), 400},
		{"many parameters", post("capability=test.echo" + strings.Repeat("&param=a=b", maxParams+1)), 400},
		{"parameter without value", post("capability=test.echo&param=mode"), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := d.raw(t, c.request)
			defer resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s, want %d", resp.Status, c.want)
			}
		})
	}
}

func TestAnswerIsReadableByAnyClient(t *testing.T) {
	d := open(t, Options{})
	resp := d.raw(t, "POST /v1/jobs?capability=test.echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "hello" || resp.Header.Get("Content-Type") != "text/plain" || resp.Header.Get(headerJob) == "" {
		t.Errorf("%q, %v, %v", body, resp.Header, err)
	}
	if resp.Trailer.Get(headerStatus) != "success" || resp.Trailer.Get(headerCost) != "3" || resp.Trailer.Get(headerError) != "" {
		t.Errorf("trailers %v", resp.Trailer)
	}
	var m Metrics
	if err := json.Unmarshal([]byte(resp.Trailer.Get(headerMetrics)), &m); err != nil || m.OutputBytes != 5 {
		t.Errorf("metrics %+v, %v", m, err)
	}
}

func TestCloseCancelsWhatDoesNotEnd(t *testing.T) {
	d := open(t, Options{})
	ended := make(chan error, 1)
	r, w := io.Pipe()
	defer w.Close()
	go func() {
		_, err := d.client.Run(t.Context(), RunRequest{Capability: "test.hang", Input: r, Size: -1})
		ended <- err
	}()
	if _, err := w.Write(noise(600_000)); err != nil { // more than a piece and less than the window
		t.Fatal(err)
	}
	<-d.puppet.hanging
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := d.server.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v, want DeadlineExceeded", err)
	}
	if err := <-ended; !errors.Is(err, wire.ErrCanceled) {
		t.Errorf("the caller heard %v, want ErrCanceled", err)
	}
	if _, err := Dial(d.socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after close: %v, want ErrNotRunning", err)
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code := range statuses {
		if s := statusOf(code); s < 400 || s > 599 {
			t.Errorf("%s: %d", code, s)
		}
	}
	if fmt.Sprint(statusOf(9999)) != "500" {
		t.Error("a code of the future is no server error")
	}
}

func TestPluginTellsHowItIsAndWhatIsInForce(t *testing.T) {
	d := open(t, Options{})
	p := &d.plugins[1]
	p.Publisher, p.Note, p.Pinned, p.Held, p.OnProbation, p.Exchanging, p.Lingering, p.Previous = "us", "note", true, true, true, "2.0.0", 1, "1.0.0"
	p.Instances[0].Version, p.Instances[0].Serving = "1.2.3", true
	p.Instances[0].Limits = supervisor.Limits{
		Memory: 1 << 30, CPUPercent: supervisor.Unlimited, Processes: 64, AddressSpace: supervisor.Unlimited, OpenFiles: 1024, CoreBytes: supervisor.Unlimited,
	}
	got, err := d.client.Plugin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	if got.Publisher != "us" || got.Note != "note" || !got.Pinned || !got.Held || !got.OnProbation || got.Exchanging != "2.0.0" || got.Lingering != 1 || got.Previous != "1.0.0" {
		t.Errorf("plugin %+v", got)
	}
	if i := got.Instances[0]; i.Version != "1.2.3" || !i.Serving || i.Limits != (Limits{Memory: 1 << 30, Processes: 64, OpenFiles: 1024}) {
		t.Errorf("instance %+v", i)
	}
	if n, err := d.client.Node(t.Context()); err != nil || n.Means.Memory != "cgroup v2" || n.Means.CPU != "none" || n.Durable.MaxJobs == 0 {
		t.Errorf("node %+v, %v", n, err)
	}
}

func TestWhatDoesNotPassIsNoReasonToTryAgain(t *testing.T) {
	for err, want := range map[error]int{
		unix.ENOSPC: http.StatusInsufficientStorage, unix.EMFILE: http.StatusTooManyRequests, errStopping: http.StatusServiceUnavailable, unix.EIO: http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		if fail(w, err); w.Code != want {
			t.Errorf("%v: status %d, want %d", err, w.Code, want)
		}
	}
}
