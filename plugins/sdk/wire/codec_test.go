package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"capnproto.org/go/capnp/v3"
	"pgregory.net/rapid"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
)

func TestEncoderRefusesWhatTheDecoderWould(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	tests := []struct {
		name string
		m    message
		want string
	}{
		{"long name", Job{Capability: long}, "wire.Job: does not fit into a message: capability: 256 bytes, and at most 255 travel"},
		{"long name deep inside", Manifest{Capabilities: []Capability{{}, {Params: []ParamSpec{{Choices: []string{"", long}}}}}},
			"wire.Manifest: does not fit into a message: capabilities[1].params[0].choices[1]: 256 bytes"},
		{"long list", Job{Params: make(Params, maxParams+1)}, "params: 65 elements, and at most 64 travel"},
		{"not UTF-8", Job{Params: Params{{"a", "\xff"}}}, "params[0].text: text that is not UTF-8"},
		{"value of no kind", Job{Params: Params{{"a", 1}}}, "params[0].value: a int is of no kind that travels"},
		{"value of nothing", Job{Params: Params{{"a", nil}}}, "params[0].value: a <nil> is of no kind"},
		{"unknown enum value", Job{Priority: 99}, "priority: 99 is not among its values"},
		{"unknown enum value in a list", Manifest{Needs: []system.Grant{0, 99}}, "needs[1]: 99 is not"},
		{"no command", Command{}, "body: there is none"},
		{"no call", Syscall{}, "body: there is none"},
		{"two replies", Reply{Manifest: &Manifest{}, Health: &Heartbeat{}}, "body: both"},
		{"too much data", Syscall{Body: SendMessage{Payload: make([]byte, MaxMessage+1)}}, "sendMessage.payload: 16777217 bytes"},
		{"too much data in all", Job{Params: Params{{"a", make([]byte, MaxMessage)}, {"b", []byte{1}}}}, "params[0].data: more than 16777216 bytes"},
		{"no room for what surrounds it", Syscall{Body: SendMessage{Payload: make([]byte, MaxMessage)}}, "bytes in all, and at most 16777216 travel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.m.Encode()
			if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), tt.want) || b != nil {
				t.Errorf("%d bytes, %v; want an error with %q", len(b), err, tt.want)
			}
		})
	}
}

// built returns the bytes of a message that only a stranger would make.
func built[S any](t *testing.T, root func(*capnp.Segment) (S, error), fill func(S) error) []byte {
	t.Helper()
	_, seg, err := capnp.NewMessage(capnp.SingleSegment(nil))
	if err != nil {
		t.Fatal(err)
	}
	s, err := root(seg)
	if err == nil {
		err = fill(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return seg.Data()
}

func TestDecoderRefuses(t *testing.T) {
	job := func(fill func(compute.JobRequest) error) []byte { return built(t, compute.NewRootJobRequest, fill) }
	decodeJob := func(b []byte) error { _, err := DecodeJob(b); return err }
	decodeSyscall := func(b []byte) error { _, err := DecodeSyscall(b); return err }
	good, err := Job{Capability: "a.b"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		bytes  []byte
		decode func([]byte) error
		want   string
	}{
		{"nothing", nil, decodeJob, "wire.Job: malformed message: 0 bytes"},
		{"a part of a word", good[:len(good)-3], decodeJob, "is a multiple of 8"},
		{"too much", make([]byte, MaxMessage+8), decodeJob, "16777224 bytes, and at most 16777216 are read"},
		{"a null root", make([]byte, 8), decodeJob, "no struct at its root"},
		{"a list as root", []byte{1, 0, 0, 0, 2, 0, 0, 0}, decodeJob, "no struct at its root"},
		{"only its beginning", good[:16], decodeJob, "malformed message"},
		{"text as rubbish", bytes.Repeat([]byte("rubbish!"), 8), decodeJob, "malformed message"},
		{"long name", job(func(s compute.JobRequest) error { return s.SetCapability(strings.Repeat("x", 256)) }), decodeJob,
			"wire.Job: malformed message: capability: 256 bytes of text, and at most 255 are read"},
		{"not UTF-8", job(func(s compute.JobRequest) error { return s.SetCapability("\xff") }), decodeJob, "capability: text that is not UTF-8"},
		{"unknown priority", job(func(s compute.JobRequest) error { s.SetPriority(99); return nil }), decodeJob, "priority: 99 is not among its values"},
		{"long list", job(func(s compute.JobRequest) error { _, err := s.NewParams(65); return err }), decodeJob, "params: 65 elements, and at most 64 are read"},
		{"value of an unknown kind", job(func(s compute.JobRequest) error {
			l, err := s.NewParams(2)
			capnp.Struct(l.At(1)).SetUint16(0, 99)
			return err
		}), decodeJob, "params[1].value: 99 is no kind"},
		{"unknown call", built(t, system.NewRootSyscall, func(s system.Syscall) error {
			capnp.Struct(s).SetUint16(16, 99)
			return nil
		}), decodeSyscall, "body: 99 is no call that this build knows"},
		{"half a digest", built(t, system.NewRootSyscall, func(s system.Syscall) error {
			c, err := s.Body().NewFetchChunk()
			if err != nil {
				return err
			}
			return c.SetHash(make([]byte, 16))
		}), decodeSyscall, "fetchChunk.hash: 16 bytes, and a digest has 32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.decode(tt.bytes); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want an error with %q", err, tt.want)
			}
		})
	}
}

