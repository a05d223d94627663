package wire

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos/protocols/system/v1"
)

var someSpecs = []ParamSpec{
	{Name: "name", Required: true},
	{Name: "fast", Kind: system.ParamKind_bool},
	{Name: "level", Kind: system.ParamKind_int, Default: "3", Choices: []string{"1", "3", "-9"}},
	{Name: "limit", Kind: system.ParamKind_uint},
	{Name: "ratio", Kind: system.ParamKind_float, Default: "0.5"},
	{Name: "hash", Kind: system.ParamKind_data, Choices: []string{"0x0102", "base64:AwQ="}},
}

func TestParamsAreRead(t *testing.T) {
	tests := []struct {
		in   []string
		want Params
	}{
		{[]string{"name=x"}, Params{{"name", "x"}, {"level", int64(3)}, {"ratio", 0.5}}},
		{
			[]string{"hash=0x0102", "ratio=1e-3", "limit=0x10", "level=-9", "fast=true", "name=a=b"},
			Params{{"name", "a=b"}, {"fast", true}, {"level", int64(-9)}, {"limit", uint64(16)}, {"ratio", 1e-3}, {"hash", []byte{1, 2}}},
		},
		{[]string{"name=", "hash=base64:AQI="}, Params{{"name", ""}, {"level", int64(3)}, {"ratio", 0.5}, {"hash", []byte{1, 2}}}},
		{[]string{"name=x", "level=0x3"}, Params{{"name", "x"}, {"level", int64(3)}, {"ratio", 0.5}}},
	}
	for _, tt := range tests {
		got, err := ParseParams(someSpecs, tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
		if again, err := CheckParams(someSpecs, got); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%v, checked once more: %v, %v", got, again, err)
		}
	}
}

func TestParamsAreRefused(t *testing.T) {
	tests := []struct {
		in   []string
		want string
	}{
		{nil, "name: missing; accepted are name=TEXT (required), fast=BOOL, level=INT (1, 3 or -9; default 3), limit=UINT, ratio=FLOAT (default 0.5), hash=DATA (0x0102 or base64:AwQ=)"},
		{[]string{"name"}, `"name": write name=value; name: missing; accepted are`},
		{[]string{"name=x", "nmae=y"}, `"nmae": there is no such parameter; accepted`},
		{[]string{"name=x", "name=y"}, "name: given twice; accepted"},
		{[]string{"name=x", "fast=maybe"}, `fast: "maybe" is not true or false; accepted`},
		{[]string{"name=x", "level=three"}, `level: "three" is not a whole number of 64 bits; accepted`},
		{[]string{"name=x", "level=2"}, `level: "2" is not among its choices; accepted`},
		{[]string{"name=x", "limit=-1"}, `limit: "-1" is not a whole number of 64 bits that is not negative; accepted`},
		{[]string{"name=x", "ratio="}, `ratio: "" is not a number; accepted`},
		{[]string{"name=x", "hash=0102"}, `hash: "0102" is not bytes, hexadecimal behind`},
		{[]string{"name=x", "hash=0x1"}, `hash: "0x1" is not bytes`},
		{[]string{"name=x", "hash=0x05"}, "is not among its choices; accepted"},
		{[]string{"level=2", "limit=-1"}, `level: "2" is not among its choices; limit: "-1" is not a whole number of 64 bits that is not negative; name: missing; accepted`},
		{[]string{"name=x", "ratio=" + strings.Repeat("9", 80) + "x"}, strings.Repeat("9", 64) + `"... is not a number`},
		{[]string{"name=\xff"}, `name: "\xff" is not UTF-8`},
	}
	for _, tt := range tests {
		p, err := ParseParams(someSpecs, tt.in)
		if p != nil || !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, %v; want %q", tt.in, p, err, tt.want)
		}
	}
	if _, err := ParseParams(nil, []string{"a=b"}); err == nil || !strings.HasSuffix(err.Error(), "; no parameters are accepted") {
		t.Error(err)
	}
	if _, err := ParseParams(someSpecs, make([]string, 1000)); err == nil || !strings.Contains(err.Error(), "; and 969 more;") {
		t.Error(err)
	}
}

