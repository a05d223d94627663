// Package scaffold begins a plugin: a Go module of its own, in a folder of its
// own, that builds at once against the sources of INOS on this machine. It writes
// files and runs nothing.
package scaffold

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed template
var templates embed.FS

// Errors of Write.
var (
	// ErrName says that no plugin can have that name.
	ErrName = errors.New("not a name for a plugin")
	// ErrExists says that the folder has something in it.
	ErrExists = errors.New("the folder is not empty")
	// ErrSource says that there are no sources of INOS where they are said to be.
	ErrSource = errors.New("no sources of INOS")
)

// names are what a manifest accepts.
var names = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Plugin is what to begin.
type Plugin struct {
	Name   string // as its manifest will have it
	Dir    string // to be made
	Source string // folder of INOS
}

// maxCapability is how long a capability's name may be.
const maxCapability = 31

// Capability is the operation that the new plugin serves.
func (p Plugin) Capability() string {
	const operation = ".hello"
	return strings.TrimRight(p.Name[:min(len(p.Name), maxCapability-len(operation))], "-") + operation
}

// Write writes the plugin and returns the names of its files.
func (p Plugin) Write() ([]string, error) {
	if !names.MatchString(p.Name) {
		return nil, fmt.Errorf("%w: %q; use up to 31 small letters, digits and dashes, a letter first", ErrName, p.Name)
	}
	if !IsSource(p.Source) {
		return nil, fmt.Errorf("%w: %s; name their folder with --inos", ErrSource, p.Source)
	}
	if entries, err := os.ReadDir(p.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%w: %s; choose another with --dir", ErrExists, p.Dir)
	}
	files, err := p.files()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.Dir, 0o750); err != nil {
		return nil, err
	}
	var written []string
	for _, f := range files {
		path := filepath.Join(p.Dir, f.name)
		if err := os.WriteFile(path, f.text, 0o600); err != nil {
			return nil, err
		}
		written = append(written, path)
	}
	return written, nil
}

type file struct {
	name string
	text []byte
}

// files renders everything before anything is written.
func (p Plugin) files() ([]file, error) {
	module, err := os.ReadFile(filepath.Join(p.Source, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	// The sums and requirements are those of INOS, so that the plugin builds
	// without asking anybody for versions. What it does not need, go mod tidy
	// drops.
	sums, err := os.ReadFile(filepath.Join(p.Source, "go.sum"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	release, required := requirements(module)
	data := struct {
		Plugin
		Go       string
		Requires []string
	}{p, release, required}
	var list []file
	for _, name := range []string{"main.go", "main_test.go", "go.mod", "README.md"} {
		t, err := template.ParseFS(templates, "template/"+name+".tmpl")
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, data); err != nil {
			return nil, err
		}
		text := b.Bytes()
		if filepath.Ext(name) == ".go" {
			if text, err = format.Source(text); err != nil {
				return nil, err
			}
		}
		list = append(list, file{name, text})
	}
	return append(list, file{"go.sum", sums}), nil
}

// requirements returns the Go release and the required modules of a go.mod, each
// "path version".
func requirements(module []byte) (release string, required []string) {
	block := false
	for lines := bufio.NewScanner(bytes.NewReader(module)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "//")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "go":
			release = fields[1]
		case len(fields) == 2 && fields[0] == "require" && fields[1] == "(":
			block = true
		case len(fields) == 1 && fields[0] == ")":
			block = false
		case len(fields) == 3 && fields[0] == "require":
			required = append(required, fields[1]+" "+fields[2])
		case len(fields) == 2 && block:
			required = append(required, fields[0]+" "+fields[1])
		}
	}
	return release, required
}

// IsSource reports whether dir is the root of the sources of INOS.
func IsSource(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	if _, err := os.Stat(filepath.Join(dir, "plugins", "sdk")); err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first) == "module inos"
}

// FindSource returns the first folder that is the root of the sources of INOS,
// from each of the given ones upwards.
func FindSource(from ...string) (string, error) {
	for _, dir := range from {
		for dir != "" {
			if IsSource(dir) {
				return dir, nil
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return "", fmt.Errorf("%w above %s; name their folder with --inos: %w", ErrSource, strings.Join(from, " or "), fs.ErrNotExist)
}
