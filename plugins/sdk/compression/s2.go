package compression

import (
	"errors"

	"github.com/klauspost/compress/s2"
)

type s2Codec struct{ level Level }

func (s2Codec) Algorithm() Algorithm { return S2 }

func (c s2Codec) Compress(dst, src []byte) ([]byte, error) {
	if err := checkBlock(src); err != nil {
		return dst, err
	}
	most := s2.MaxEncodedLen(len(src))
	dst = room(dst, most)
	spare := dst[len(dst) : len(dst)+most]
	var packed []byte
	switch c.level {
	case Better:
		packed = s2.EncodeBetter(spare, src)
	case Best:
		packed = s2.EncodeBest(spare, src)
	default:
		packed = s2.Encode(spare, src)
	}
	return dst[:len(dst)+len(packed)], nil
}

func (s2Codec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	limit = bounded(limit)
	n, err := s2.DecodedLen(src)
	if errors.Is(err, s2.ErrTooLarge) || err == nil && n > limit {
		return dst, tooLarge(S2, limit)
	}
	if err != nil {
		return dst, malformed(S2, err)
	}
	dst = room(dst, n)
	out, err := s2.Decode(dst[len(dst):len(dst)+n], src)
	if err != nil {
		return dst, malformed(S2, err)
	}
	return dst[:len(dst)+len(out)], nil
}
