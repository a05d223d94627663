package base_test

import (
	"testing"

	"inos/protocols/base/v1"
	"inos/protocols/golden"
)

func TestBytesAreThoseOnFile(t *testing.T) {
	golden.Check(t, golden.Load(t, base.Envelope_TypeID, base.RegisterSchema))
}

func TestOlderAndNewerBytesDecode(t *testing.T) {
	golden.CheckOlder(t, golden.Load(t, base.Envelope_TypeID, base.RegisterSchema))
}
