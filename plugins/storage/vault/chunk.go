package vault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

// Bounds of a chunk's plaintext, in bytes.
const (
	MinChunk     = 512
	DefaultChunk = 1 << 20
	MaxChunk     = 16 << 20
)

const chunkMagic = "INOSCHK1"

// Offsets in a chunk file.
const (
	chunkAlgorithm = 8
	chunkPlain     = 12
	chunkNonce     = 16
	chunkHead      = chunkNonce + chacha20poly1305.NonceSizeX
)

// maxChunkFile is the longest a chunk file can be: what does not get smaller is
// stored as it is.
const maxChunkFile = chunkHead + MaxChunk + chacha20poly1305.Overhead

// sealChunk puts the file of a chunk into buf, from its start, and returns it.
func (s *secrets) sealChunk(buf []byte, chunk id, plain []byte, codec compression.Codec, random io.Reader) ([]byte, error) {
	file := append(buf[:0], make([]byte, chunkHead)...)
	copy(file, chunkMagic)
	file[chunkAlgorithm] = byte(codec.Algorithm())
	binary.LittleEndian.PutUint32(file[chunkPlain:], uint32(len(plain)))
	if _, err := io.ReadFull(random, file[chunkNonce:]); err != nil {
		return nil, err
	}
	file, err := codec.Compress(file, plain)
	if err != nil {
		return nil, err
	}
	if len(file)-chunkHead >= len(plain) {
		file[chunkAlgorithm] = byte(compression.None)
		file = append(file[:chunkHead], plain...)
	}
	ad := append(bytes.Clone(file[:chunkHead]), chunk[:]...)
	return s.chunks.Seal(file[:chunkHead], file[chunkNonce:chunkHead], file[chunkHead:], ad), nil
}

// unsealChunk checks the file of a chunk, decrypts it in place and returns the
// packed bytes, how they were packed, and the length of the plaintext.
func (s *secrets) unsealChunk(chunk id, file []byte) (packed []byte, a compression.Algorithm, plain int, err error) {
	if len(file) < chunkHead+chacha20poly1305.Overhead {
		return nil, 0, 0, fmt.Errorf("it has only %d bytes", len(file))
	}
	if !bytes.HasPrefix(file, []byte(chunkMagic)) {
		return nil, 0, 0, fmt.Errorf("it is not a chunk file of this version")
	}
	ad := append(bytes.Clone(file[:chunkHead]), chunk[:]...)
	packed, err = s.chunks.Open(file[chunkHead:chunkHead], file[chunkNonce:chunkHead], file[chunkHead:], ad)
	if err != nil {
		return nil, 0, 0, errSealed
	}
	n := binary.LittleEndian.Uint32(file[chunkPlain:])
	if n > MaxChunk {
		return nil, 0, 0, fmt.Errorf("it claims %d bytes, the most is %d", n, MaxChunk)
	}
	return packed, compression.Algorithm(file[chunkAlgorithm]), int(n), nil
}

// openChunk checks the file of a chunk and appends the plaintext to dst. It
// changes file.
func (s *secrets) openChunk(dst []byte, chunk id, file []byte) ([]byte, error) {
	packed, a, n, err := s.unsealChunk(chunk, file)
	if err != nil {
		return dst, err
	}
	codec, err := compression.New(a, compression.Default)
	if err != nil {
		return dst, err
	}
	out, err := codec.Decompress(dst, packed, n)
	if err != nil {
		return dst, err
	}
	plain := out[len(dst):]
	// The seal says that the vault wrote these bytes; this says that they are the
	// right ones, whatever a compressor may have done.
	if len(plain) != n || s.chunkID(hashing.Sum(plain)) != chunk {
		return dst, fmt.Errorf("it unpacks to other content")
	}
	return out, nil
}
