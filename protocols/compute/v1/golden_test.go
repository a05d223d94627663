package compute_test

import (
	"testing"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/golden"
)

func TestBytesAreThoseOnFile(t *testing.T) {
	golden.Check(t, golden.Load(t, compute.JobRequest_TypeID, compute.RegisterSchema, base.RegisterSchema))
}

func TestOlderAndNewerBytesDecode(t *testing.T) {
	golden.CheckOlder(t, golden.Load(t, compute.JobRequest_TypeID, compute.RegisterSchema, base.RegisterSchema))
}