// TestDecoderRefusesAmplification has 64 parameters share the bytes of one text.
func TestDecoderRefusesAmplification(t *testing.T) {
	b := built(t, compute.NewRootJobRequest, func(s compute.JobRequest) error {
		l, err := s.NewParams(maxParams)
		if err != nil {
			return err
		}
		text, err := capnp.NewText(s.Segment(), strings.Repeat("x", 1<<20))
		for i := range maxParams {
			if err == nil {
				err = capnp.Struct(l.At(i)).SetPtr(1, text.ToPtr())
			}
		}
		return err
	})
	if _, err := DecodeJob(b); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%v; want a refusal at the traversal limit", err)
	}
}

func TestDecodedMessageSharesNothingWithItsBytes(t *testing.T) {
	for _, s := range samples() {
		b, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xff
		}
		if !reflect.DeepEqual(v, s.value) {
			t.Errorf("%s changed with the bytes it came from", s.name())
		}
	}
}

// TestBytesOfOlderSchemasDecode cuts the sections of the root short, as they are
// in what a program built with an older schema sends: each field is as it was, or
// has no value.
func TestBytesOfOlderSchemasDecode(t *testing.T) {
	for _, s := range samples() {
		full, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		msg := capnp.Message{Arena: capnp.SingleSegment(full)}
		root, err := msg.Root()
		if err != nil {
			t.Fatal(err)
		}
		size := root.Struct().Size()
		for data := capnp.Size(0); data <= size.DataSize; data += 8 {
			for pointers := uint16(0); pointers <= size.PointerCount; pointers++ {
				older := func(seg *capnp.Segment) (capnp.Struct, error) {
					return capnp.NewRootStruct(seg, capnp.ObjectSize{DataSize: data, PointerCount: pointers})
				}
				v, err := s.decode(built(t, older, func(to capnp.Struct) error { return to.CopyFrom(root.Struct()) }))
				if err != nil {
					t.Errorf("%s with %d bytes and %d pointers: %v", s.name(), data, pointers, err)
					continue
				}
				kept := 0
				got, want := reflect.ValueOf(v), reflect.ValueOf(s.value)
				for i := range got.NumField() {
					switch {
					case !got.Type().Field(i).IsExported(), valueless(got.Field(i)):
					case reflect.DeepEqual(got.Field(i).Interface(), want.Field(i).Interface()):
						kept++
					default:
						t.Errorf("%s with %d bytes and %d pointers: %s is %v", s.name(), data, pointers, got.Type().Field(i).Name, got.Field(i))
					}
				}
				if none := data == 0 && pointers == 0; none && kept > 0 || data == size.DataSize && kept == 0 {
					t.Errorf("%s with %d bytes and %d pointers has %d fields", s.name(), data, pointers, kept)
				}
			}
		}
	}
}

// valueless reports whether v is zero, or leads to what is.
func valueless(v reflect.Value) bool {
	if k := v.Kind(); (k == reflect.Pointer || k == reflect.Interface) && !v.IsNil() {
		return valueless(v.Elem())
	}
	return v.IsZero()
}

func TestProseIsCutAndNeverRefused(t *testing.T) {
	tests := []struct{ in, want string }{
		{"short", "short"},
		{"a\xffb", "a\uFFFDb"},
		{strings.Repeat("x", maxText), strings.Repeat("x", maxText)},
		{strings.Repeat("x", maxText+1), strings.Repeat("x", maxText-len(cut)) + cut},
		{strings.Repeat("ä", maxText), strings.Repeat("ä", (maxText-len(cut))/2) + cut},
		{strings.Repeat("\xff", maxText), "\uFFFD"},
	}
	for _, tt := range tests {
		b, err := Progress{Message: tt.in}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := DecodeProgress(b)
		if err != nil {
			t.Fatal(err)
		}
		if p.Message != tt.want || !utf8.ValidString(p.Message) {
			t.Errorf("%.20q... became %.20q...", tt.in, p.Message)
		}
	}
}

