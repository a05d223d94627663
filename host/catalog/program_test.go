package catalog

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
)

// tiny builds the smallest file that passes for a program of this machine: a
// header, the given program headers, some code, and an empty section table at the
// end.
func tiny(t testing.TB, edit func(h *elf.Header64, p []elf.Prog64)) []byte {
	t.Helper()
	m, ok := machines[runtime.GOARCH]
	if !ok {
		t.Skipf("no ELF machine known for %s", runtime.GOARCH)
	}
	const code = elfHeaderSize + 2*programHeaderSize
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(m.machine), Version: 1, Entry: 0x400000 + code,
		Phoff: elfHeaderSize, Ehsize: elfHeaderSize, Phentsize: programHeaderSize, Phnum: 2,
		Shoff: code + 32, Shentsize: sectionHeaderSize, Shnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), 1
	h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	if m.order == binary.ByteOrder(binary.BigEndian) {
		h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	p := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: 5, Off: 0, Filesz: code + 32, Memsz: code + 32},
		{Type: uint32(elf.PT_NULL)},
	}
	if edit != nil {
		edit(&h, p)
	}
	order := m.order
	if h.Ident[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	for _, part := range []any{h, p, make([]byte, 32), make([]byte, sectionHeaderSize)} {
		if err := binary.Write(&b, order, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestExamineTellsProgramsFromOtherFiles(t *testing.T) {
	foreign := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		foreign = elf.EM_X86_64
	}
	tests := []struct {
		name string
		file []byte
		kind Kind
		want error
		says string
	}{
		{"program", tiny(t, nil), ELF, nil, ""},
		{"position independent program", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Type = uint16(elf.ET_DYN) }), ELF, nil, ""},
		{"stripped of its section table", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Shoff, h.Shnum = 0, 0 }), ELF, nil, ""},
		{"script", []byte("#!/bin/sh\necho\n"), Script, nil, ""},
		{"script without a line end", []byte("#! /usr/bin/env python3"), Script, nil, ""},
		{"script with a relative interpreter", []byte("#!sh\n"), 0, NotAPlugin, "absolute"},
		{"script with an endless first line", []byte("#!/" + strings.Repeat("x", 400)), 0, NotAPlugin, "longer"},
		{"nothing", nil, 0, Truncated, "empty"},
		{"beginning of a header", []byte("\x7fE"), 0, Truncated, "2 bytes"},
		{"text", []byte("hello"), 0, NotAPlugin, `"hello"`},
		{"Windows program", []byte("MZ\x90\x00"), 0, WrongArchitecture, "Windows"},
		{"Go package archive", []byte("!<arch>\n__.PKGDEF"), 0, NotAPlugin, "package main"},
		{"other machine", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Machine = uint16(foreign) }), 0, WrongArchitecture, runtime.GOARCH},
		{"32 bits", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS32) }), 0, WrongArchitecture, "ELFCLASS32"},
		{"other byte order", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Ident[elf.EI_DATA] ^= 3 }), 0, WrongArchitecture, ""},
		{"object file", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Type = uint16(elf.ET_REL) }), 0, NotAPlugin, "ET_REL"},
		{"shared library", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Type, h.Entry = uint16(elf.ET_DYN), 0 }), 0, NotAPlugin, "shared library"},
		{"no segments", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Phnum = 0 }), 0, NotAPlugin, "no program headers"},
		{"nothing to load", tiny(t, func(_ *elf.Header64, p []elf.Prog64) { p[0].Type = uint32(elf.PT_NULL) }), 0, NotAPlugin, "loaded"},
		{"too many segments", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Phnum = 0xffff }), 0, NotAPlugin, "more than"},
		{"odd segment headers", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Phentsize = 1 }), 0, NotAPlugin, "56"},
		{"segment past the end", tiny(t, func(_ *elf.Header64, p []elf.Prog64) { p[0].Filesz = 1 << 20 }), 0, Truncated, "segment 0"},
		{"segment whose end overflows", tiny(t, func(_ *elf.Header64, p []elf.Prog64) { p[0].Off = ^uint64(0) - 8 }), 0, Truncated, "segment 0"},
		{"headers past the end", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Phoff = ^uint64(0) - 8 }), 0, Truncated, "program headers"},
		{"sections past the end", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Shnum = 40 }), 0, Truncated, "section table"},
		{"odd section headers", tiny(t, func(h *elf.Header64, _ []elf.Prog64) { h.Shentsize = 1 }), 0, NotAPlugin, "section headers"},
		{"loader without a name", tiny(t, func(_ *elf.Header64, p []elf.Prog64) {
			p[1] = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 0, Filesz: 1}
		}), 0, NotAPlugin, "loader"},
		{"loader with a relative name", tiny(t, func(_ *elf.Header64, p []elf.Prog64) {
			p[1] = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 0, Filesz: 16}
		}), 0, NotAPlugin, "loader"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, refusal := examine(bytes.NewReader(tt.file), int64(len(tt.file)))
			if tt.want == nil {
				if refusal != nil || p.kind != tt.kind {
					t.Fatalf("got %v, %v", p, refusal)
				}
				return
			}
			if refusal == nil || !errors.Is(refusal, tt.want) || !strings.Contains(refusal.Detail, tt.says) || refusal.Hint == "" {
				t.Fatalf("got %+v, want %v that says %q", refusal, tt.want, tt.says)
			}
		})
	}
}

func TestExamineRefusesEveryBeginningOfAProgram(t *testing.T) {
	whole := tiny(t, nil)
	for n := 1; n < len(whole); n++ {
		if _, refusal := examine(bytes.NewReader(whole[:n]), int64(n)); refusal == nil || refusal.Reason != Truncated {
			t.Fatalf("%d bytes of %d: %v", n, len(whole), refusal)
		}
	}
}

func TestExamineAcceptsThisProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if p, refusal := examine(f, info.Size()); refusal != nil || p.kind != ELF {
		t.Fatalf("got %v, %v", p, refusal)
	}
}

func FuzzExamine(f *testing.F) {
	f.Add(tiny(f, nil))
	f.Add(tiny(f, func(_ *elf.Header64, p []elf.Prog64) {
		p[1] = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 16, Filesz: 24}
	}))
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, refusal := examine(bytes.NewReader(b), int64(len(b)))
		switch {
		case refusal != nil:
			if p != (program{}) || refusal.Detail == "" || refusal.Hint == "" || refusal.Reason.String() == "" {
				t.Fatalf("refused with %v and %+v", p, refusal)
			}
		case p.kind == ELF && len(b) < elfHeaderSize+programHeaderSize:
			t.Fatalf("%d bytes pass for a program", len(b))
		case p.kind == Script && !strings.HasPrefix(p.interpreter, "/"), p.kind != ELF && p.kind != Script:
			t.Fatalf("accepted as %+v", p)
		}
	})
}
