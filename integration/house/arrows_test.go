package house_test

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"
)

// arrows is the table of ARCHITECTURE.md: which rooms the code of a room may
// import besides its own. The first row that matches counts; "*" stands for any
// one name. Tests are bound by it like the code they test.
var arrows = []struct {
	room string
	may  []string
}{
	{"protocols", nil},
	{"shm", []string{"protocols/system/v1"}},
	{"plugins/sdk", []string{"shm", "protocols"}},
	{"plugins/*", []string{"plugins/sdk", "plugins/gpu"}},
	{"mesh", []string{"protocols"}},
	{"host", []string{"mesh", "shm", "protocols", "plugins/sdk/wire", "plugins/sdk/failpoint"}},
	{"integration", []string{"host", "mesh", "shm", "protocols", "plugins"}},
}

// fenced lists outside packages that only some rooms may import. Whole-node
// tests look behind every fence but the GPU's.
var fenced = []struct {
	imports string
	rooms   []string
}{
	{"capnproto.org/go/capnp", []string{"protocols", "plugins/sdk/wire", "integration"}},
	{"github.com/cogentcore/webgpu", []string{"plugins/gpu"}},
	{"github.com/spf13/cobra", []string{"host/cmd"}},
}

// room returns the room that a folder belongs to and what its code may import.
func room(dir string) (name string, may []string, ok bool) {
	parts := strings.Split(dir, "/")
	for _, a := range arrows {
		n := strings.Count(a.room, "/") + 1
		if len(parts) < n {
			continue
		}
		name = strings.Join(parts[:n], "/")
		if match, _ := path.Match(a.room, name); match {
			return name, a.may, true
		}
	}
	return "", nil, false
}

func importArrows(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	for _, s := range list {
		name, may, ok := room(s.dir())
		if !ok {
			complaints = append(complaints, s.at(s.Package, "%s belongs to no room of ARCHITECTURE.md; move it, or add the room there and to the table of arrows", s.dir()))
			continue
		}
		for _, spec := range s.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has accepted it, so it cannot be
			}
			if dir, own := strings.CutPrefix(target, module+"/"); own && !within(dir, append(may, name)...) {
				complaints = append(complaints, s.at(spec.Pos(), "room %s must not import %s; it may import %s", name, target, allowed(may)))
			}
			for _, f := range fenced {
				if within(target, f.imports) && !within(s.dir(), f.rooms...) {
					complaints = append(complaints, s.at(spec.Pos(), "only %s may import %s", strings.Join(f.rooms, ", "), target))
				}
			}
		}
	}
	return complaints
}

func allowed(may []string) string {
	if len(may) == 0 {
		return "only itself"
	}
	return fmt.Sprintf("itself and %s", strings.Join(may, ", "))
}

func TestImportsFollowTheArrows(t *testing.T) { holds(t, importArrows) }

func TestArrowsRejectImportsAgainstThem(t *testing.T) {
	tests := []struct {
		name, file, imports string
		want                []string
	}{
		{"a room may import itself", "host/api/x.go", "inos/host/node", nil},
		{"host uses the wire types", "host/node/x.go", "inos/plugins/sdk/wire", nil},
		{"host has failpoints", "host/node/x.go", "inos/plugins/sdk/failpoint", nil},
		{"shm has none", "shm/ring/x.go", "inos/plugins/sdk/failpoint", []string{"room shm"}},
		{"host does not use the rest of the SDK", "host/node/x.go", "inos/plugins/sdk", []string{"room host must not import inos/plugins/sdk"}},
		{"a name that only begins like a room's", "host/node/x.go", "inos/plugins/sdk/wiretap", []string{"must not import"}},
		{"host does not know plugins", "host/node/x.go", "inos/plugins/storage", []string{"host/node/x.go:3: room host"}},
		{"tests are bound too", "host/node/x_test.go", "inos/integration/fixtures", []string{"must not import inos/integration"}},
		{"a plugin uses the SDK", "plugins/storage/pipeline/x.go", "inos/plugins/sdk/compress", nil},
		{"a plugin uses the GPU room", "plugins/ml/x.go", "inos/plugins/gpu", nil},
		{"a plugin does not import the host", "plugins/storage/x.go", "inos/host/node", []string{"room plugins/storage"}},
		{"a plugin does not reach around the SDK", "plugins/storage/x.go", "inos/shm/arena", []string{"itself and plugins/sdk"}},
		{"plugins do not import each other", "plugins/ml/x.go", "inos/plugins/storage/pipeline", []string{"room plugins/ml"}},
		{"the SDK uses shm", "plugins/sdk/x.go", "inos/shm/segment", nil},
		{"the SDK does not import a plugin", "plugins/sdk/x.go", "inos/plugins/storage", []string{"room plugins/sdk"}},
		{"mesh does not import the host", "mesh/dht/x.go", "inos/host/node", []string{"room mesh"}},
		{"mesh does not import shm", "mesh/dht/x.go", "inos/shm/arena", []string{"room mesh"}},
		{"shm uses its constants", "shm/ring/x.go", "inos/protocols/system/v1", nil},
		{"shm uses no other contract", "shm/ring/x.go", "inos/protocols/compute/v1", []string{"room shm"}},
		{"protocols import nothing", "protocols/base/v1/x.go", "inos/shm/layout", []string{"itself"}},
		{"integration sees all", "integration/x_test.go", "inos/host/node", nil},
		{"a folder of no room", "util/x.go", "fmt", []string{"util belongs to no room"}},
		{"a folder straight under plugins", "plugins/x.go", "fmt", []string{"plugins belongs to no room"}},
		{"the wire package speaks Cap'n Proto", "plugins/sdk/wire/x.go", "capnproto.org/go/capnp/v3", nil},
		{"nobody else does", "host/node/x.go", "capnproto.org/go/capnp/v3", []string{"only protocols, plugins/sdk/wire"}},
		{"the GPU binding has one room", "plugins/ml/x.go", "github.com/cogentcore/webgpu/wgpu", []string{"only plugins/gpu"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := example{tt.file: fmt.Sprintf("package x\n\nimport _ %q\n", tt.imports)}
			e.complains(t, importArrows, tt.want...)
		})
	}
}
