package integration

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos/host/node"
	"inos/integration/nodetest"
)

// otherMachine changes the machine that an ELF binary says it is for.
func otherMachine(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [2]byte
	binary.LittleEndian.PutUint16(b[:], uint16(elf.EM_S390))
	if _, err := f.WriteAt(b[:], 18); err != nil { // e_machine
		t.Fatal(err)
	}
}

func TestBadPluginsAreRefusedByNameAndTheNodeGoesOn(t *testing.T) {
	binary := nodetest.Build(t, nodetest.TestPlugin)
	for _, c := range []struct {
		file string
		make func(t *testing.T, path string)
		says string // in the reason
	}{
		{"text", func(t *testing.T, p string) { write(t, p, "hello\n", 0o755) }, "not-a-plugin"},
		{"empty", func(t *testing.T, p string) { write(t, p, "", 0o755) }, "truncated"},
		{"locked", func(t *testing.T, p string) { nodetest.Copy(t, binary, p); chmod(t, p, 0o644) }, "not-executable"},
		{"open", func(t *testing.T, p string) { nodetest.Copy(t, binary, p); chmod(t, p, 0o777) }, "unsafe-permissions"},
		{"cut", func(t *testing.T, p string) { nodetest.Copy(t, binary, p); truncate(t, p, 1<<20) }, "truncated"},
		{"foreign", func(t *testing.T, p string) { nodetest.Copy(t, binary, p); otherMachine(t, p) }, "wrong-architecture"},
		{"wrongsum", func(t *testing.T, p string) {
			nodetest.Copy(t, binary, p)
			write(t, p+".sha256", strings.Repeat("0", 64)+"  wrongsum\n", 0o644)
		}, "bad-checksum"},
		{"noise", copied(binary), "noise"},
		{"initcrash", copied(binary), "crashed-at-start"},
		{"initexit", copied(binary), "I cannot go on"},
		{"inithang", copied(binary), "hung-at-start"},
		{"oldprotocol", copied(binary), "wrong-protocol"},
		{"oldabi", copied(binary), "ABI"},
		{"thief-probe", copied(binary), "probe.echo"},
		{"lonely", copied(binary), "dependency"},
		{"sickly", copied(binary), "self-test"},
		{"fatal", copied(binary), "self-test fatal.poison failed"},
		{"script", func(t *testing.T, p string) { write(t, p, "#!/bin/sh\necho no\n", 0o755) }, "noise"},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir := nodetest.Folder(t, binary, "probe")
			c.make(t, filepath.Join(dir, c.file))
			n := nodetest.Start(t, node.Options{PluginsDir: dir, StartTimeout: 2 * time.Second})
			p := nodetest.Plugin(t, n, c.file)
			if p.Phase != node.Refused || !strings.Contains(p.Reason, c.says) {
				t.Errorf("phase %s, reason %q does not say %q", p.Phase, p.Reason, c.says)
			}
			if string(nodetest.Must(t, n, "probe.echo", []byte("x"))) != "x" {
				t.Error("the good plugin does not work")
			}
		})
	}
}

func copied(binary string) func(*testing.T, string) {
	return func(t *testing.T, p string) { nodetest.Copy(t, binary, p) }
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}
