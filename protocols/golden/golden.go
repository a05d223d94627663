// Package golden keeps the bytes of every message on file, so that no change of a
// schema alters what is on the wire without anyone noticing. Tests alone import
// it; run them with -rewrite to write the files anew, and look at what changed: a
// byte that moved breaks every plugin there is.
//
// The samples come from the schemas themselves. A new struct, field or union
// member is covered as soon as it exists.
package golden

import (
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capnproto.org/go/capnp/v3"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// Check compares a sample of each struct with its file, testdata/NAME.golden, and
// what the bytes on file decode to with the text there. A struct with a union has
// a file for each member.
func Check(t *testing.T, s *Schemas) {
	files := map[string]bool{}
	for _, sample := range s.samples() {
		files[sample.name+".golden"] = true
		t.Run(sample.name, func(t *testing.T) {
			Compare(t, s, sample.name, sample.id, segment(t, func(seg *capnp.Segment) (capnp.Struct, error) {
				return sample.fill(seg, sample.size())
			}))
		})
	}
	left, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if !files[filepath.Base(path)] {
			t.Errorf("%s: no message has this name; a message that was sent once stays in the schema", path)
		}
	}
}

// Compare compares a message, a single segment whose root is a struct of the type
// id, with the file testdata/NAME.golden: its bytes, and the text that the bytes
// on file decode to. It returns the bytes on file.
func Compare(t *testing.T, s *Schemas, name string, id uint64, message []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s.text(t, id, message)+"\n"+hex.Dump(message)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s does not exist; run the test with -rewrite to write it", path)
	} else if err != nil {
		t.Fatal(err)
	}
	want, dump, _ := strings.Cut(string(file), "\n0000")
	kept := undump(t, "0000"+dump)
	if got := s.text(t, id, kept); got != want {
		t.Errorf("%s decodes to\n%s", path, got)
	}
	if string(message) != string(kept) {
		t.Errorf("%s: the bytes are now\n%s", path, hex.Dump(message))
	}
	return kept
}

// CheckOlder decodes what programs built with an older schema send: structs whose
// sections are shorter. What they lack must read as the default, and the rest as
// it was. Structs of a newer schema, whose sections are longer, must read the same.
func CheckOlder(t *testing.T, s *Schemas) {
	for _, sample := range s.samples() {
		t.Run(sample.name, func(t *testing.T) {
			full := sample.size()
			for words := capnp.Size(0); words <= full.DataSize/8+1; words++ {
				for pointers := uint16(0); pointers <= full.PointerCount+1; pointers++ {
					size := capnp.ObjectSize{DataSize: words * 8, PointerCount: pointers}
					other := segment(t, func(seg *capnp.Segment) (capnp.Struct, error) {
						from, err := sample.fill(seg, full)
						if err != nil {
							return from, err
						}
						to, err := capnp.NewStruct(seg, size)
						if err != nil {
							return to, err
						}
						return to, to.CopyFrom(from)
					})
					ours := segment(t, func(seg *capnp.Segment) (capnp.Struct, error) { return sample.fill(seg, size) })
					if got, want := s.text(t, sample.id, other), s.text(t, sample.id, ours); got != want {
						t.Errorf("%v decodes to\n%s\nand not to\n%s", size, got, want)
					}
				}
			}
		})
	}
}

// segment returns the bytes of a message with the root that build makes.
func segment(t *testing.T, build func(*capnp.Segment) (capnp.Struct, error)) []byte {
	t.Helper()
	msg, seg, err := capnp.NewMessage(capnp.SingleSegment(nil))
	if err != nil {
		t.Fatal(err)
	}
	root, err := build(seg)
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.SetRoot(root.ToPtr()); err != nil {
		t.Fatal(err)
	}
	return seg.Data()
}

// undump is the inverse of hex.Dump.
func undump(t *testing.T, dump string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(dump) {
		if len(line) < 60 {
			continue // the offset at the end
		}
		row, err := hex.DecodeString(strings.ReplaceAll(line[9:58], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, row...)
	}
	return b
}
