package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"inos/plugins/sdk"
	"inos/plugins/sdk/hashing"
)

// work are the operations of every module. Their names begin with the module's.
func work(name string, ledger *string) []sdk.Capability {
	key := []sdk.ParamSpec{{Name: "key", Required: true}, pausing}
	return []sdk.Capability{
		{
			Name: name + ".probe", Description: "says that it is there", Idempotent: true,
			Handle: func(j *sdk.Job) error {
				_, err := j.Write([]byte("here"))
				return err
			},
		}, {
			Name: name + ".mix", Description: "encrypts a stream", Streams: true, Idempotent: true, Params: key,
			Handle: mix,
		}, {
			Name: name + ".hash", Description: "BLAKE3 of a stream", Streams: true, Idempotent: true,
			Handle: func(j *sdk.Job) error {
				h := hashing.New()
				if _, err := io.Copy(h, j); err != nil {
					return err
				}
				sum := h.Sum()
				_, err := j.Write(sum[:])
				return err
			},
		}, {
			Name: name + ".once", Description: "encrypts a stream and must not do so twice", Streams: true, Params: key,
			Handle: func(j *sdk.Job) error {
				if err := writeDown(*ledger, j.Params().Text("key")); err != nil {
					return err
				}
				return mix(j)
			},
		},
	}
}

// pausing is the parameter that says how many milliseconds a job waits in the midst
// of its work, so that there is a midst to be killed in.
var pausing = sdk.ParamSpec{Name: "ms", Kind: sdk.Uint}

func pause(j *sdk.Job) error {
	t := time.NewTimer(time.Duration(j.Params().Uint("ms")) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-j.Context().Done():
		return j.Context().Err()
	}
}

// mix encrypts the input with AES in counter mode under the BLAKE3 of the
// parameter.
func mix(j *sdk.Job) error {
	key := hashing.Sum([]byte(j.Params().Text("key")))
	b, err := aes.NewCipher(key[:])
	if err != nil {
		return err
	}
	s := cipher.NewCTR(b, make([]byte, aes.BlockSize))
	if err := pause(j); err != nil {
		return err
	}
	for {
		in, err := j.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := j.Output(len(in))
		if err != nil {
			return err
		}
		s.XORKeyStream(out, in)
	}
}

// writeDown appends the key of a job to the ledger, in one write, so that every
// run of it leaves exactly one line.
func writeDown(ledger, key string) error {
	f, err := os.OpenFile(ledger, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s\n", key)
	return err
}

// counting gives each job a number that no other has, from a state block that
// outlives processes and versions.
func counting(name string) sdk.Capability {
	var mu sync.Mutex // one commit at a time
	return sdk.Capability{
		Name: name + ".next", Description: "counts in a state block", Params: []sdk.ParamSpec{pausing},
		Handle: func(j *sdk.Job) error {
			n, err := count(&mu, j)
			if err != nil {
				return err
			}
			if err := pause(j); err != nil {
				return err
			}
			_, err = fmt.Fprint(j, n)
			return err
		},
	}
}

// count commits the next number.
func count(mu *sync.Mutex, j *sdk.Job) (uint64, error) {
	mu.Lock()
	defer mu.Unlock()
	st, err := j.Host().State(context.WithoutCancel(j.Context()), "count", 1, 64)
	if err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(st.Current()) + 1
	binary.LittleEndian.PutUint64(st.Next(), n)
	return n, st.Commit()
}
