package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// keystream is the endless stream of bytes that a key stands for: AES in counter
// mode under its BLAKE3. It is computed here apart from the plugin's code.
func keystream(key string) cipher.Stream {
	sum := blake3.Sum256([]byte(key))
	b, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err) // a key of 32 bytes is always taken
	}
	return cipher.NewCTR(b, make([]byte, aes.BlockSize))
}

// input is the input of a job: so many bytes of the keystream of its key.
type input struct {
	from cipher.Stream
	left int64
}

func newInput(key string, size int64) *input { return &input{keystream("input " + key), size} }

// Read implements io.Reader.
func (s *input) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.left)]
	clear(p)
	s.from.XORKeyStream(p, p)
	s.left -= int64(len(p))
	return len(p), nil
}

// judge takes the answer to a job and says whether it is right.
type judge interface {
	io.Writer
	// err is nil when the answer is whole and right.
	err() error
}

// mixed expects the input of a job, encrypted.
type mixed struct {
	want *input
	with cipher.Stream
	at   int64
	bad  error
	buf  []byte
}

func newMixed(key string, size int64) *mixed {
	return &mixed{want: newInput(key, size), with: keystream(key)}
}

// Write implements io.Writer. It takes everything, right or wrong.
func (m *mixed) Write(p []byte) (int, error) {
	for rest := p; m.bad == nil && len(rest) > 0; {
		if m.buf == nil {
			m.buf = make([]byte, 64<<10)
		}
		n, _ := m.want.Read(m.buf[:min(len(rest), len(m.buf))])
		if n == 0 {
			m.bad = fmt.Errorf("%d bytes too many after byte %d", len(rest), m.at)
			break
		}
		want := m.buf[:n]
		m.with.XORKeyStream(want, want)
		if !bytes.Equal(want, rest[:n]) {
			i := 0
			for want[i] == rest[i] {
				i++
			}
			m.bad = fmt.Errorf("byte %d is %#02x, not %#02x", m.at+int64(i), rest[i], want[i])
		}
		m.at += int64(n)
		rest = rest[n:]
	}
	return len(p), nil
}

func (m *mixed) err() error {
	if m.bad == nil && m.want.left > 0 {
		return fmt.Errorf("only %d bytes, %d are missing", m.at, m.want.left)
	}
	return m.bad
}

// exactly expects a few bytes.
type exactly struct {
	want []byte
	got  []byte
}

// hashed expects the BLAKE3 of the input of a job.
func hashed(key string, size int64) *exactly {
	h := blake3.New()
	_, _ = io.Copy(h, newInput(key, size)) // neither fails
	return &exactly{want: h.Sum(nil)}
}

// Write implements io.Writer.
func (e *exactly) Write(p []byte) (int, error) {
	e.got = append(e.got, p[:min(len(p), 1<<10)]...)
	return len(p), nil
}

func (e *exactly) err() error {
	if !bytes.Equal(e.got, e.want) {
		return fmt.Errorf("it is %x, not %x", e.got, e.want)
	}
	return nil
}
