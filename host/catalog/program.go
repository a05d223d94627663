package catalog

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
)

// Kind says how the kernel starts a file.
type Kind uint8

// The kinds.
const (
	ELF    Kind = iota + 1 // a program for this machine
	Script                 // a text with an interpreter in its first line
)

// String returns "elf" or "script".
func (k Kind) String() string {
	switch k {
	case ELF:
		return "elf"
	case Script:
		return "script"
	}
	return "unknown"
}

// program is what a file's first bytes say about how it is started.
type program struct {
	kind Kind
	// interpreter is the absolute path of the program that the kernel starts in its
	// place: the dynamic loader, or what a script names. Empty for a static program.
	interpreter string
}

// Sizes of the records of a 64-bit ELF file, of ELF-64 Object File Format 1.5
// figures 2, 6 and 3, and bounds on how many this package reads. The kernel
// itself takes at most 64 KiB of program headers.
const (
	elfHeaderSize     = 64
	programHeaderSize = 56
	sectionHeaderSize = 64
	maxHeaders        = 64 << 10 / programHeaderSize
	maxInterpreter    = 4096 // PATH_MAX
	maxFirstLine      = 256  // BINPRM_BUF_SIZE
)

// machines maps GOARCH to the ELF machine and its byte order.
var machines = map[string]struct {
	machine elf.Machine
	order   binary.ByteOrder
}{
	"amd64":   {elf.EM_X86_64, binary.LittleEndian},
	"arm64":   {elf.EM_AARCH64, binary.LittleEndian},
	"riscv64": {elf.EM_RISCV, binary.LittleEndian},
	"loong64": {elf.EM_LOONGARCH, binary.LittleEndian},
	"ppc64le": {elf.EM_PPC64, binary.LittleEndian},
	"s390x":   {elf.EM_S390, binary.BigEndian},
}

// here names this machine as the Go command does.
func here() string { return "GOOS=linux GOARCH=" + runtime.GOARCH }

// lookalikes are beginnings of files that end up in a plugins folder by mistake.
var lookalikes = []struct {
	magic  string
	reason Reason
	what   string
}{
	{"MZ", WrongArchitecture, "a Windows program"},
	{"\xcf\xfa\xed\xfe", WrongArchitecture, "a macOS program"},
	{"\xfe\xed\xfa\xcf", WrongArchitecture, "a macOS program"},
	{"\xca\xfe\xba\xbe", WrongArchitecture, "a macOS universal program or a Java class"},
	{"\x00asm", WrongArchitecture, "a WebAssembly module"},
	{"!<arch>\n", NotAPlugin, "an archive of objects; a Go package becomes a program only when it is package main"},
	{"\x1f\x8b", NotAPlugin, "compressed with gzip; unpack it first"},
	{"PK\x03\x04", NotAPlugin, "a zip archive; unpack it first"},
	{"\xfd7zXZ\x00", NotAPlugin, "compressed with xz; unpack it first"},
	{"\x28\xb5\x2f\xfd", NotAPlugin, "compressed with zstd; unpack it first"},
}

// examine decides from the bytes of a file whether the kernel of this machine
// could start it, and that it is all there. The bytes are hostile: debug/elf is
// not made for such, so the few records needed are read here.
func examine(r io.ReaderAt, size int64) (program, *Refusal) {
	if size == 0 {
		return program{}, refuse(Truncated, "the file is empty")
	}
	head := make([]byte, min(size, maxFirstLine))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return program{}, refuse(Unreadable, "reading its first bytes: %v", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return examineELF(r, head, size)
	case bytes.HasPrefix(head, []byte("#!")):
		return examineScript(head)
	case bytes.HasPrefix([]byte(elf.ELFMAG), head):
		return program{}, refuse(Truncated, "only %d bytes of an ELF header are there", len(head))
	}
	for _, l := range lookalikes {
		if bytes.HasPrefix(head, []byte(l.magic)) {
			return program{}, refuse(l.reason, "it is %s", l.what)
		}
	}
	return program{}, refuse(NotAPlugin, "it begins with %q, neither an ELF program nor a #! script", head[:min(len(head), 8)])
}

