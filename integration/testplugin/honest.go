package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"inos/plugins/sdk"
)

// honest are the operations that do what they say.
func honest(name string) []sdk.Capability {
	return []sdk.Capability{
		{
			Name: name + ".echo", Description: "gives the input back", Idempotent: true,
			Handle: func(j *sdk.Job) error {
				in, err := j.Input()
				if err != nil {
					return err
				}
				out, err := j.Output(len(in))
				copy(out, in)
				return err
			},
		}, {
			Name: name + ".sum", Description: "SHA-256 of a stream", Streams: true, Idempotent: true,
			Handle: func(j *sdk.Job) error {
				h := sha256.New()
				if _, err := io.Copy(h, j); err != nil {
					return err
				}
				_, err := j.Write(h.Sum(nil))
				return err
			},
		}, {
			Name: name + ".invert", Description: "flips every bit of a stream", Streams: true, Idempotent: true,
			Handle: invert,
		}, {
			Name: name + ".make", Description: "gives as many bytes as asked", Streams: true,
			Params: []sdk.ParamSpec{{Name: "bytes", Kind: sdk.Uint, Required: true}},
			Handle: func(j *sdk.Job) error {
				block := bytes.Repeat([]byte("inos"), 1024)
				for left := j.Params().Uint("bytes"); left > 0; {
					n := min(left, uint64(len(block)))
					if _, err := j.Write(block[:n]); err != nil {
						return err
					}
					left -= n
				}
				return nil
			},
		}, {
			Name: name + ".wait", Description: "waits to be cancelled",
			Handle: func(j *sdk.Job) error {
				j.Progress(1, 2)
				<-j.Context().Done()
				return j.Context().Err()
			},
		}, {
			Name: name + ".params", Description: "says which parameters came", Idempotent: true,
			Params: []sdk.ParamSpec{
				{Name: "text", Default: "none"}, {Name: "flag", Kind: sdk.Bool}, {Name: "int", Kind: sdk.Int},
				{Name: "uint", Kind: sdk.Uint}, {Name: "float", Kind: sdk.Float}, {Name: "data", Kind: sdk.Data},
				{Name: "choice", Choices: []string{"a", "b"}, Default: "a"},
			},
			Handle: func(j *sdk.Job) error {
				p := j.Params()
				return json.NewEncoder(j).Encode(map[string]any{
					"text": p.Text("text"), "flag": p.Bool("flag"), "int": p.Int("int"), "uint": p.Uint("uint"),
					"float": p.Float("float"), "data": p.Data("data"), "choice": p.Text("choice"),
				})
			},
		}, {
			Name: name + ".charge", Description: "spends micro-credits", Params: []sdk.ParamSpec{{Name: "amount", Kind: sdk.Uint, Required: true}},
			Handle: func(j *sdk.Job) error { return j.Charge(j.Params().Uint("amount")) },
		}, {
			Name: name + ".call", Description: "has another capability work on the input", Streams: false,
			Params: []sdk.ParamSpec{{Name: "capability", Required: true}},
			Handle: func(j *sdk.Job) error {
				in, err := j.InputBlock()
				if err != nil {
					return err
				}
				out, err := j.Host().Call(j.Context(), j.Params().Text("capability"), nil, in)
				if err != nil {
					return err
				}
				defer out.Release()
				return j.Give(out)
			},
		}, {
			Name: name + ".refs", Description: "says where the input lies", Idempotent: true,
			Handle: func(j *sdk.Job) error {
				in, err := j.InputBlock()
				if err != nil {
					return err
				}
				return json.NewEncoder(j).Encode(in.Ref())
			},
		}, {
			Name: name + ".count", Description: "counts its calls in a block that outlives the process",
			Handle: func(j *sdk.Job) error {
				st, err := j.Host().State(j.Context(), "counter", 1, 64)
				if err != nil {
					return err
				}
				n := binary.LittleEndian.Uint64(st.Current()) + 1
				binary.LittleEndian.PutUint64(st.Next(), n)
				if err := st.Commit(); err != nil {
					return err
				}
				_, err = fmt.Fprint(j, n)
				return err
			},
		}, {
			Name: name + ".chunk", Description: "stores the input as a chunk and fetches it again",
			Handle: func(j *sdk.Job) error {
				in, err := j.InputBlock()
				if err != nil {
					return err
				}
				hash, _, err := j.Host().StoreChunk(j.Context(), in)
				if err != nil {
					return err
				}
				b, err := j.Host().FetchChunk(j.Context(), hash)
				if err != nil {
					return err
				}
				defer b.Release()
				return j.Give(b)
			},
		}, {
			Name: name + ".send", Description: "sends a message to a peer",
			Handle: func(j *sdk.Job) error {
				return j.Host().Send(j.Context(), "peer", []byte("hello"))
			},
		}, {
			Name: name + ".spawn", Description: "starts another instance of the plugin",
			Handle: func(j *sdk.Job) error {
				id, err := j.Host().Spawn(j.Context(), 1)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(j, id)
				return err
			},
		},
	}
}

// invert works on views alone: nothing is copied.
func invert(j *sdk.Job) error {
	for {
		in, err := j.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := j.Output(len(in))
		if err != nil {
			return err
		}
		for i := range in {
			out[i] = ^in[i]
		}
	}
}
