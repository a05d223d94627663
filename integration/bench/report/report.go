// Package report writes what a comparison measured: as JSON for programs, as a
// table for people, and with the one line that every comparison ends with. It
// measures nothing itself.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one comparison: the same work done by us and by the peer in one run.
type Row struct {
	Work   string  `json:"work"`
	Unit   string  `json:"unit"`  // of Ours and Peer
	Ours   float64 `json:"ours"`  // median
	Peer   float64 `json:"peer"`  // median of what we compare with, named in Against
	Ratio  float64 `json:"ratio"` // Ours/Peer
	Target string  `json:"target"`
	Met    bool    `json:"met"`
	// Against names the peer.
	Against string `json:"against"`
}

// Report is one run.
type Report struct {
	Name    string            `json:"name"`
	When    time.Time         `json:"when"`
	Machine Machine           `json:"machine"`
	With    map[string]string `json:"versions"`
	Rows    []Row             `json:"rows"`
}

// Machine is where the run was made.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
}

// New begins a report. Modules name the dependencies whose versions matter.
func New(name string, modules ...string) *Report {
	r := &Report{Name: name, When: time.Now().UTC().Truncate(time.Second), With: map[string]string{"go": runtime.Version()}}
	r.Machine = Machine{CPU: cpu(), CPUs: runtime.NumCPU(), Kernel: firstLine("/proc/sys/kernel/osrelease"), OS: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if slices.Contains(modules, d.Path) {
				r.With[d.Path] = d.Version
			}
		}
	}
	return r
}

// AtMost adds a row whose target is that ours is at most so many times the peer's.
func (r *Report) AtMost(limit float64, row Row) {
	row.Ratio = row.Ours / row.Peer
	row.Target = fmt.Sprintf("at most %gx", limit)
	row.Met = row.Ratio <= limit
	r.Rows = append(r.Rows, row)
}

// AtLeast adds a row whose target is that ours is at least so many times the peer's.
func (r *Report) AtLeast(least float64, row Row) {
	row.Ratio = row.Ours / row.Peer
	row.Target = fmt.Sprintf("at least %gx", least)
	row.Met = row.Ratio >= least
	r.Rows = append(r.Rows, row)
}

// Within adds a row whose target is that ours is at most so much more than the
// peer's.
func (r *Report) Within(extra float64, row Row) {
	row.Ratio = row.Ours / row.Peer
	row.Target = fmt.Sprintf("at most %g %s more", extra, row.Unit)
	row.Met = row.Ours-row.Peer <= extra
	r.Rows = append(r.Rows, row)
}

// Write writes DIR/NAME.json, prints the table to w, and ends with the line that
// says how many targets were met.
func (r *Report) Write(w io.Writer, dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the repository
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.Name+".json"), append(text, '\n'), 0o644); err != nil { //nolint:gosec // as above
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WORK\tOURS\tPEER\tRATIO\tTARGET\tMET\tAGAINST")
	met := 0
	for _, row := range r.Rows {
		mark := "no"
		if row.Met {
			mark, met = "yes", met+1
		}
		fmt.Fprintf(t, "%s\t%.4g %s\t%.4g %s\t%.3gx\t%s\t%s\t%s\n", row.Work, row.Ours, row.Unit, row.Peer, row.Unit, row.Ratio, row.Target, mark, row.Against)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "bench-%s: met=%d of=%d\n", r.Name, met, len(r.Rows))
	return err
}

// Quantile returns the q-th quantile of some values, which it sorts.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

func cpu() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, " \t:"))
		}
	}
	return runtime.GOARCH
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
