package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// An operator can lay a list of digests beside the plugins, as sha256sum writes
// it: one for the folder, or one for each binary.
const (
	sumsName  = "SHA256SUMS"
	sumSuffix = ".sha256"
	sigSuffix = ".minisig"
	maxSums   = 1 << 20 // bytes
)

// sum is one line of a list.
type sum struct {
	name   string // empty when the line holds nothing but the digest
	digest string // lower-case hex
}

var (
	plainSum = regexp.MustCompile(`^([0-9A-Fa-f]{64})(?: [ *](.+))?$`)
	bsdSum   = regexp.MustCompile(`^SHA256 ?\((.+)\) ?= ?([0-9A-Fa-f]{64})$`)
)

// parseSums reads a list in the form of sha256sum or of BSD. A line that is
// neither is an error: to pass it over would take a protection away in silence.
func parseSums(text string) ([]sum, error) {
	var list []sum
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if m := plainSum.FindStringSubmatch(line); m != nil {
			list = append(list, sum{name: m[2], digest: strings.ToLower(m[1])})
		} else if m := bsdSum.FindStringSubmatch(line); m != nil {
			list = append(list, sum{name: m[1], digest: strings.ToLower(m[2])})
		} else {
			return nil, fmt.Errorf("line %d is no digest and name as sha256sum writes them", n)
		}
	}
	return list, nil
}

// CheckSums compares a file with the lists beside it, as Admit does. The error is nil
// when no list names it.
func CheckSums(path string) error {
	f, err := openSource(path)
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if _, refusal := checkSums(path, [sha256.Size]byte(h.Sum(nil))); refusal != nil {
		return refusal.about(path)
	}
	return nil
}

// checkSums compares the digest of the file at path with the lists beside it.
// It returns whether any list named it.
func checkSums(path string, digest [sha256.Size]byte) (named bool, refusal *Refusal) {
	dir, name := filepath.Split(path)
	for _, l := range []struct {
		file string
		own  bool // is about this one binary
	}{{sumsName, false}, {name + sumSuffix, true}} {
		text, err := readAtMost(filepath.Join(dir, l.file), maxSums)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var list []sum
		if err == nil {
			list, err = parseSums(text)
		}
		if err != nil {
			return false, refuse(BadChecksum, "%s: %v", l.file, err).but("write the list again with sha256sum, or remove it")
		}
		want := wanted(list, name, l.own)
		if len(want) == 0 && l.own {
			return false, refuse(BadChecksum, "%s holds no digest of it", l.file).but("write the list again with sha256sum, or remove it")
		}
		for _, w := range want {
			if w != hex.EncodeToString(digest[:]) {
				return false, refuse(BadChecksum, "its SHA-256 is %x, %s says %s", digest, l.file, w)
			}
			named = true
		}
	}
	return named, nil
}

// wanted picks the digests that a list gives for name. The only line of a
// binary's own list counts under whatever name it has, for people rename what
// they download.
func wanted(list []sum, name string, own bool) []string {
	if own && len(list) == 1 {
		return []string{list[0].digest}
	}
	var w []string
	for _, s := range list {
		if s.name != "" && filepath.Base(s.name) == name {
			w = append(w, s.digest)
		}
	}
	return w
}
