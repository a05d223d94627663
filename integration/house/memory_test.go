package house_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"
)

var (
	// unsafeRooms may import unsafe and make the calls of memoryCalls.
	unsafeRooms = []string{"shm", "plugins/gpu"}
	// cgoRooms may contain C.
	cgoRooms = []string{"plugins/gpu", "mesh/ledger"}
	// systemPackages are where raw system calls come from.
	systemPackages = []string{"syscall", "golang.org/x/sys/unix"}
)

// memoryCalls lists what maps, moves, seals or reaches into memory. Names are
// those of systemPackages.
var memoryCalls = map[string]bool{
	"Mmap": true, "MmapPtr": true, "Munmap": true, "MunmapPtr": true, "Mremap": true, "Mprotect": true,
	"Madvise": true, "Mlock": true, "Mlockall": true, "Munlock": true, "Munlockall": true, "Msync": true,
	"MemfdCreate": true, "MemfdSecret": true, "F_ADD_SEALS": true,
	"ProcessVMReadv": true, "ProcessVMWritev": true, "PtracePeekData": true, "PtracePokeData": true,
	"SysvShmAttach": true, "SysvShmCtl": true, "SysvShmDetach": true, "SysvShmGet": true,
	"SYS_MMAP": true, "SYS_MUNMAP": true, "SYS_MREMAP": true, "SYS_MPROTECT": true, "SYS_MADVISE": true,
	"SYS_MEMFD_CREATE": true, "SYS_MEMFD_SECRET": true, "SYS_FUTEX": true,
	"SYS_PROCESS_VM_READV": true, "SYS_PROCESS_VM_WRITEV": true,
}

func rawMemory(fsys fs.FS) []string {
	list, complaints := sources(fsys)
	for _, s := range list {
		system := map[string]bool{} // names under which the file knows systemPackages
		for _, spec := range s.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			name := path.Base(target)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			switch {
			case target == "unsafe" && !within(s.dir(), unsafeRooms...):
				complaints = append(complaints, s.at(spec.Pos(), "unsafe stands only in %s; use the bounds-checked views of shm", strings.Join(unsafeRooms, ", ")))
			case target == "C" && !within(s.dir(), cgoRooms...):
				complaints = append(complaints, s.at(spec.Pos(), "C stands only in %s", strings.Join(cgoRooms, ", ")))
			case within(target, systemPackages...) && name == ".":
				complaints = append(complaints, s.at(spec.Pos(), "import %s by name, so that its calls can be seen", target))
			case within(target, systemPackages...):
				system[name] = true
			}
		}
		if within(s.dir(), unsafeRooms...) {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && memoryCalls[sel.Sel.Name] {
				if pkg, ok := sel.X.(*ast.Ident); ok && system[pkg.Name] {
					complaints = append(complaints, s.at(n.Pos(), "%s.%s is a raw memory call; those stand only in %s", pkg.Name, sel.Sel.Name, strings.Join(unsafeRooms, ", ")))
				}
			}
			return true
		})
	}
	return append(complaints, assembly(fsys)...)
}

// assembly checks that a kernel outside shm stands in a plugin and was written
// by a generator, which keeps its frame and its bounds in Go.
func assembly(fsys fs.FS) (complaints []string) {
	for _, f := range ours(fsys) {
		if path.Ext(f.path) != ".s" || within(f.path, "shm") {
			continue
		}
		if !within(f.path, "plugins") {
			complaints = append(complaints, fmt.Sprintf("%s:1: assembly stands only in shm and in plugins", f.path))
		} else if first, _, _ := bytes.Cut(f.text, []byte("\n")); !bytes.HasPrefix(first, []byte("// Code generated")) {
			complaints = append(complaints, fmt.Sprintf("%s:1: assembly of a plugin is generated, with its generator beside it", f.path))
		}
	}
	return complaints
}

func TestRawMemoryStaysInShm(t *testing.T) { holds(t, rawMemory) }

func TestRawMemoryOutsideShmIsFound(t *testing.T) {
	imports := func(path string) string { return fmt.Sprintf("package x\n\nimport _ %q\n", path) }
	uses := func(imports, expr string) string {
		return fmt.Sprintf("package x\n\nimport %s\n\nvar _ = %s\n", imports, expr)
	}
	tests := []struct {
		name, file, text string
		want             []string
	}{
		{"unsafe in shm", "shm/internal/mem/x.go", imports("unsafe"), nil},
		{"unsafe in a room whose name begins like shm", "shmoo/x.go", imports("unsafe"), []string{"shmoo/x.go:3: unsafe"}},
		{"unsafe in the host", "host/node/x.go", imports("unsafe"), []string{"unsafe stands only in shm"}},
		{"unsafe in a test", "host/node/x_test.go", imports("unsafe"), []string{"unsafe stands only"}},
		{"unsafe behind a build tag", "host/node/x.go", "//go:build windows\n\n" + imports("unsafe"), []string{"x.go:5: unsafe"}},
		{"the clock is no memory call", "plugins/sdk/x.go", uses(`"golang.org/x/sys/unix"`, "unix.ClockGettime"), nil},
		{"mmap", "plugins/sdk/x.go", uses(`"golang.org/x/sys/unix"`, "unix.Mmap"), []string{"x.go:5: unix.Mmap is a raw memory call"}},
		{"mmap under another name", "plugins/sdk/x.go", uses(`sys "syscall"`, "sys.Mmap"), []string{"sys.Mmap"}},
		{"the call by number", "host/node/x.go", uses(`"syscall"`, "syscall.SYS_MMAP"), []string{"SYS_MMAP"}},
		{"a dot import", "host/node/x.go", uses(`. "syscall"`, "Getpid"), []string{"by name"}},
		{"a method of the same name", "host/node/x.go", uses(`"inos/host/files"`, "files.Mmap"), nil},
		{"C in the GPU room", "plugins/gpu/x.go", imports("C"), nil},
		{"C in the host", "host/node/x.go", imports("C"), []string{"C stands only in plugins/gpu"}},
		{"assembly in shm", "shm/internal/mem/x.s", "TEXT", nil},
		{"assembly in the host", "host/node/x.s", "TEXT", []string{"host/node/x.s:1"}},
		{"a generated kernel", "plugins/ml/kernel/x.s", "// Code generated by command: go run gen.go. DO NOT EDIT.\n", nil},
		{"a kernel by hand", "plugins/ml/kernel/x.s", "TEXT", []string{"with its generator"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { example{tt.file: tt.text}.complains(t, rawMemory, tt.want...) })
	}
}
