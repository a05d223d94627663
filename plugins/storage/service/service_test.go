package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inos/plugins/sdk"
	"inos/plugins/sdk/hashing"
	"inos/plugins/sdk/sdktest"
	"inos/plugins/sdk/wire"
)

// open returns the module with an open vault.
func open(t *testing.T, settings map[string]string) *sdk.Plugin {
	t.Helper()
	p := Plugin()
	sdktest.Start(t, p, settings)
	return p
}

// answer runs a job that answers in JSON.
func answer(t *testing.T, p *sdk.Plugin, capability string, input []byte, params ...any) map[string]any {
	t.Helper()
	out, err := sdktest.Run(t, p, capability, input, params...)
	if err != nil {
		t.Fatalf("%s: %v", capability, err)
	}
	var v map[string]any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s answered %q: %v", capability, out, err)
	}
	return v
}

func TestObjectComesBackAndIsDescribed(t *testing.T) {
	p := open(t, nil)
	data := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data[:1<<20]) // and the rest compresses well
	for _, compression := range []string{"zstd", "s2", "brotli", "none"} {
		put := answer(t, p, "storage.put", data, "name", "a", "compression", compression)
		if put["size"] != float64(len(data)) || put["compression"] != compression || put["blake3"] != hashing.Sum(data).String() {
			t.Errorf("put: %v", put)
		}
		if out, err := sdktest.Run(t, p, "storage.get", nil, "name", "a"); err != nil || !bytes.Equal(out, data) {
			t.Errorf("%s: %d bytes came back, %v", compression, len(out), err)
		}
	}
	if v := answer(t, p, "storage.verify", nil, "name", "a"); v["ok"] != true || v["name"] != "a" {
		t.Errorf("verify: %v", v)
	}
	if v := answer(t, p, "storage.stat", nil, "name", "a"); v["size"] != float64(len(data)) {
		t.Errorf("stat: %v", v)
	}
	if v := answer(t, p, "storage.delete", nil, "name", "a"); v["deleted"] != true {
		t.Errorf("delete: %v", v)
	}
	if _, err := sdktest.Run(t, p, "storage.get", nil, "name", "a"); !errors.Is(err, wire.ErrNotFound) || !strings.Contains(err.Error(), "store ls") {
		t.Errorf("after delete: %v", err)
	}
}

func TestListGivesPages(t *testing.T) {
	p := open(t, nil)
	for i := range 5 {
		answer(t, p, "storage.put", nil, "name", fmt.Sprint("n", i))
	}
	answer(t, p, "storage.put", nil, "name", "other")
	var names []string
	for after, pages := "", 0; ; pages++ {
		v := answer(t, p, "storage.list", nil, "prefix", "n", "limit", uint64(2), "after", after)
		for _, o := range v["objects"].([]any) {
			names = append(names, o.(map[string]any)["name"].(string))
		}
		if after = v["next"].(string); after == "" {
			break
		}
		if pages > 5 {
			t.Fatal("the pages do not end")
		}
	}
	if got := strings.Join(names, " "); got != "n0 n1 n2 n3 n4" {
		t.Errorf("listed %s", got)
	}
	for _, limit := range []uint64{0, 1 << 40} {
		if v := answer(t, p, "storage.list", nil, "limit", limit); len(v["objects"].([]any)) != 6 || v["next"] != "" {
			t.Errorf("limit %d: %v", limit, v)
		}
	}
}

func TestChunkIsFoundByItsHash(t *testing.T) {
	p := open(t, nil)
	for _, chunk := range [][]byte{nil, []byte("chunk")} {
		hash, err := sdktest.Run(t, p, "chunk.put", chunk)
		if err != nil || hashing.Digest(hash) != hashing.Sum(chunk) {
			t.Fatalf("put: %x, %v", hash, err)
		}
		if got, err := sdktest.Run(t, p, "chunk.get", nil, "hash", hash); err != nil || !bytes.Equal(got, chunk) {
			t.Errorf("get: %q, %v", got, err)
		}
	}
	if _, err := sdktest.Run(t, p, "chunk.get", nil, "hash", []byte("short")); !errors.Is(err, wire.ErrInvalidArgument) {
		t.Errorf("short hash: %v", err)
	}
}

func TestVaultLiesWhereTheOperatorSays(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(file, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"dir": filepath.Join(dir, "deep", "vault"), "passphrase_file": file}
	t.Run("once", func(t *testing.T) { answer(t, open(t, settings), "storage.put", []byte("x"), "name", "a") })
	t.Run("again", func(t *testing.T) {
		if out, err := sdktest.Run(t, open(t, settings), "storage.get", nil, "name", "a"); err != nil || string(out) != "x" {
			t.Errorf("%q, %v", out, err)
		}
	})
	if err := os.WriteFile(file, []byte("another one that is wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Plugin().TryStart(t.Context(), t.TempDir(), settings); !errors.Is(err, wire.ErrPermissionDenied) {
		t.Errorf("wrong passphrase: %v", err)
	}
}

// TestRelativePathsAreRefused: a plugin works in a folder that is removed when it
// ends, and a vault there would be, too.
func TestRelativePathsAreRefused(t *testing.T) {
	for _, name := range []string{"dir", "passphrase_file"} {
		_, err := Plugin().TryStart(t.Context(), t.TempDir(), map[string]string{name: "here"})
		if !errors.Is(err, wire.ErrInvalidArgument) || !strings.Contains(err.Error(), "absolute") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChunksOfAKilledPutAreRemoved puts a chunk file into the vault that no object
// names, as a process leaves that is killed in the middle of a put.
func TestChunksOfAKilledPutAreRemoved(t *testing.T) {
	vault := filepath.Join(t.TempDir(), "vault")
	p := open(t, map[string]string{"dir": vault})
	answer(t, p, "storage.put", []byte("kept"), "name", "a", "compression", "none")
	chunks, err := filepath.Glob(filepath.Join(vault, "chunks", "*", "*"))
	if err != nil || len(chunks) != 1 {
		t.Fatalf("%v, %v", chunks, err)
	}
	name := []byte(filepath.Base(chunks[0]))
	slices.Reverse(name[len(name)/2:]) // another chunk's name in the same folder
	left := filepath.Join(filepath.Dir(chunks[0]), string(name))
	if err := os.WriteFile(left, []byte("rest of a put"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := answer(t, p, "storage.gc", nil); v["removed"] != 1.0 {
		t.Errorf("gc: %v", v)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the chunk is still there: %v", err)
	}
	if out, err := sdktest.Run(t, p, "storage.get", nil, "name", "a"); err != nil || string(out) != "kept" {
		t.Errorf("%q, %v", out, err)
	}
}
