package journal

import (
	"bytes"
	"testing"
	"time"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// sampleRecords returns a request and an ending as they lie on disk.
func sampleRecords(t testing.TB) (r, e []byte) {
	t.Helper()
	at := time.Unix(1, 2)
	r, err := request{accepted: at, deadline: at.Add(time.Hour), input: blob{3, inStore, [32]byte{1}}, job: wire.Job{
		ID: 7, Capability: "test.again", Params: wire.Params{{Name: "n", Value: uint64(7)}}, IdempotencyKey: "k",
	}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	e, err = ending{at: at, outcome: dispatch.Outcome{
		Status: compute.Status_failed, Err: wire.NewError(base.Code_internal, "hint", "message"), Attempts: 3, Cost: 9,
	}}.encode(7)
	if err != nil {
		t.Fatal(err)
	}
	return r, e
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	rb, eb := sampleRecords(t)
	r, err := decodeRequest(rb)
	if err != nil || r.job.Params.Uint("n") != 7 || r.job.IdempotencyKey != "k" || !r.deadline.Equal(time.Unix(3601, 2)) || r.input.Size != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	e, err := decodeEnding(eb)
	if o := e.outcome; err != nil || o.Status != compute.Status_failed || o.Attempts != 3 || o.Cost != 9 || o.Err.Hint != "hint" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEveryTornOrFlippedRecordIsRefused(t *testing.T) {
	rb, eb := sampleRecords(t)
	for _, b := range [][]byte{rb, eb} {
		for i := range b {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1
			for _, bad := range [][]byte{flipped, b[:i]} {
				_, r := decodeRequest(bad)
				_, e := decodeEnding(bad)
				if r == nil || e == nil {
					t.Fatalf("damage at byte %d went unseen", i)
				}
			}
		}
	}
}

// FuzzRecords feeds the decoders bodies under a checksum that is right.
func FuzzRecords(f *testing.F) {
	rb, eb := sampleRecords(f)
	for _, b := range [][]byte{rb, eb} {
		f.Add(b[1 : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := seal([]byte{}, body)
		if err != nil {
			return
		}
		if r, err := decodeRequest(b); err == nil {
			again, err := r.encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeRequest(again); err != nil {
				t.Error(err)
			}
		}
		if e, err := decodeEnding(b); err == nil {
			again, err := e.encode(1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeEnding(again); err != nil {
				t.Error(err)
			}
		}
	})
}
