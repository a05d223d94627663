package vault

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

// TestFormatOnDiskIsFixed makes a vault without randomness and compares every file
// with what earlier versions wrote. A difference means that vaults in the field
// cannot be read any more: give the format a new number instead.
func TestFormatOnDiskIsFixed(t *testing.T) {
	const golden = "testdata/format.golden"
	disk := newMemFS()
	o := testOptions(disk)
	o.Random = zeros{}
	o.Now = func() time.Time { return time.Unix(1_700_000_000, 123456789) }
	v := open(t, o)
	none, err := compression.New(compression.None, compression.Default)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Put(context.Background(), "größe", strings.NewReader(blocks("12")+"tail"), PutOptions{Codec: none}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.PutChunk(context.Background(), []byte("loose"), PutOptions{Codec: none}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	files := disk.image()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		content := files[path]
		fmt.Fprintf(&got, "%s %d %s\n", path, len(content), hashing.Sum([]byte(content)))
	}
	if *rewrite {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the format has changed. Got:\n%swant:\n%s", got.String(), want)
	}
}

func FuzzOpenHeader(f *testing.F) {
	phrase, err := Passphrase("correct horse")
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range []Key{testKey, phrase} {
		b, _, err := newHeader(k, cheap, zeros{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:headerCheck])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := hashing.Sum(b)
		// With a checksum that holds, so that what is behind it is reached.
		_, err := openHeader(append(bytes.Clone(b), check[:]...), testKey)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKey) {
			t.Fatalf("untyped error %v", err)
		}
	})
}

func FuzzOpenChunk(f *testing.F) {
	s := newSecrets(hashing.Key{1})
	codec, err := compression.New(compression.Zstd, compression.Default)
	if err != nil {
		f.Fatal(err)
	}
	chunk := s.chunkID(hashOf("content"))
	file, err := s.sealChunk(nil, chunk, []byte("content"), codec, zeros{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:chunkHead])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := s.openChunk(nil, chunk, bytes.Clone(b))
		if err == nil && (string(got) != "content" || !bytes.Equal(b, file)) {
			t.Fatalf("a forged file gives %q", got)
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	s := newSecrets(hashing.Key{1})
	m := &manifest{Info: Info{Name: "größe", Size: 3, Chunks: 2, Created: time.Unix(1, 2), Modified: time.Unix(3, 4)},
		entries: []entry{{id{1}, 1, 5}, {id{2}, 2, 6}}}
	object := s.objectID(m.Name)
	file, err := s.sealManifest(object, m, zeros{})
	if err != nil {
		f.Fatal(err)
	}
	// The plaintext is what is worth fuzzing: nothing else gets through the seal.
	body, err := s.objects.Open(nil, file[manifestNonce:manifestHead], file[manifestHead:],
		append(bytes.Clone(file[:manifestHead]), object[:]...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:len(body)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		object := s.objectID(m.Name)
		file, err := s.sealManifest(object, m, zeros{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.openManifest(object, file)
		if err != nil || again.Info != m.Info || !slices.Equal(again.entries, m.entries) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	good := formatKey(testKey.secret)
	f.Add(good)
	f.Add(keyFilePrefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKey(text)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if got := formatKey(k.secret); !strings.EqualFold(strings.TrimSuffix(got, "\n"), strings.TrimSuffix(text, "\n")) {
			t.Fatalf("%q and %q are one key", text, got)
		}
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "vault")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder of the example alone
	ctx := context.Background()

	key, _, err := LoadOrCreateKeyFile(dir + "/vault.key")
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := Open(Options{Dir: dir + "/vault", Key: key})
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := v.Put(ctx, "greeting", strings.NewReader("Hello, world!\n"), PutOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.Name, info.Size, info.Digest)
	r, err := v.Get(ctx, "greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.Copy(os.Stdout, r); err != nil {
		fmt.Println(err)
	}
	if err := errors.Join(r.Close(), v.Close()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// greeting 14 94f1675bac4f8bc3c593c63dbf5fe78a0bfda01082af85d5b41a65096db56bff
	// Hello, world!
}
