package sdk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"inos/plugins/sdk"
)

// counter is version 2 of a plugin that counts. Version 1 kept a 32-bit number, in
// schema 1; this one keeps 64 bits, in schema 2.
func counter() *sdk.Plugin {
	return &sdk.Plugin{
		Name: "count", Version: "2.0.0", Needs: []sdk.Grant{sdk.MayKeepState},
		State:        []sdk.StateSpec{{Name: "n", Schema: 2, MaxBytes: 8, Adopts: []uint32{1}}},
		Capabilities: []sdk.Capability{{Name: "count.noop", Handle: func(*sdk.Job) error { return nil }}},
		Adopt: func(ctx context.Context, h *sdk.Host, from sdk.Version) error {
			old, err := h.PriorState(ctx, "n", 1)
			if err != nil || old == nil {
				return err
			}
			b, err := h.State(ctx, "n", 2, 8)
			if err != nil {
				return err
			}
			n := binary.LittleEndian.Uint32(old)
			binary.LittleEndian.PutUint64(b.Next(), uint64(n))
			fmt.Println("took over", n, "from", from)
			return b.Commit()
		},
	}
}

// A new version takes over what the old one kept in another schema.
func ExamplePlugin_adopt() {
	old := counter()
	old.Version, old.Adopt = "1.0.0", nil
	old.State = []sdk.StateSpec{{Name: "n", Schema: 1, MaxBytes: 4}}
	old.Start = func(ctx context.Context, h *sdk.Host) error {
		b, err := h.State(ctx, "n", 1, 4)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(b.Next(), 7)
		return b.Commit()
	}
	ctx := context.Background()
	first, err := old.TryPlugin(ctx, "", nil)
	if err == nil {
		_, err = first.Upgrade(ctx, counter())
	}
	fmt.Println(err)
	// Output:
	// took over 7 from 1.0.0
	// <nil>
}

// A capability that streams reads its input and writes its output in pieces.
func ExampleCapability_streams() {
	upper := &sdk.Plugin{Name: "text", Version: "1.0.0", Capabilities: []sdk.Capability{{
		Name: "text.upper", Streams: true,
		Handle: func(j *sdk.Job) error {
			b := make([]byte, 1024)
			for {
				n, err := j.Read(b)
				if _, werr := j.Write(bytes.ToUpper(b[:n])); werr != nil {
					return werr
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
			}
		},
	}}}
	var out bytes.Buffer
	err := upper.Try(context.Background(), "text.upper", nil, bytes.NewReader([]byte("in pieces")), &out)
	fmt.Println(out.String(), err)
	// Output: IN PIECES <nil>
}
