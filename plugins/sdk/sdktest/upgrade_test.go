package sdktest

import (
	"context"
	"testing"

	"inos/plugins/sdk"
)

func TestUpgradeHandsStateOver(t *testing.T) {
	var adopted byte
	plugin := func(version string) *sdk.Plugin {
		var b *sdk.StateBlock
		return &sdk.Plugin{
			Name: "count", Version: version, Needs: []sdk.Grant{sdk.MayKeepState},
			State: []sdk.StateSpec{{Name: "n", Schema: 1, MaxBytes: 8}},
			Start: func(ctx context.Context, h *sdk.Host) (err error) { b, err = h.State(ctx, "n", 1, 8); return err },
			Capabilities: []sdk.Capability{{Name: "count.up", Handle: func(j *sdk.Job) error {
				b.Next()[0] = b.Current()[0] + 1
				adopted = b.Next()[0]
				return b.Commit()
			}}},
		}
	}
	v1, v2 := plugin("1.0.0"), plugin("1.1.0")
	up := func(p *sdk.Plugin) {
		if _, err := Run(t, p, "count.up", nil); err != nil {
			t.Fatal(err)
		}
	}
	Upgrade(t, v1, v2, nil, func() { up(v1); up(v1) })
	up(v2)
	if adopted != 3 {
		t.Errorf("counted to %d, not 3", adopted)
	}
}
