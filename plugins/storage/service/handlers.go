package service

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"inos/plugins/sdk"
	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
	"inos/plugins/storage/vault"
)

// object is how an answer describes an object.
type object struct {
	Name        string    `json:"name"`
	Size        uint64    `json:"size"`
	Stored      uint64    `json:"stored"`
	Chunks      int       `json:"chunks"`
	Compression string    `json:"compression"`
	BLAKE3      string    `json:"blake3"`
	Created     time.Time `json:"created"`
	Modified    time.Time `json:"modified"`
}

func describe(i vault.Info) object {
	return object{
		Name: i.Name, Size: i.Size, Stored: i.Stored, Chunks: i.Chunks, Compression: i.Compression.String(),
		BLAKE3: hex.EncodeToString(i.Digest[:]), Created: i.Created, Modified: i.Modified,
	}
}

func (s *service) put(j *sdk.Job) error {
	a, err := compression.Parse(j.Params().Text("compression"))
	if err != nil {
		return err
	}
	codec, err := compression.New(a, level(a))
	if err != nil {
		return err
	}
	in := &counted{r: j, job: j, total: j.InputSize()}
	info, err := s.vault.Load().Put(j.Context(), j.Params().Text("name"), in, vault.PutOptions{Codec: codec})
	if err != nil {
		return explain(err)
	}
	return json.NewEncoder(j).Encode(describe(info))
}

// level is what an algorithm is used for: zstd where data comes in, Brotli where
// it will be read more often than written.
func level(a compression.Algorithm) compression.Level {
	if a == compression.Zstd {
		return compression.Fastest
	}
	return compression.Default
}

// counted reports progress as the input is read.
type counted struct {
	r           io.Reader
	job         *sdk.Job
	done, total uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += uint64(n)
	c.job.Progress(c.done, c.total)
	return n, err
}

func (s *service) get(j *sdk.Job) error {
	r, err := s.vault.Load().Get(j.Context(), j.Params().Text("name"))
	if err != nil {
		return explain(err)
	}
	_, err = r.WriteTo(j)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return explain(err)
}

func (s *service) stat(j *sdk.Job) error {
	info, err := s.vault.Load().Stat(j.Context(), j.Params().Text("name"))
	if err != nil {
		return explain(err)
	}
	return json.NewEncoder(j).Encode(describe(info))
}

func (s *service) verify(j *sdk.Job) error {
	v, name := s.vault.Load(), j.Params().Text("name")
	info, err := v.Stat(j.Context(), name)
	if err != nil {
		return explain(err)
	}
	r, err := v.Verify(j.Context(), name, func(n uint64) { j.Progress(n, info.Size) })
	if err != nil {
		return explain(err)
	}
	return json.NewEncoder(j).Encode(struct {
		object
		OK bool `json:"ok"`
	}{describe(r.Info), true})
}

func (s *service) delete(j *sdk.Job) error {
	name := j.Params().Text("name")
	if err := s.vault.Load().Delete(j.Context(), name); err != nil {
		return explain(err)
	}
	return json.NewEncoder(j).Encode(map[string]any{"name": name, "deleted": true})
}

func (s *service) list(j *sdk.Job) error {
	p := j.Params()
	limit := int(min(cmp.Or(p.Uint("limit"), vault.MaxList), vault.MaxList))
	infos, err := s.vault.Load().List(j.Context(), p.Text("prefix"), limit, p.Text("after"))
	if err != nil {
		return explain(err)
	}
	answer := struct {
		Objects []object `json:"objects"`
		Next    string   `json:"next"` // give it as after for what may follow, empty at the end
	}{Objects: make([]object, 0, len(infos))}
	for _, i := range infos {
		answer.Objects = append(answer.Objects, describe(i))
	}
	if len(infos) == limit {
		answer.Next = infos[limit-1].Name
	}
	return json.NewEncoder(j).Encode(answer)
}

func (s *service) gc(j *sdk.Job) error {
	n, err := s.vault.Load().Collect(j.Context())
	if err != nil {
		return explain(err)
	}
	return json.NewEncoder(j).Encode(map[string]any{"removed": n})
}

func (s *service) selfTest(j *sdk.Job) error {
	if _, err := s.vault.Load().List(j.Context(), "", 1, ""); err != nil {
		return explain(err)
	}
	_, err := io.WriteString(j, "the vault is open\n")
	return err
}

func (s *service) putChunk(j *sdk.Job) error {
	in, err := j.Input()
	if err != nil {
		return err
	}
	hash, err := s.vault.Load().PutChunk(j.Context(), in, vault.PutOptions{})
	if err != nil {
		return explain(err)
	}
	_, err = j.Write(hash[:])
	return err
}

func (s *service) getChunk(j *sdk.Job) error {
	raw := j.Params().Data("hash")
	if len(raw) != len(hashing.Digest{}) {
		return sdk.Errorf(sdk.InvalidArgument, "give the BLAKE3 of the chunk", "a hash of %d bytes, not 32", len(raw))
	}
	chunk, err := s.vault.Load().GetChunk(j.Context(), hashing.Digest(raw), nil)
	if err != nil {
		return explain(err)
	}
	_, err = j.Write(chunk)
	return err
}
