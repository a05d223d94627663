package catalog

import (
	"testing"

	"go.uber.org/goleak"

	"inos/plugins/sdk/failpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fault turns a point on until the test ends, or the function that it returns is
// called.
func fault(t *testing.T, name, terms string) (mend func()) {
	t.Helper()
	mend, err := failpoint.Enable(name, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mend)
	return mend
}