func TestValuesAreConvertedWhenNothingIsLost(t *testing.T) {
	kinds := func(k system.ParamKind) []ParamSpec { return []ParamSpec{{Name: "p", Kind: k}} }
	tests := []struct {
		kind system.ParamKind
		in   any
		want any // nil if it is refused
	}{
		{system.ParamKind_text, "x", "x"},
		{system.ParamKind_text, []byte("x"), nil},
		{system.ParamKind_text, int64(1), nil},
		{system.ParamKind_text, "\xff", nil},
		{system.ParamKind_bool, false, false},
		{system.ParamKind_bool, "true", nil},
		{system.ParamKind_bool, uint64(1), nil},
		{system.ParamKind_int, uint64(7), int64(7)},
		{system.ParamKind_int, uint64(1 << 63), nil},
		{system.ParamKind_int, 7.0, nil},
		{system.ParamKind_int, 7, nil},
		{system.ParamKind_uint, int64(7), uint64(7)},
		{system.ParamKind_uint, int64(-7), nil},
		{system.ParamKind_float, int64(-7), -7.0},
		{system.ParamKind_float, uint64(1 << 53), float64(1 << 53)},
		{system.ParamKind_float, uint64(1<<53 + 1), nil},
		{system.ParamKind_float, int64(math.MinInt64), nil},
		{system.ParamKind_data, []byte{1}, []byte{1}},
		{system.ParamKind_data, []byte(nil), []byte(nil)},
		{system.ParamKind_data, "x", nil},
		{system.ParamKind_data, nil, nil},
		{99, "x", nil},
	}
	for _, tt := range tests {
		got, err := CheckParams(kinds(tt.kind), Params{{"p", tt.in}})
		switch {
		case tt.want == nil && (err == nil || !errors.Is(err, ErrInvalidArgument)):
			t.Errorf("%T %v as %v: %v", tt.in, tt.in, tt.kind, got)
		case tt.want != nil && (err != nil || !reflect.DeepEqual(got, Params{{"p", tt.want}})):
			t.Errorf("%T %v as %v: %#v, %v", tt.in, tt.in, tt.kind, got, err)
		}
	}
}

func TestGettersKnowNameAndKind(t *testing.T) {
	p := sampleParams
	if p.Text("text") != "värld" || !p.Bool("bool") || p.Int("int") != -7 || p.Uint("uint") != 1<<63 || p.Float("float") != 0.5 || len(p.Data("data")) != 2 {
		t.Errorf("%v", p)
	}
	if p.Text("int") != "" || p.Int("uint") != 0 || p.Bool("none") || p.Uint("text") != 0 || p.Float("int") != 0 || p.Data("text") != nil {
		t.Error("a value of another kind, or of no name")
	}
	if !p.Has("float") || p.Has("none") || Params(nil).Has("") {
		t.Error("Has is wrong")
	}
}

func TestWhatIsAcceptedIsOfItsKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := ParamSpec{Name: "p", Kind: system.ParamKind(rapid.IntRange(0, 5).Draw(t, "kind"))}
		text := rapid.OneOf(
			rapid.String(), rapid.StringMatching(`[+-]?(0x|0b|)[0-9a-f_.]{1,20}`), rapid.StringMatching(`0x[0-9a-f]*`),
			rapid.SampledFrom([]string{"true", "F", "1", "NaN", "-Inf", "base64:", "base64:AA=="}),
		).Draw(t, "text")
		p, err := ParseParams([]ParamSpec{spec}, []string{"p=" + text})
		if err != nil {
			return
		}
		again, err := CheckParams([]ParamSpec{spec}, p)
		if err != nil || len(again) != 1 || reflect.TypeOf(again[0].Value) != reflect.TypeOf(p[0].Value) {
			t.Fatalf("%q as %v became %#v, and then %#v, %v", text, spec.Kind, p, again, err)
		}
		if _, err := (Job{Params: p}).Encode(); err != nil {
			t.Fatalf("%q as %v cannot be sent: %v", text, spec.Kind, err)
		}
	})
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{"name=x", "level=3", "hash=base64:AwQ=", "ratio=1e309", "=", "fast"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseParams(someSpecs, []string{"name=x", text})
		if err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("refused with another error: %v", err)
		}
		if _, encErr := (Job{Params: p}).Encode(); err == nil && encErr != nil {
			t.Errorf("accepted, but cannot be sent: %v", encErr)
		}
	})
}
