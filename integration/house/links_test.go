package house_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	linkTarget = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\s{0,3}\[[^\]]+\]:\s*<?([^\s>]+)`)
	codeSpan   = regexp.MustCompile("`+[^`]*`+")
	elsewhere  = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)
	heading    = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*\s*$`)
)

// prose calls yield for every line of a Markdown file that is outside fenced
// code.
func prose(text []byte, yield func(line int, text string)) {
	fence, n := "", 0
	for raw := range bytes.Lines(text) {
		n++
		s := strings.TrimRight(string(raw), "\r\n")
		mark := strings.TrimLeft(s, " ")
		switch {
		case fence != "":
			if strings.HasPrefix(mark, fence) {
				fence = ""
			}
		case strings.HasPrefix(mark, "```"), strings.HasPrefix(mark, "~~~"):
			fence = mark[:3]
		default:
			yield(n, s)
		}
	}
}

// anchors returns the names under which the headings of a Markdown file can be
// linked to, by GitHub's rule: lower case, no punctuation, dashes for spaces, a
// number after a name that was there before.
func anchors(text []byte) map[string]bool {
	names := map[string]bool{}
	prose(text, func(_ int, line string) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			return
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		unique := name
		for i := 1; names[unique]; i++ {
			unique = fmt.Sprintf("%s-%d", name, i)
		}
		names[unique] = true
	})
	return names
}

// deadLinks demands that a link of a Markdown file to another file of the tree,
// or to a heading in one, leads there.
func deadLinks(fsys fs.FS) (complaints []string) {
	for _, f := range files(fsys) {
		if path.Ext(f.path) != ".md" {
			continue
		}
		prose(f.text, func(n int, line string) {
			for _, m := range linkTarget.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				if target := m[1] + m[2]; !elsewhere.MatchString(target) {
					if why := follow(fsys, f, target); why != "" {
						complaints = append(complaints, fmt.Sprintf("%s:%d: the link to %s %s", f.path, n, target, why))
					}
				}
			}
		})
	}
	return complaints
}

// follow says why a link in f leads nowhere, or nothing.
func follow(fsys fs.FS, f file, target string) string {
	name, anchor, _ := strings.Cut(target, "#")
	if strings.HasPrefix(name, "/") {
		return "begins at a root that differs between readers; make it relative"
	}
	p, text := f.path, f.text
	if name != "" {
		if p = path.Join(path.Dir(f.path), name); !fs.ValidPath(p) {
			return "leaves the tree"
		}
		info, err := fs.Stat(fsys, p)
		if err != nil {
			return "leads to no file"
		}
		if info.IsDir() {
			return ""
		}
		if text, err = fs.ReadFile(fsys, p); err != nil {
			return err.Error()
		}
	}
	if anchor != "" && path.Ext(p) == ".md" && !anchors(text)[anchor] {
		return "leads to no heading"
	}
	return ""
}

func TestLinksLeadSomewhere(t *testing.T) { holds(t, deadLinks) }

func TestDeadLinksAreFound(t *testing.T) {
	example{
		"docs/abi.md": "# The ABI, version 1\n\n## `head` and more\n\n## Twice\n\n## Twice\n",
		"shm/shm.go":  "package shm\n",
		"good.md": "[a](docs/abi.md) [b](docs/abi.md#the-abi-version-1 \"title\") [c](docs/abi.md#head-and-more) [d](docs/abi.md#twice-1)\n" +
			"[e](https://example.org/x) [f](mailto:a@example.org) [g](shm) [h](shm/shm.go#L1) [i](#here)\n# Here\n" +
			"`[x](code.md)`\n```\n[x](fenced.md)\n```\n[ref]: docs/abi.md\n",
		"docs/bad.md": "[a](missing.md)\n![b](<../gone.png>)\n[ref]: ../nowhere.md\n[c](abi.md#no-such)\n[d](../../outside.md)\n[e](/docs/abi.md)\n[f](#none) and [g](none.md)\n",
	}.complains(t, deadLinks,
		"docs/bad.md:1: the link to missing.md leads to no file", "docs/bad.md:2: the link to ../gone.png", "docs/bad.md:3: the link to ../nowhere.md",
		"docs/bad.md:4: the link to abi.md#no-such leads to no heading", "docs/bad.md:5: the link to ../../outside.md leaves the tree",
		"docs/bad.md:6: the link to /docs/abi.md begins at a root", "docs/bad.md:7: the link to #none", "docs/bad.md:7: the link to none.md")
}