func examineELF(r io.ReaderAt, head []byte, size int64) (program, *Refusal) {
	if len(head) < elfHeaderSize {
		return program{}, refuse(Truncated, "%d bytes of an ELF header of %d are there", len(head), elfHeaderSize)
	}
	want := machines[runtime.GOARCH]
	if want.order == nil {
		return program{}, refuse(WrongArchitecture, "this node does not know the ELF machine of %s", runtime.GOARCH)
	}
	data, order := elf.Data(head[elf.EI_DATA]), binary.ByteOrder(binary.LittleEndian)
	if data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	class, machine := elf.Class(head[elf.EI_CLASS]), elf.Machine(order.Uint16(head[18:]))
	if class != elf.ELFCLASS64 || machine != want.machine || order != want.order {
		return program{}, refuse(WrongArchitecture, "it is built for %s, this machine is %s", describe(class, data, machine), runtime.GOARCH)
	}
	kind, entry := elf.Type(order.Uint16(head[16:])), order.Uint64(head[24:])
	switch {
	case kind != elf.ET_EXEC && kind != elf.ET_DYN:
		return program{}, refuse(NotAPlugin, "it is an ELF file of type %s and no program", kind)
	case entry == 0:
		return program{}, refuse(NotAPlugin, "it has no entry point; a shared library cannot be started").
			but("build it as a program, with go build and package main")
	}
	sections, count, each := order.Uint64(head[40:]), order.Uint16(head[60:]), order.Uint16(head[58:])
	if sections != 0 && count != 0 {
		if each != sectionHeaderSize {
			return program{}, refuse(NotAPlugin, "its section headers have %d bytes each instead of %d", each, sectionHeaderSize)
		}
		if !fits(sections, uint64(count)*uint64(each), size) {
			return program{}, refuse(Truncated, "its section table ends at byte %d of %d", end(sections, uint64(count)*uint64(each)), size)
		}
	}
	return examineSegments(r, head, order, size)
}

// examineSegments walks the program headers, which is what the kernel does.
func examineSegments(r io.ReaderAt, head []byte, order binary.ByteOrder, size int64) (program, *Refusal) {
	at, each, count := order.Uint64(head[32:]), order.Uint16(head[54:]), order.Uint16(head[56:])
	switch {
	case count == 0 || at == 0:
		return program{}, refuse(NotAPlugin, "it has no program headers")
	case each != programHeaderSize:
		return program{}, refuse(NotAPlugin, "its program headers have %d bytes each instead of %d", each, programHeaderSize)
	case count > maxHeaders:
		return program{}, refuse(NotAPlugin, "it has %d program headers, more than %d", count, maxHeaders)
	case !fits(at, uint64(count)*programHeaderSize, size):
		return program{}, refuse(Truncated, "its program headers end at byte %d of %d", end(at, uint64(count)*programHeaderSize), size)
	}
	table := make([]byte, int(count)*programHeaderSize)
	if _, err := r.ReadAt(table, int64(at)); err != nil {
		return program{}, refuse(Unreadable, "reading its program headers: %v", err)
	}
	p, loads := program{kind: ELF}, 0
	for i := range int(count) {
		h := table[i*programHeaderSize:]
		offset, length := order.Uint64(h[8:]), order.Uint64(h[32:])
		kind := elf.ProgType(order.Uint32(h))
		if kind == elf.PT_LOAD || kind == elf.PT_INTERP {
			if !fits(offset, length, size) {
				return program{}, refuse(Truncated, "its segment %d ends at byte %d of %d", i, end(offset, length), size)
			}
		}
		switch kind {
		case elf.PT_LOAD:
			loads++
		case elf.PT_INTERP:
			path, refusal := loader(r, offset, length)
			if refusal != nil {
				return program{}, refusal
			}
			p.interpreter = path
		}
	}
	if loads == 0 {
		return program{}, refuse(NotAPlugin, "none of its segments is loaded into memory")
	}
	return p, nil
}

// loader reads the path of the dynamic loader.
func loader(r io.ReaderAt, offset, length uint64) (string, *Refusal) {
	if length < 2 || length > maxInterpreter {
		return "", refuse(NotAPlugin, "the name of its loader has %d bytes", length)
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, int64(offset)); err != nil {
		return "", refuse(Unreadable, "reading the name of its loader: %v", err)
	}
	path, _, ended := strings.Cut(string(b), "\x00")
	if !ended || !filepath.IsAbs(path) {
		return "", refuse(NotAPlugin, "the name of its loader is %q and no absolute path", path)
	}
	return path, nil
}

func examineScript(head []byte) (program, *Refusal) {
	line, _, ended := bytes.Cut(head, []byte("\n"))
	if !ended && len(head) == maxFirstLine {
		return program{}, refuse(NotAPlugin, "its first line is longer than %d bytes", maxFirstLine)
	}
	fields := strings.Fields(string(line[len("#!"):]))
	if len(fields) == 0 || !filepath.IsAbs(fields[0]) || strings.ContainsRune(fields[0], 0) {
		return program{}, refuse(NotAPlugin, "its first line %q names no interpreter by absolute path", line)
	}
	return program{kind: Script, interpreter: fields[0]}, nil
}

// fits says whether length bytes at offset lie within size, without overflow.
func fits(offset, length uint64, size int64) bool {
	return offset <= uint64(size) && length <= uint64(size)-offset
}

// end is where length bytes at offset end, for messages.
func end(offset, length uint64) uint64 {
	if offset+length < offset {
		return ^uint64(0)
	}
	return offset + length
}

// describe names the machine of an ELF file, by GOARCH where there is one.
func describe(class elf.Class, data elf.Data, machine elf.Machine) string {
	if class == elf.ELFCLASS64 {
		for arch, m := range machines {
			if m.machine == machine && (data == elf.ELFDATA2MSB) == (m.order == binary.ByteOrder(binary.BigEndian)) {
				return arch
			}
		}
	}
	return fmt.Sprintf("%s %s %s", machine, class, data)
}
