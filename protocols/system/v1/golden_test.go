package system_test

import (
	"testing"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/golden"
	"inos/protocols/system/v1"
)

func TestBytesAreThoseOnFile(t *testing.T) {
	golden.Check(t, golden.Load(t, system.Manifest_TypeID, system.RegisterSchema, base.RegisterSchema, compute.RegisterSchema))
}

func TestOlderAndNewerBytesDecode(t *testing.T) {
	golden.CheckOlder(t, golden.Load(t, system.Manifest_TypeID, system.RegisterSchema, base.RegisterSchema, compute.RegisterSchema))
}
