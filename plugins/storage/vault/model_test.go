package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos/plugins/sdk/compression"
)

// machine drives a vault and a model of it, two maps, by the same operations.
type machine struct {
	disk    *memFS
	v       *Vault
	workers int
	objects map[string]string
	loose   map[string]bool
}

func (m *machine) open(t *rapid.T) {
	o := testOptions(m.disk)
	o.Workers = m.workers
	v, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	m.v = v
}

func (m *machine) close(t *rapid.T) {
	if err := m.v.Close(); err != nil {
		t.Fatal(err)
	}
}

var (
	names    = rapid.SampledFrom([]string{"a", "a/1", "a/2", "b", "ü"})
	contents = rapid.Custom(func(t *rapid.T) string {
		// Few different blocks, so that objects share chunks, and a tail of any length.
		whole := rapid.StringOfN(rapid.RuneFrom([]rune("123")), 0, 5, -1).Draw(t, "blocks")
		return blocks(whole) + strings.Repeat("t", rapid.IntRange(0, MinChunk-1).Draw(t, "tail"))
	})
	loose  = rapid.SampledFrom([]string{"", "l", blocks("1"), blocks("2")})
	codecs = rapid.Custom(func(t *rapid.T) compression.Codec {
		a := rapid.SampledFrom([]compression.Algorithm{compression.None, compression.Zstd, compression.S2, compression.Brotli}).Draw(t, "codec")
		c, err := compression.New(a, compression.Fastest)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
)

func TestVaultAgreesWithAModel(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{disk: newMemFS(), workers: rapid.IntRange(1, 3).Draw(t, "workers"),
			objects: map[string]string{}, loose: map[string]bool{}}
		m.open(t)
		defer m.close(t)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				name, content := names.Draw(t, "name"), contents.Draw(t, "content")
				if _, err := m.v.Put(ctx, name, strings.NewReader(content), PutOptions{Codec: codecs.Draw(t, "codec")}); err != nil {
					t.Fatal(err)
				}
				m.objects[name] = content
			},
			"delete": func(t *rapid.T) {
				name := names.Draw(t, "name")
				_, there := m.objects[name]
				if err := m.v.Delete(ctx, name); there != (err == nil) || !there && !errors.Is(err, ErrNotFound) {
					t.Fatalf("delete %q, there %v: %v", name, there, err)
				}
				delete(m.objects, name)
			},
			"put chunk": func(t *rapid.T) {
				content := loose.Draw(t, "content")
				hash, err := m.v.PutChunk(ctx, []byte(content), PutOptions{Codec: codecs.Draw(t, "codec")})
				if err != nil || hash != hashOf(content) {
					t.Fatal(hash, err)
				}
				m.loose[content] = true
			},
			"delete chunk": func(t *rapid.T) {
				content := loose.Draw(t, "content")
				there := m.loose[content]
				if err := m.v.DeleteChunk(ctx, hashOf(content)); there != (err == nil) || !there && !errors.Is(err, ErrNotFound) {
					t.Fatalf("there %v: %v", there, err)
				}
				delete(m.loose, content)
			},
			"list": func(t *rapid.T) {
				prefix := rapid.SampledFrom([]string{"", "a", "a/", "c"}).Draw(t, "prefix")
				after := rapid.SampledFrom([]string{"", "a", "a/1", "b", "z"}).Draw(t, "after")
				limit := rapid.IntRange(1, 6).Draw(t, "limit")
				var want []string
				for _, name := range slices.Sorted(maps.Keys(m.objects)) {
					if strings.HasPrefix(name, prefix) && name > after && len(want) < limit {
						want = append(want, name)
					}
				}
				infos, err := m.v.List(ctx, prefix, limit, after)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, i := range infos {
					got = append(got, i.Name)
					if i.Size != uint64(len(m.objects[i.Name])) || i.Digest != hashOf(m.objects[i.Name]) {
						t.Fatalf("%+v", i)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("listed %q, want %q", got, want)
				}
			},
			"reopen": func(t *rapid.T) {
				m.close(t)
				m.open(t)
			},
			"lose power": func(t *rapid.T) {
				m.close(t)
				m.disk = m.disk.afterPowerLoss(rapid.Uint64().Draw(t, "seed"))
				m.open(t)
			},
			"collect": func(t *rapid.T) {
				if _, err := m.v.Collect(ctx); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) { m.compare(t) },
		})
	})
}

// compare reads everything.
func (m *machine) compare(t *rapid.T) {
	ctx := context.Background()
	for _, name := range []string{"a", "a/1", "a/2", "b", "ü"} {
		want, there := m.objects[name]
		got, err := read(m.v, name)
		if there && (err != nil || got != want) || !there && !errors.Is(err, ErrNotFound) {
			t.Fatalf("%q, there %v: %d bytes of %d, %v", name, there, len(got), len(want), err)
		}
		if there {
			if _, err := m.v.Verify(ctx, name, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for content := range m.loose {
		if got, err := m.v.GetChunk(ctx, hashOf(content), nil); err != nil || string(got) != content {
			t.Fatalf("loose chunk of %d bytes: %v", len(content), err)
		}
	}
	used := map[string]bool{}
	for _, content := range m.objects {
		for chunk := range slices.Chunk([]byte(content), MinChunk) {
			used[string(chunk)] = true
		}
	}
	maps.Copy(used, m.loose)
	usage := m.v.Usage()
	if usage.Objects != len(m.objects) || usage.Pinned != len(m.loose) || usage.Chunks != len(used) {
		t.Fatalf("usage %+v, want %d objects, %d pinned, %d chunks", usage, len(m.objects), len(m.loose), len(used))
	}
	if p := m.v.Problems(); len(p) > 0 {
		t.Fatal(p)
	}
}
