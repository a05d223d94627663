package syscalls

import (
	"context"
	"errors"
	"testing"

	"inos/plugins/sdk/wire"
)

func TestBlockWhoseCallerGaveUpIsTakenBack(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	a, err := p.call(nil, wire.Lease{Bytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	if err := p.kernel.leave(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("leave said %v", err)
	}
	// It is not the plugin's any more.
	if _, err := p.call(nil, wire.Free{Ref: a.(wire.Granted).Ref}); err == nil {
		t.Error("the block was still lent")
	}
	p.blamed(1)
}
