package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"inos/plugins/sdk"
)

// mapping is a writable piece of the segment in this process.
type mapping struct{ start, size uint64 }

// segmentMappings finds what this process can write of the segment.
func segmentMappings() ([]mapping, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mapping
	for s := bufio.NewScanner(f); s.Scan(); {
		var start, end uint64
		var perms string
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x %s", &start, &end, &perms); n != 3 {
			continue
		}
		if strings.Contains(s.Text(), "/memfd:") && strings.Contains(perms, "w") {
			list = append(list, mapping{start, end - start})
		}
	}
	return list, nil
}

// scribble writes through /proc/self/mem, which reaches every byte that the
// process may write, wherever the SDK thinks it may.
func scribble(j *sdk.Job) error {
	maps, err := segmentMappings()
	if err != nil {
		return err
	}
	if len(maps) == 0 {
		return fmt.Errorf("no writable mapping of the segment found")
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	seed := j.Params().Uint("seed")
	r := rand.New(rand.NewPCG(seed, seed))
	var buf [64]byte
	for range j.Params().Uint("writes") {
		m := maps[r.IntN(len(maps))]
		n := uint64(1 + r.IntN(len(buf)))
		for i := range buf[:n] {
			buf[i] = byte(r.Uint32())
		}
		off := r.Uint64N(m.size - n + 1)
		if r.IntN(4) > 0 { // most of a link is rings, at its start: aim there
			off = r.Uint64N(min(m.size-n+1, 256<<10))
		}
		if _, err := mem.WriteAt(buf[:n], int64(m.start+off)); err != nil {
			return err
		}
	}
	return nil
}
