package vault

import (
	"context"
	"errors"
	"fmt"

	"inos/plugins/sdk/hashing"
)

// Report is what Verify found.
type Report struct {
	Info    Info
	Damaged []Damage // in order
}

// Damage is one chunk that cannot be read.
type Damage struct {
	Chunk int    // from 0
	File  string // its path
	Err   error
}

// Verify reads and authenticates every chunk of an object, and the digest of the
// whole. It returns ErrCorrupt, with a report of all that is damaged, or the error
// that kept it from telling. From time to time it calls progress, which may be
// nil, with the number of bytes looked at.
func (v *Vault) Verify(ctx context.Context, name string, progress func(bytes uint64)) (Report, error) {
	m, s, err := v.stream(ctx, name)
	if err != nil {
		return Report{}, err
	}
	defer s.close()
	report := Report{Info: m.Info}
	digest := hashing.New()
	var seen uint64
	for {
		p, ok := s.take()
		if !ok {
			break
		}
		_, _ = digest.Write(p.plain) // a hash never refuses bytes
		s.give(p)
		e := &m.entries[p.number]
		switch {
		case errors.Is(p.err, ErrCorrupt):
			report.Damaged = append(report.Damaged, Damage{p.number, v.file(chunksDir, e.chunk), p.err})
		case p.err != nil:
			return report, p.err
		}
		seen += uint64(e.plain)
		if progress != nil {
			progress(seen)
		}
	}
	if n := len(report.Damaged); n > 0 {
		return report, fmt.Errorf("%d of %d chunks damaged, the first: %w", n, len(m.entries), report.Damaged[0].Err)
	}
	if digest.Sum() != m.Digest {
		return report, fmt.Errorf("object %q: %w: its chunks are whole but make other content; put the object again", name, ErrCorrupt)
	}
	return report, nil
}
