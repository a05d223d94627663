package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportSaysWhatWasMet(t *testing.T) {
	r := New("probe")
	r.AtMost(1.2, Row{Work: "a", Unit: "ms", Ours: 11, Peer: 10, Against: "none"})
	r.Within(50, Row{Work: "b", Unit: "ms", Ours: 90, Peer: 10, Against: "none"})
	dir := t.TempDir()
	var out strings.Builder
	if err := r.Write(&out, dir); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\nbench-probe: met=1 of=2\n") {
		t.Errorf("table: %s", out.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "probe.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || len(back.Rows) != 2 || !back.Rows[0].Met || back.Rows[1].Met || back.Machine.CPUs == 0 {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := Quantile(values, q); got != want {
			t.Errorf("%g: %g, want %g", q, got, want)
		}
	}
}
