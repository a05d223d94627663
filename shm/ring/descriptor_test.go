package ring

import (
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// golden is a descriptor with a different value in every field, and its line at
// position 6. The second process of TestGoldenBytesCrossProcesses compares with
// the same.
var golden = Descriptor{
	Kind:   system.DescriptorKind_submit,
	Flags:  1<<system.DescriptorFlag_hasHead | 1<<system.DescriptorFlag_last,
	Job:    0x1122334455667788,
	Status: 0x0a0b,
	Aux:    0x0c0d0e0f,
	Ref:    arena.Ref{Arena: 0x0102, Slot: 0x03040506, Generation: 0x0708090a, Offset: 0x1112131415161718, Length: 0x2122232425262728},
	Args:   [2]uint64{0x3132333435363738, 0x4142434445464748},
}

const goldenLine = "07000000" + // sequence
	"0200" + "0500" + // kind, flags
	"8877665544332211" + // job
	"0201" + "0b0a" + "06050403" + // arena, status, slot
	"0a090807" + "0f0e0d0c" + // generation, aux
	"1817161514131211" + "2827262524232221" + // offset, length
	"3837363534333231" + "4847464544434241" // args

const goldenPosition = 6

func TestDescriptorBytes(t *testing.T) {
	want, err := hex.DecodeString(goldenLine)
	if err != nil || len(want) != Size {
		t.Fatalf("%d golden bytes, %v", len(want), err)
	}
	line := [Size]byte{0: sequenceByte}
	golden.Encode(&line)
	if got := hex.EncodeToString(line[:]); got != goldenLine {
		t.Errorf("encoded\n%s, want\n%s", got, goldenLine)
	}
	var d Descriptor
	d.Decode((*[Size]byte)(want))
	if d != golden {
		t.Errorf("decoded %+v", d)
	}
}

const sequenceByte = goldenPosition + 1

func TestFlags(t *testing.T) {
	var d Descriptor
	d.Set(system.DescriptorFlag_last)
	if !d.Has(system.DescriptorFlag_last) || d.Has(system.DescriptorFlag_hasHead) || d.Flags != 4 {
		t.Errorf("flags %b", d.Flags)
	}
}

func TestDescriptorSurvivesTheLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawDescriptor(t)
		var line [Size]byte
		want.Encode(&line)
		var got Descriptor
		got.Decode(&line)
		if got != want {
			t.Fatalf("%+v became %+v", want, got)
		}
	})
}

func drawDescriptor(t *rapid.T) Descriptor {
	return Descriptor{
		Kind:   system.DescriptorKind(rapid.Uint16().Draw(t, "kind")),
		Flags:  rapid.Uint16().Draw(t, "flags"),
		Job:    rapid.Uint64().Draw(t, "job"),
		Status: rapid.Uint16().Draw(t, "status"),
		Aux:    rapid.Uint32().Draw(t, "aux"),
		Ref: arena.Ref{
			Arena: rapid.Uint16().Draw(t, "arena"), Slot: rapid.Uint32().Draw(t, "slot"),
			Generation: rapid.Uint32().Draw(t, "generation"),
			Offset:     rapid.Uint64().Draw(t, "offset"), Length: rapid.Uint64().Draw(t, "length"),
		},
		Args: [2]uint64{rapid.Uint64().Draw(t, "first"), rapid.Uint64().Draw(t, "second")},
	}
}

// FuzzDescriptorDecode: any line decodes, and to nothing less than all of it.
func FuzzDescriptorDecode(f *testing.F) {
	line, err := hex.DecodeString(goldenLine)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(make([]byte, Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < Size {
			return
		}
		in := [Size]byte(b[:Size])
		var d Descriptor
		d.Decode(&in)
		out := [Size]byte{in[0], in[1], in[2], in[3]}
		d.Encode(&out)
		if in != out {
			t.Fatalf("%x became %x", in, out)
		}
	})
}
