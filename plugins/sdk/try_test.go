package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"inos/plugins/sdk"
	"inos/plugins/sdk/sdktest"
	"inos/plugins/sdk/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one is a plugin with one capability, "t.run".
func one(c sdk.Capability) *sdk.Plugin {
	c.Name = "t.run"
	return &sdk.Plugin{Name: "t", Version: "1.0.0", Capabilities: []sdk.Capability{c}}
}

// copies gives the input back in each way there is.
var copies = map[string]func(j *sdk.Job) error{
	"input and output": func(j *sdk.Job) error {
		in, err := j.Input()
		if err != nil {
			return err
		}
		out, err := j.Output(len(in))
		copy(out, in)
		return err
	},
	"read and write": func(j *sdk.Job) error {
		_, err := io.Copy(j, j)
		return err
	},
	"next and write": func(j *sdk.Job) error {
		for {
			in, err := j.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := j.Write(in); err != nil {
				return err
			}
		}
	},
	"read byte by byte": func(j *sdk.Job) error {
		var b [1]byte
		for {
			if _, err := j.Read(b[:]); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if _, err := j.Write(b[:]); err != nil {
				return err
			}
		}
	},
}

func TestJobGivesBackItsInputInEveryWay(t *testing.T) {
	for name, handle := range copies {
		for _, streams := range []bool{false, true} {
			if streams && name == "input and output" {
				continue // a stream has no whole input
			}
			p := one(sdk.Capability{Streams: streams, Handle: handle})
			t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
				in := rapid.SliceOfN(rapid.Byte(), 0, 20000).Draw(t, "in")
				var out bytes.Buffer
				if err := p.Try(context.Background(), "t.run", nil, bytes.NewReader(in), &out); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out.Bytes(), in) {
					t.Fatalf("%d bytes in, %d others out", len(in), out.Len())
				}
			}))
		}
	}
}

func TestOutputReplacesOrContinues(t *testing.T) {
	write := func(j *sdk.Job) error {
		for _, s := range []string{"first", "second", ""} {
			out, err := j.Output(len(s))
			if err != nil {
				return err
			}
			copy(out, s)
		}
		return nil
	}
	for _, c := range []struct {
		streams bool
		want    string
	}{{false, ""}, {true, "firstsecond"}} {
		got, err := sdktest.Run(t, one(sdk.Capability{Streams: c.streams, Handle: write}), "t.run", nil)
		if err != nil || string(got) != c.want {
			t.Errorf("streams %t: %q, %v; want %q", c.streams, got, err, c.want)
		}
	}
}

func TestInputOfSeveralPiecesIsNoView(t *testing.T) {
	p := one(sdk.Capability{Streams: true, Handle: func(j *sdk.Job) error { _, err := j.Input(); return err }})
	if _, err := sdktest.Run(t, p, "t.run", make([]byte, 100000)); err == nil || !strings.Contains(err.Error(), "pieces") {
		t.Errorf("error %v does not speak of pieces", err)
	}
	if _, err := sdktest.Run(t, p, "t.run", make([]byte, 100)); err != nil {
		t.Errorf("a single piece: %v", err)
	}
}

func TestInputTakesNothingAwayFromRead(t *testing.T) {
	for _, streams := range []bool{false, true} {
		for _, size := range []int{0, 100, 9000} {
			in := bytes.Repeat([]byte("x"), size)
			got, err := sdktest.Run(t, one(sdk.Capability{Streams: streams, Handle: func(j *sdk.Job) error {
				if v, err := j.Input(); err == nil && !bytes.Equal(v, in) {
					return errors.New("the view is another")
				}
				if _, err := io.Copy(j, j); err != nil {
					return err
				}
				if v, err := j.Input(); !streams && (err != nil || !bytes.Equal(v, in)) {
					return errors.Join(errors.New("the view is gone"), err)
				}
				return nil
			}}), "t.run", in)
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("streams %t: of %d bytes %d came, %v", streams, size, len(got), err)
			}
		}
	}
}