func TestJobRoundTrip(t *testing.T) {
	values := rapid.OneOf(
		rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.Float64().AsAny(),
		rapid.SliceOfN(rapid.Byte(), 1, 100).AsAny(),
	)
	params := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Param {
		return Param{rapid.StringN(0, 20, maxName).Draw(t, "name"), values.Draw(t, "value")}
	}), 1, maxParams)
	rapid.Check(t, func(t *rapid.T) {
		in := Job{
			ID: rapid.Uint64().Draw(t, "id"), Capability: rapid.StringN(0, -1, maxName).Draw(t, "capability"),
			Params: params.Draw(t, "params"), Priority: compute.Priority(rapid.IntRange(0, 4).Draw(t, "priority")),
			Deadline: rapid.Int64().Draw(t, "deadline"), Metadata: Metadata{TraceState: rapid.StringN(0, -1, maxText).Draw(t, "state")},
		}
		b, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(b)%8 != 0 {
			t.Fatalf("%d bytes", len(b))
		}
		out, err := DecodeJob(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("%+v became %+v", in, out)
		}
	})
}

// TestAnyByteMayBeWrong changes messages byte by byte: what comes out is refused
// or a message that can be sent on.
func TestAnyByteMayBeWrong(t *testing.T) {
	for _, s := range samples() {
		b, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for _, wrong := range []byte{b[i] ^ 1, b[i] ^ 0x80, ^b[i], b[i] + 8} {
				changed := bytes.Clone(b)
				changed[i] = wrong
				if err := stable(s.decode, changed); err != nil {
					t.Fatalf("%s, byte %d: %v", s.name(), i, err)
				}
			}
		}
	}
}

// stable decodes b and checks that what comes out of it can be sent, and comes
// out of that again.
func stable[V message](decode func([]byte) (V, error), b []byte) error {
	v, err := decode(b)
	if err != nil {
		if !errors.Is(err, ErrMalformed) {
			return fmt.Errorf("refused with another error: %w", err)
		}
		return nil
	}
	once, err := v.Encode()
	if err != nil {
		return fmt.Errorf("decoded, but cannot be encoded: %w", err)
	}
	if v, err = decode(once); err != nil {
		return fmt.Errorf("what was encoded cannot be decoded: %w", err)
	}
	twice, err := v.Encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(once, twice) {
		return fmt.Errorf("encoded as % x, and then as % x", once, twice)
	}
	return nil
}

func fuzz[V message](f *testing.F, decode func([]byte) (V, error)) {
	for _, s := range samples() {
		if _, ok := s.value.(V); ok {
			b, err := s.value.Encode()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := stable(decode, b); err != nil {
			t.Error(err)
		}
	})
}

func FuzzDecodeJob(f *testing.F)           { fuzz(f, DecodeJob) }
func FuzzDecodeResult(f *testing.F)        { fuzz(f, DecodeResult) }
func FuzzDecodeMetrics(f *testing.F)       { fuzz(f, DecodeMetrics) }
func FuzzDecodeProgress(f *testing.F)      { fuzz(f, DecodeProgress) }
func FuzzDecodeMetadata(f *testing.F)      { fuzz(f, DecodeMetadata) }
func FuzzDecodeError(f *testing.F)         { fuzz(f, DecodeError) }
func FuzzDecodeManifest(f *testing.F)      { fuzz(f, DecodeManifest) }
func FuzzDecodeConfiguration(f *testing.F) { fuzz(f, DecodeConfiguration) }
func FuzzDecodeAdoption(f *testing.F)      { fuzz(f, DecodeAdoption) }
func FuzzDecodeHeartbeat(f *testing.F)     { fuzz(f, DecodeHeartbeat) }
func FuzzDecodeCommand(f *testing.F)       { fuzz(f, DecodeCommand) }
func FuzzDecodeReply(f *testing.F)         { fuzz(f, DecodeReply) }
func FuzzDecodeSyscall(f *testing.F)       { fuzz(f, DecodeSyscall) }
func FuzzDecodeAnswer(f *testing.F)        { fuzz(f, DecodeAnswer) }

func TestExtremeNumbersTravel(t *testing.T) {
	in := Metrics{Wall: -1, CPU: math.MaxInt64, MemoryPeak: math.MaxUint64}
	b, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := DecodeMetrics(b)
	if err != nil {
		t.Fatal(err)
	}
	if in.Wall = 0; out != in {
		t.Errorf("%+v", out)
	}
	huge := built(t, compute.NewRootExecutionMetrics, func(s compute.ExecutionMetrics) error {
		s.SetWallTimeNs(math.MaxUint64)
		return nil
	})
	if m, err := DecodeMetrics(huge); err != nil || m.Wall != math.MaxInt64 {
		t.Errorf("%v, %v; want the longest duration", m.Wall, err)
	}
}

func TestErrorOfANewerKindIsStillAnError(t *testing.T) {
	b := built(t, base.NewRootError, func(s base.Error) error {
		s.SetCode(99)
		return s.SetMessage_("new trouble")
	})
	e, err := DecodeError(b)
	if err != nil || e.Code != base.Code_unknown || e.Message != "new trouble" {
		t.Errorf("%+v, %v", e, err)
	}
}
