package hashing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func vectorInput(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestBLAKE3MatchesPublishedVectors(t *testing.T) {
	for _, v := range vectors {
		in := vectorInput(v.bytes)
		if got := Sum(in).String(); got != v.plain {
			t.Errorf("%d bytes: plain %s, want %s", v.bytes, got, v.plain)
		}
		if got := SumKeyed(Key([]byte(vectorKey)), in).String(); got != v.keyed {
			t.Errorf("%d bytes: keyed %s, want %s", v.bytes, got, v.keyed)
		}
		if got := Digest(Derive(vectorContext, in)).String(); got != v.derive {
			t.Errorf("%d bytes: derived %s, want %s", v.bytes, got, v.derive)
		}
	}
}

// Examples of FIPS 180-4 as NIST publishes them.
func TestSHA256MatchesNIST(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{strings.Repeat("a", 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
	} {
		if got := SumSHA256([]byte(c.in)).String(); got != c.want {
			t.Errorf("%.20q: %s, want %s", c.in, got, c.want)
		}
		h := NewSHA256()
		if _, err := io.Copy(h, iotest.HalfReader(strings.NewReader(c.in))); err != nil {
			t.Fatal(err)
		}
		if got := h.Sum().String(); got != c.want {
			t.Errorf("%.20q streamed: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestHasherEqualsOneShotForAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := Key(rapid.SliceOfN(rapid.Byte(), Size, Size).Draw(t, "key"))
		plain, keyed := New(), NewKeyed(key)
		if rapid.Bool().Draw(t, "used before") {
			_, _ = plain.Write([]byte("rest of a stream"))
			_, _ = keyed.Write([]byte("rest of a stream"))
			plain.Reset()
			keyed.Reset()
		}
		var all []byte
		for _, part := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 2500), 0, 8).Draw(t, "parts") {
			all = append(all, part...)
			_, _ = plain.Write(part)
			_, _ = keyed.Write(part)
			if plain.Sum() != Sum(all) || keyed.Sum() != SumKeyed(key, all) {
				t.Fatalf("streamed digest differs after %d bytes", len(all))
			}
		}
		if plain.Bytes() != uint64(len(all)) {
			t.Fatalf("counted %d bytes of %d", plain.Bytes(), len(all))
		}
		d, n, err := SumReader(iotest.OneByteReader(bytes.NewReader(all)))
		if err != nil || d != Sum(all) || n != int64(len(all)) {
			t.Fatalf("SumReader: %v, %d, %v", d, n, err)
		}
	})
}

func TestSumReaderReturnsTheReadersError(t *testing.T) {
	broken := errors.New("cable pulled")
	_, n, err := SumReader(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || n != 3 {
		t.Fatalf("got %d, %v", n, err)
	}
}

func TestSaltAndDataDoNotMix(t *testing.T) {
	seen := map[Digest]string{}
	for _, c := range [][2]string{{"", ""}, {"a", ""}, {"", "a"}, {"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}} {
		d := SumSalted([]byte(c[0]), []byte(c[1]))
		if other, ok := seen[d]; ok {
			t.Errorf("%q collides with %s", c, other)
		}
		seen[d] = fmt.Sprint(c)
		if d == Sum([]byte(c[0]+c[1])) || d == Sum([]byte(c[1]+c[0])) {
			t.Errorf("%q: a salted hash equals a plain one", c)
		}
	}
}

func TestVerifyNamesBothDigests(t *testing.T) {
	want := Sum([]byte("this"))
	if err := Verify([]byte("this"), want); err != nil {
		t.Fatal(err)
	}
	err := Verify([]byte("that"), want)
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), want.String()) {
		t.Fatalf("got %v", err)
	}
}

func TestDigestText(t *testing.T) {
	d := Sum([]byte("x"))
	text, err := d.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back Digest
	if err := back.UnmarshalText(bytes.ToUpper(text)); err != nil || back != d {
		t.Fatalf("got %s, %v", back, err)
	}
	for _, bad := range []string{"", "ab", d.String() + "0", strings.Repeat("g", 64)} {
		if err := back.UnmarshalText([]byte(bad)); !errors.Is(err, ErrDigest) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	if back != d {
		t.Error("refused text changed the digest")
	}
	if d.IsZero() || !(Digest{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	k := Key([]byte(vectorKey))
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		if s := fmt.Sprintf(verb, k); strings.Contains(s, "Elvish") || !strings.Contains(s, "hidden") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	data := vectorInput(1 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Sum(data)
	}
}
