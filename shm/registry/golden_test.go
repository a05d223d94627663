package registry

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares b with testdata/name.golden, a hex dump.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	got := []byte(hex.Dump(b))
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the bytes are\n%s\nbut must be\n%s", name, got, want)
	}
}

func TestRecordsAreTheGoldenBytes(t *testing.T) {
	m := ml()
	detail, dependencies := encodeDetail(&m)
	capabilities := encodeCapabilities(&m)
	entry := encodeEntry(&m, tables{
		capability: 0x102, capabilities: uint16(len(m.Capabilities)),
		dependency: 0x304, dependencies: uint16(len(m.Dependencies)), detail: 0x1508, detailLength: uint32(len(detail)),
	})
	golden(t, "entry", entry[:])
	golden(t, "capabilities", capabilities)
	golden(t, "dependencies", dependencies)
	golden(t, "detail", detail)

	back, err := decode(&entry, capabilities, dependencies, detail)
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

// TestTableIsTheGoldenBytes holds the whole table fast, headers and generations
// included: what another process maps.
func TestTableIsTheGoldenBytes(t *testing.T) {
	w, _, areas := newTable(t)
	register(t, w, ml())
	register(t, w, small(1))
	if err := w.Remove("module-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Update("ml", StateDraining, 1, 9); err != nil {
		t.Fatal(err)
	}
	golden(t, "registry", areas.Registry.Bytes())
}

func TestPlacesAreTheGoldenOnes(t *testing.T) {
	var b bytes.Buffer
	for _, id := range []string{"gpu", "storage", "crypto", "ml", "image", "audio", "data", "mining", "physics", "science", "compute", "drivers"} {
		crc, fnv1a := hashes(id)
		fmt.Fprintf(&b, "%s %08x %08x", id, crc, fnv1a)
		n := 0
		for place := range probe(crc, fnv1a) {
			if fmt.Fprintf(&b, " %d", place); n == 3 {
				break
			}
			n++
		}
		b.WriteByte('\n')
	}
	golden(t, "places", b.Bytes())
}
