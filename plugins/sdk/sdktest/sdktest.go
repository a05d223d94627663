// Package sdktest is the kit that plugin authors test with: it runs a handler in
// the test's own process, on input and parameters of the test's choice, and gives
// back what it wrote. Nothing of a node is needed, and it replaces none: it starts
// no process and maps no memory. It is for tests only.
package sdktest

import (
	"bytes"
	"context"
	"testing"

	"inos/plugins/sdk"
)

// Run runs one job of p and returns its output. Params are given as alternating
// names and values; a value is a string, bool, int64, uint64, float64 or []byte,
// as the manifest says. Cancelling t's context cancels the job.
func Run(t testing.TB, p *sdk.Plugin, capability string, input []byte, params ...any) ([]byte, error) {
	t.Helper()
	if len(params)%2 != 0 {
		t.Fatalf("sdktest: parameter %v has no value", params[len(params)-1])
	}
	var list sdk.Params
	for i := 0; i < len(params); i += 2 {
		name, ok := params[i].(string)
		if !ok {
			t.Fatalf("sdktest: the name of a parameter is %v, not a string", params[i])
		}
		list = append(list, sdk.Param{Name: name, Value: params[i+1]})
	}
	var out bytes.Buffer
	err := p.Try(t.Context(), capability, list, bytes.NewReader(input), &out)
	return out.Bytes(), err
}

// Start runs the Start of p for the jobs that Run will run, with a data folder that
// is empty, and its Stop when the test ends. Settings are what an operator's policy
// would set.
func Start(t testing.TB, p *sdk.Plugin, settings map[string]string) {
	t.Helper()
	stop, err := p.TryStart(t.Context(), t.TempDir(), settings)
	if err != nil {
		t.Fatalf("sdktest: starting %s: %v", p.Name, err)
	}
	t.Cleanup(func() {
		if err := stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("sdktest: stopping %s: %v", p.Name, err)
		}
	})
}

// Upgrade starts old, calls use, which runs its jobs, and then has next take over as
// a node does: old is frozen, next adopts its state and is started, and old is
// stopped. Run works on next until the test ends. Settings are as with Start. It
// fails the test when a step does.
func Upgrade(t testing.TB, old, next *sdk.Plugin, settings map[string]string, use func()) {
	t.Helper()
	first, err := old.TryPlugin(t.Context(), t.TempDir(), settings)
	if err != nil {
		t.Fatalf("sdktest: starting %s %s: %v", old.Name, old.Version, err)
	}
	use()
	second, err := first.Upgrade(t.Context(), next)
	if err != nil {
		t.Fatalf("sdktest: upgrading %s from %s to %s: %v", old.Name, old.Version, next.Version, err)
	}
	t.Cleanup(func() {
		if err := second.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("sdktest: stopping %s %s: %v", next.Name, next.Version, err)
		}
	})
}
