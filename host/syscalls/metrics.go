package syscalls

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
)

// Metrics keeps what plugins measure of themselves: the last value of each gauge
// and the sum of each counter. Its methods may be called from any goroutine.
type Metrics struct {
	mu     sync.Mutex
	series map[seriesKey]*Series
}

type seriesKey struct{ module, name string }

// Series is one measurement of one module.
type Series struct {
	Module string
	Name   string
	Kind   system.MetricKind
	Value  float64
}

// maxSeries bounds what one module may make the node remember.
const maxSeries = 256

// NewMetrics returns an empty collection.
func NewMetrics() *Metrics { return &Metrics{series: make(map[seriesKey]*Series)} }

// record takes in one measurement.
func (m *Metrics) record(module string, v wire.Metric) error {
	if v.Name == "" || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || (v.Kind == system.MetricKind_counter && v.Value < 0) {
		return wire.NewError(base.Code_invalidArgument, "give a name and a finite value, not negative for a counter", "metric %q of value %g", v.Name, v.Value)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := seriesKey{module, v.Name}
	s, ok := m.series[k]
	if !ok {
		n := 0
		for other := range m.series {
			if other.module == module {
				n++
			}
		}
		if n >= maxSeries {
			return wire.NewError(base.Code_resourceExhausted, "use fewer names", "%s has %d metrics already", module, n)
		}
		s = &Series{Module: module, Name: v.Name, Kind: v.Kind}
		m.series[k] = s
	}
	if s.Kind != v.Kind {
		return wire.NewError(base.Code_invalidArgument, "use another name", "metric %q was a %s before", v.Name, fmt.Sprint(s.Kind))
	}
	if v.Kind == system.MetricKind_counter {
		s.Value += v.Value
	} else {
		s.Value = v.Value
	}
	return nil
}

// List returns all series, by module and name.
func (m *Metrics) List() []Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Series, 0, len(m.series))
	for _, s := range m.series {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Series) int {
		return cmp.Or(cmp.Compare(a.Module, b.Module), cmp.Compare(a.Name, b.Name))
	})
	return list
}
