package segment

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"inos/protocols/system/v1"
	"inos/shm/layout"
)

// goldenHeaders are one header of each kind, field by field as in the table of
// header.go. They are what other languages are written against.
func goldenHeaders(t testing.TB) map[string][2][]byte {
	t.Helper()
	link, err := layout.Link(128)
	if err != nil {
		t.Fatal(err)
	}
	var c, l, p [headerBytes]byte
	(&controlHeader{newPreamble(system.SegmentMagic, layout.Control().Size()), []byte("a node")}).encode(c[:])
	lh := linkHeader{newPreamble(system.LinkMagic, link.Size()), link.Hash(), 0x01020304, 0x05060708}
	lh.number = 128
	lh.encode(l[:])
	ph := parcel{newPreamble(system.SegmentMagic, 0x200000), layout.Control().Size(), link.Size()}
	ph.number = 2
	ph.encode(p[:])
	const abi, hash = "01000100", "1cfd3d66fc100852"
	zeroes := func(n int) string { return strings.Repeat("00", n) }
	golden := map[string][2][]byte{}
	for name, h := range map[string]struct {
		got  [headerBytes]byte
		want string
	}{
		"control": {c, hex.EncodeToString([]byte("1GESSONI")) + abi + "00000000" + hash + "00b0080000000000" +
			hex.EncodeToString([]byte("a node")) + zeroes(26)},
		"link": {l, hex.EncodeToString([]byte("1KNLSONI")) + abi + "80000000" + hash + "00c0000000000000" +
			"bd6f9874ed661efc" + "04030201" + "08070605" + zeroes(16)},
		"message": {p, hex.EncodeToString([]byte("1GESSONI")) + abi + "02000000" + hash + "0000200000000000" +
			"00b0080000000000" + "00c0000000000000" + zeroes(16)},
	} {
		want, err := hex.DecodeString(h.want)
		if err != nil {
			t.Fatal(err)
		}
		golden[name] = [2][]byte{h.got[:], want}
	}
	return golden
}

func TestHeaderBytes(t *testing.T) {
	for name, h := range goldenHeaders(t) {
		if !bytes.Equal(h[0], h[1]) {
			t.Errorf("%s is\n%x, want\n%x", name, h[0], h[1])
		}
	}
}

// parsers run the parser of one kind of header.
var parsers = map[string]func([]byte) error{
	"control": func(b []byte) error { var h controlHeader; return h.parse(b) },
	"link":    func(b []byte) error { var h linkHeader; _, err := h.parse(b); return err },
	"message": func(b []byte) error { var h parcel; return h.parse(b) },
}

func TestHeadersOfOthersAreRefused(t *testing.T) {
	for name, golden := range goldenHeaders(t) {
		parse := parsers[name]
		if err := parse(golden[0]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, at := range map[string]int{"magic": 3, "major": 8, "layout": 20, "size": 24} {
			b := bytes.Clone(golden[0])
			b[at]++
			if err := parse(b); !errors.Is(err, ErrIncompatible) {
				t.Errorf("%s with another %s: %v", name, what, err)
			}
		}
		for n := range headerBytes {
			if err := parse(golden[0][:n]); !errors.Is(err, ErrIncompatible) {
				t.Errorf("%d bytes of %s: %v", n, name, err)
			}
		}
		newer := bytes.Clone(golden[0])
		newer[10]++
		if err := parse(newer); err != nil {
			t.Errorf("%s of a newer node: %v", name, err)
		}
	}
	b := goldenHeaders(t)["link"][0]
	for _, entries := range []uint32{0, 1, 64, 100, 1 << 31, 1<<32 - 1} {
		le.PutUint32(b[12:], entries)
		if err := parsers["link"](b); !errors.Is(err, ErrIncompatible) {
			t.Errorf("a link of %d entries: %v", entries, err)
		}
	}
}

// FuzzHeaders: no bytes make a parser panic, and what one accepts is mapped
// within its bounds.
func FuzzHeaders(f *testing.F) {
	for _, h := range goldenHeaders(f) {
		f.Add(h[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range parsers {
			if err := parse(b); err != nil && !errors.Is(err, ErrIncompatible) {
				t.Errorf("%s: %v", name, err)
			}
		}
		var l linkHeader
		if table, err := l.parse(b); err == nil && (table.Check() != nil || table.Size() != l.bytes) {
			t.Errorf("accepted a link of %d bytes for\n%s", l.bytes, table)
		}
		var p parcel
		if p.parse(b) == nil && (p.control%page != 0 || p.link > maxPart || p.bytes == 0 || p.number == 0) {
			t.Errorf("accepted %+v", p)
		}
	})
}