func TestBoundsOfAJobHold(t *testing.T) {
	write := func(n int) func(*sdk.Job) error {
		return func(j *sdk.Job) error {
			for range n {
				if _, err := j.Write([]byte{1}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name string
		c    sdk.Capability
		in   int
		is   error
	}{
		{"output fits", sdk.Capability{MaxOutput: 300, Handle: write(300)}, 0, nil},
		{"output does not", sdk.Capability{MaxOutput: 300, Handle: write(301)}, 0, wire.ErrResourceExhausted},
		{"stream fits", sdk.Capability{MaxOutput: 9000, Streams: true, Handle: write(9000)}, 0, nil},
		{"stream does not", sdk.Capability{MaxOutput: 9000, Streams: true, Handle: write(9001)}, 0, wire.ErrResourceExhausted},
		{"pieces do not", sdk.Capability{MaxOutput: 300, Streams: true, Handle: func(j *sdk.Job) error {
			_, err := j.Output(200)
			if err == nil {
				_, err = j.Output(200)
			}
			return err
		}}, 0, wire.ErrResourceExhausted},
		{"piece too large", sdk.Capability{Streams: true, Handle: func(j *sdk.Job) error { _, err := j.Output(j.PieceSize() + 1); return err }}, 0, wire.ErrInvalidArgument},
		{"input does not", sdk.Capability{MaxInput: 10, Handle: func(j *sdk.Job) error { _, err := j.Input(); return err }}, 11, wire.ErrInvalidArgument},
		{"streamed input does not", sdk.Capability{MaxInput: 9000, Streams: true, Handle: func(j *sdk.Job) error { _, err := io.Copy(io.Discard, j); return err }}, 9001, wire.ErrInvalidArgument},
		{"output asked at once", sdk.Capability{MaxOutput: 300, Handle: func(j *sdk.Job) error { _, err := j.Output(301); return err }}, 0, wire.ErrResourceExhausted},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := sdktest.Run(t, one(c.c), "t.run", make([]byte, c.in)); !errors.Is(err, c.is) {
				t.Errorf("error %v, want %v", err, c.is)
			}
		})
	}
}

func TestPanicBecomesAnError(t *testing.T) {
	p := one(sdk.Capability{Handle: func(*sdk.Job) error { panic("oh") }})
	if _, err := sdktest.Run(t, p, "t.run", nil); !errors.Is(err, wire.ErrInternal) || !strings.Contains(err.Error(), "oh") {
		t.Errorf("error %v", err)
	}
}

func TestCancellationReachesTheHandler(t *testing.T) {
	p := one(sdk.Capability{Timeout: time.Millisecond, Handle: func(j *sdk.Job) error {
		<-j.Context().Done()
		return context.Cause(j.Context())
	}})
	if _, err := sdktest.Run(t, p, "t.run", nil); !errors.Is(err, wire.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p = one(sdk.Capability{Handle: func(j *sdk.Job) error {
		stop()
		<-j.Context().Done()
		return j.Context().Err()
	}})
	if err := p.Try(ctx, "t.run", nil, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestHostCallsWithoutANodeSaySo(t *testing.T) {
	p := one(sdk.Capability{Handle: func(j *sdk.Job) error {
		_, err := j.Host().Call(j.Context(), "x.y", nil, nil)
		return err
	}})
	if _, err := sdktest.Run(t, p, "t.run", nil); !errors.Is(err, wire.ErrNotSupported) {
		t.Errorf("error %v", err)
	}
}

func TestManifestNamesWhatIsWrong(t *testing.T) {
	ok := func(*sdk.Job) error { return nil }
	for _, c := range []struct {
		name string
		p    sdk.Plugin
		want string
	}{
		{"no handler", sdk.Plugin{Name: "t", Version: "1.0.0", Capabilities: []sdk.Capability{{Name: "t.run"}}}, "no Handle"},
		{"no version", sdk.Plugin{Name: "t", Capabilities: []sdk.Capability{{Name: "t.run", Handle: ok}}}, "version"},
		{"bad name", sdk.Plugin{Name: "T!", Version: "1.0.0", Capabilities: []sdk.Capability{{Name: "t.run", Handle: ok}}}, "T!"},
		{"everything at once", sdk.Plugin{Name: "T!", Capabilities: []sdk.Capability{{Name: "t.run"}}}, "no Handle"},
		{"everything at once", sdk.Plugin{Name: "T!", Capabilities: []sdk.Capability{{Name: "t.run"}}}, "version"},
		{"twice", sdk.Plugin{Name: "t", Version: "1.0.0", Capabilities: []sdk.Capability{{Name: "t.run", Handle: ok}, {Name: "t.run", Handle: ok}}}, "t.run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := c.p.Manifest(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not mention %q", err, c.want)
			}
		})
	}
}
