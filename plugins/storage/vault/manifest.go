package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

// MaxChunks is the most chunks that an object may have. With chunks of the
// default size that makes 1 TiB.
const MaxChunks = 1 << 20

// Info describes an object.
type Info struct {
	Name        string
	Size        uint64                // bytes
	Digest      hashing.Digest        // BLAKE3 of the content
	Compression compression.Algorithm // that it was put with
	Chunks      int
	Stored      uint64    // bytes of its chunk files, shared ones included
	Created     time.Time // when the name was first put
	Modified    time.Time // when this content was put
}

// entry is one chunk of an object.
type entry struct {
	chunk  id
	plain  uint32 // bytes of the plaintext
	stored uint32 // bytes of the file
}

// manifest is the whole of what is known of an object.
type manifest struct {
	Info
	entries []entry
}

const manifestMagic = "INOSOBJ1"

const (
	manifestNonce = 8
	manifestHead  = manifestNonce + chacha20poly1305.NonceSizeX
	// manifestFixed is the length of the plaintext without name and entries.
	manifestFixed = 2 + 1 + 1 + 8 + 8 + 8 + hashing.Size + 4
	entrySize     = hashing.Size + 4 + 4
)

// maxManifestFile is the longest a manifest file can be.
const maxManifestFile = manifestHead + manifestFixed + MaxName + MaxChunks*entrySize + chacha20poly1305.Overhead

// sealManifest returns the manifest file of an object.
func (s *secrets) sealManifest(object id, m *manifest, random io.Reader) ([]byte, error) {
	n := manifestHead + manifestFixed + len(m.Name) + len(m.entries)*entrySize
	file := make([]byte, manifestHead, n+chacha20poly1305.Overhead)
	copy(file, manifestMagic)
	if _, err := io.ReadFull(random, file[manifestNonce:]); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	file = le.AppendUint16(file, uint16(len(m.Name)))
	file = append(file, m.Name...)
	file = append(file, byte(m.Compression), 0)
	file = le.AppendUint64(file, uint64(m.Created.UnixNano()))
	file = le.AppendUint64(file, uint64(m.Modified.UnixNano()))
	file = le.AppendUint64(file, m.Size)
	file = append(file, m.Digest[:]...)
	file = le.AppendUint32(file, uint32(len(m.entries)))
	for i := range m.entries {
		e := &m.entries[i]
		file = append(file, e.chunk[:]...)
		file = le.AppendUint32(file, e.plain)
		file = le.AppendUint32(file, e.stored)
	}
	ad := append(bytes.Clone(file[:manifestHead]), object[:]...)
	return s.objects.Seal(file[:manifestHead], file[manifestNonce:manifestHead], file[manifestHead:], ad), nil
}

// openManifest checks a manifest file, changing it, and returns what it says.
func (s *secrets) openManifest(object id, file []byte) (*manifest, error) {
	if len(file) < manifestHead+chacha20poly1305.Overhead {
		return nil, fmt.Errorf("it has only %d bytes", len(file))
	}
	if !bytes.HasPrefix(file, []byte(manifestMagic)) {
		return nil, errors.New("it is not a manifest of this version")
	}
	ad := append(bytes.Clone(file[:manifestHead]), object[:]...)
	body, err := s.objects.Open(file[manifestHead:manifestHead], file[manifestNonce:manifestHead], file[manifestHead:], ad)
	if err != nil {
		return nil, errSealed
	}
	m, err := decodeManifest(body)
	if err != nil {
		return nil, err
	}
	if s.objectID(m.Name) != object {
		return nil, fmt.Errorf("it belongs to object %q", m.Name)
	}
	return m, nil
}

// decodeManifest reads the plaintext of a manifest. The bytes were authenticated,
// but may have been written by another version, so nothing is taken on trust.
func decodeManifest(b []byte) (*manifest, error) {
	le := binary.LittleEndian
	if len(b) < manifestFixed {
		return nil, fmt.Errorf("%d bytes are too few", len(b))
	}
	nameLen := int(le.Uint16(b))
	if nameLen > MaxName || len(b) < manifestFixed+nameLen {
		return nil, fmt.Errorf("a name of %d bytes in %d", nameLen, len(b))
	}
	m := new(manifest)
	m.Name = string(b[2 : 2+nameLen])
	if err := CheckName(m.Name); err != nil {
		return nil, err
	}
	b = b[2+nameLen:]
	if b[1] != 0 {
		return nil, errors.New("a reserved byte is set")
	}
	m.Compression = compression.Algorithm(b[0])
	m.Created = time.Unix(0, int64(le.Uint64(b[2:]))).UTC()
	m.Modified = time.Unix(0, int64(le.Uint64(b[10:]))).UTC()
	m.Size = le.Uint64(b[18:])
	copy(m.Digest[:], b[26:])
	count := le.Uint32(b[26+hashing.Size:])
	b = b[manifestFixed-2:]
	if count > MaxChunks || len(b) != int(count)*entrySize {
		return nil, fmt.Errorf("%d chunks in %d bytes", count, len(b))
	}
	m.Chunks = int(count)
	m.entries = make([]entry, count)
	var size uint64
	for i := range m.entries {
		e := &m.entries[i]
		copy(e.chunk[:], b)
		e.plain, e.stored = le.Uint32(b[hashing.Size:]), le.Uint32(b[hashing.Size+4:])
		if e.plain == 0 || e.plain > MaxChunk {
			return nil, fmt.Errorf("chunk %d of %d bytes", i, e.plain)
		}
		size += uint64(e.plain)
		m.Stored += uint64(e.stored)
		b = b[entrySize:]
	}
	if size != m.Size {
		return nil, fmt.Errorf("%d bytes in its chunks, %d in all", size, m.Size)
	}
	return m, nil
}
