// Package service puts a vault behind the capabilities of the storage module.
// It turns jobs into calls of package vault and its errors into what a caller can
// act on; it neither encrypts nor writes anything itself.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"inos/plugins/sdk"
	"inos/plugins/storage/vault"
)

// Version of the module.
const Version = "1.0.0"

// service is the state of the running module.
type service struct {
	vault      atomic.Pointer[vault.Vault] // set by start, before the first job
	collecting sync.WaitGroup
}

// Plugin describes the storage module. Its vault lies in the plugin's own data
// folder, with a key file beside it that is made on the first start. The
// operator's setting "passphrase_file" names a file with a passphrase to use
// instead of the key file, and "dir" another folder for the vault. Both are
// absolute: the folder that a plugin works in ends with it.
func Plugin() *sdk.Plugin {
	s := &service{}
	name := sdk.ParamSpec{Name: "name", Required: true, Description: "name of the object"}
	return &sdk.Plugin{
		Name:        "storage",
		Version:     Version,
		Description: "keeps objects: compressed, encrypted, addressed by content",
		License:     "Apache-2.0",
		Needs:       []sdk.Grant{sdk.MayLog},
		Resources:   sdk.Resources{CPUCores: 2, Memory: 128 << 20, Arena: 32 << 20, IOIntensive: true},
		Cost:        sdk.CostModel{Base: 200, PerMB: 10, PerSecond: 1000},
		Concurrency: 8,
		SelfTest:    "storage.selftest",
		Start:       s.start,
		Stop:        s.stop,
		Capabilities: []sdk.Capability{
			{
				Name: "storage.put", Description: "keeps the input under a name, in place of what was there",
				Params: []sdk.ParamSpec{name, {
					Name: "compression", Default: "zstd", Choices: []string{"zstd", "s2", "brotli", "none"},
					Description: "how to compress it",
				}},
				Streams: true, OutputType: "application/json", Handle: s.put,
			},
			{Name: "storage.get", Description: "gives an object back", Params: []sdk.ParamSpec{name}, Streams: true, Idempotent: true, Handle: s.get},
			{Name: "storage.stat", Description: "describes an object", Params: []sdk.ParamSpec{name}, Idempotent: true, OutputType: "application/json", Handle: s.stat},
			{Name: "storage.verify", Description: "reads an object and checks every byte of it", Params: []sdk.ParamSpec{name}, Idempotent: true, OutputType: "application/json", Handle: s.verify},
			{Name: "storage.delete", Description: "forgets an object", Params: []sdk.ParamSpec{name}, OutputType: "application/json", Handle: s.delete},
			{
				Name: "storage.list", Description: "lists objects by name", Idempotent: true, OutputType: "application/json", Handle: s.list,
				Params: []sdk.ParamSpec{
					{Name: "prefix", Description: "only names that begin with this"},
					{Name: "limit", Kind: sdk.Uint, Default: "1000", Description: "at most so many, 1000 in any case"},
					{Name: "after", Description: "only names behind this one: the next of an earlier answer"},
				},
			},
			{Name: "storage.gc", Description: "removes chunks that belong to no object", Idempotent: true, OutputType: "application/json", Handle: s.gc},
			{Name: "storage.selftest", Description: "checks that the vault opens with its key", Idempotent: true, Handle: s.selfTest},
			{Name: "chunk.put", Description: "keeps a chunk, addressed by the BLAKE3 of its bytes", MaxInput: vault.MaxChunk, Idempotent: true, Handle: s.putChunk},
			{
				Name: "chunk.get", Description: "gives a chunk back", MaxOutput: vault.MaxChunk, Idempotent: true, Handle: s.getChunk,
				Params: []sdk.ParamSpec{{Name: "hash", Kind: sdk.Data, Required: true, Description: "BLAKE3 of the chunk, 32 bytes"}},
			},
		},
	}
}

// start opens the vault.
func (s *service) start(_ context.Context, h *sdk.Host) error {
	for _, name := range []string{"dir", "passphrase_file"} {
		if path := h.Setting(name); path != "" && !filepath.IsAbs(path) {
			return sdk.Errorf(sdk.InvalidArgument, "write an absolute path into the node's policy.json", "the setting %s is %q", name, path)
		}
	}
	dir := cmp.Or(h.Setting("dir"), filepath.Join(h.DataDir(), "vault"))
	key, err := key(h)
	if err != nil {
		return explain(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("the folder of the vault: %w", err)
	}
	v, err := vault.Open(vault.Options{Dir: dir, Key: key})
	if err != nil {
		return explain(err)
	}
	for _, p := range v.Problems() {
		h.Log().Error("an object cannot be read", "error", p)
	}
	s.vault.Store(v)
	s.collect(v, h)
	return nil
}

// collect removes, beside the first jobs, the chunks that a killed process left
// without an object.
func (s *service) collect(v *vault.Vault, h *sdk.Host) {
	s.collecting.Go(func() {
		n, err := v.Collect(context.Background()) // it ends with the vault
		if err != nil && !errors.Is(err, vault.ErrClosed) {
			h.Log().Warn("unused chunks stay on disk", "error", err)
		}
		if n > 0 {
			h.Log().Info("removed chunks that belong to no object", "count", n)
		}
	})
}

// key finds what opens the vault: a passphrase, or the key file.
func key(h *sdk.Host) (vault.Key, error) {
	if f := h.Setting("passphrase_file"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return vault.Key{}, fmt.Errorf("the passphrase: %w", err)
		}
		return vault.Passphrase(strings.TrimRight(string(b), "\r\n"))
	}
	path := filepath.Join(h.DataDir(), "vault.key")
	k, created, err := vault.LoadOrCreateKeyFile(path)
	if created {
		h.Log().Warn("made a new key; without it the vault cannot be read, so keep a copy elsewhere", "file", path)
	}
	return k, err
}

func (s *service) stop(context.Context) error {
	v := s.vault.Swap(nil)
	if v == nil {
		return nil
	}
	err := v.Close()
	s.collecting.Wait()
	return err
}

// explain gives an error of the vault the code and the hint a caller needs.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []struct {
		is   error
		code sdk.Code
		hint string
	}{
		{vault.ErrNotFound, sdk.NotFound, "see inos store ls for what there is"},
		{vault.ErrCorrupt, sdk.DataLoss, "restore it from another copy; the damaged files were left as they are"},
		{vault.ErrWrongKey, sdk.PermissionDenied, "give the plugin the key or passphrase that the vault was made with"},
		{vault.ErrKey, sdk.PermissionDenied, ""},
		{vault.ErrName, sdk.InvalidArgument, ""},
		{vault.ErrTooLarge, sdk.InvalidArgument, ""},
		{vault.ErrLocked, sdk.Unavailable, "one node at a time may use a vault"},
		{vault.ErrReadOnly, sdk.Unavailable, "look at the disk, then start the node again"},
	} {
		if errors.Is(err, known.is) {
			return sdk.Errorf(known.code, known.hint, "%w", err)
		}
	}
	return err
}
