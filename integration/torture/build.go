package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the binaries that a campaign needs.
type programs struct {
	inos   string
	victim []byte
}

// build compiles them into a folder.
func build(dir string) (p programs, err error) {
	p.inos = filepath.Join(dir, "inos")
	victim := filepath.Join(dir, "victim")
	for _, b := range [][2]string{{p.inos, "inos/host/cmd/inos"}, {victim, "inos/integration/torture/victim"}} {
		out, err := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", b[0], b[1]).CombinedOutput()
		if err != nil {
			return p, fmt.Errorf("building %s: %w\n%s", b[1], err, out)
		}
	}
	p.victim, err = os.ReadFile(victim)
	return p, err
}

// release is a binary as it comes into the plugins folder.
type release struct {
	module, version string
	bytes           []byte
}

// version makes a version of a module, whose bytes no other version has, and which
// misbehaves in the given ways, as "crash"; see the victim.
func (p programs) version(module, version string, ways ...string) release {
	b := bytes.Clone(p.victim)
	b = fmt.Appendf(b, "\nconduct:%s-v%s", module, version)
	for _, w := range ways {
		b = fmt.Appendf(b, "-%s", w)
	}
	b = append(b, 0)
	return release{module, version, append(b, rand.Text()...)}
}
