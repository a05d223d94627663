package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
)

// A record is a version, a head of fixed fields, for most kinds a message as
// plugins and host exchange it, and a checksum over all of that. The messages
// are used as they are, since they keep the types of parameters, which JSON does
// not, and their decoders are bounded and fuzzed already; what only the journal
// knows stands in the head, so no schema had to change for it.
const recordVersion = 1

// maxRecord bounds one record in bytes. Parameters are what makes one large.
const maxRecord = 1 << 20

// errDamaged says that stored bytes are not what was written.
var errDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place says where bytes of a job lie.
type place uint8

const (
	nowhere place = iota // there are none
	inStore              // beside the record
	inFile               // in a file of their own
	places
)

// blob describes bytes of a job: where they are and what they must be.
type blob struct {
	Size  uint64
	Place place
	Sum   [32]byte // BLAKE3
}

// request is the record of a job as it was accepted. It never changes.
type request struct {
	accepted time.Time
	deadline time.Time // zero for none
	input    blob
	job      wire.Job // its deadline is not used: that clock ends with the boot
}

// ending is the record of what came of a job.
type ending struct {
	at      time.Time
	result  blob
	outcome dispatch.Outcome
}

type requestHead struct {
	Accepted, Deadline int64 // Unix ns, 0 for none
	Input              blob
}

type endingHead struct {
	At       int64 // Unix ns
	Attempts uint32
	Result   blob
}

func (r request) encode() ([]byte, error) {
	msg, err := r.job.Encode()
	if err != nil {
		return nil, err
	}
	return seal(requestHead{nanos(r.accepted), nanos(r.deadline), r.input}, msg)
}

func decodeRequest(b []byte) (r request, err error) {
	var head requestHead
	msg, err := unseal(b, &head)
	if err == nil {
		err = head.Input.check()
	}
	if err == nil {
		r.job, err = wire.DecodeJob(msg)
	}
	if err != nil {
		return request{}, fmt.Errorf("the record of the request: %w", err)
	}
	r.accepted, r.deadline, r.input = moment(head.Accepted), moment(head.Deadline), head.Input
	return r, nil
}

func (e ending) encode(id uint64) ([]byte, error) {
	o := e.outcome
	msg, err := wire.Result{ID: id, Status: o.Status, Cost: o.Cost, Err: o.Err, Metrics: o.Metrics}.Encode()
	if err != nil {
		return nil, err
	}
	return seal(endingHead{nanos(e.at), uint32(max(o.Attempts, 0)), e.result}, msg)
}

func decodeEnding(b []byte) (e ending, err error) {
	var head endingHead
	var r wire.Result
	msg, err := unseal(b, &head)
	if err == nil {
		err = head.Result.check()
	}
	if err == nil {
		r, err = wire.DecodeResult(msg)
	}
	if err != nil {
		return ending{}, fmt.Errorf("the record of the outcome: %w", err)
	}
	return ending{moment(head.At), head.Result, dispatch.Outcome{
		Status: r.Status, Err: r.Err, Cost: r.Cost, Metrics: r.Metrics, Attempts: int(head.Attempts),
	}}, nil
}

// check refuses what no journal writes.
func (b blob) check() error {
	if b.Place >= places || (b.Place == nowhere) != (b.Size == 0) || b.Size > 1<<62 {
		return fmt.Errorf("%w: %d bytes in place %d", errDamaged, b.Size, b.Place)
	}
	return nil
}

// seal puts a record together.
func seal(head any, msg []byte) ([]byte, error) {
	b, err := binary.Append([]byte{recordVersion}, binary.LittleEndian, head)
	if err != nil {
		return nil, err
	}
	b = append(b, msg...)
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%d bytes of parameters and metadata, and at most %d are kept", len(b), maxRecord)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// unseal takes a record apart. What it returns lies in b.
func unseal(b []byte, head any) (msg []byte, err error) {
	n := len(b) - crc32.Size
	switch {
	case n < 1 || n > maxRecord:
		return nil, fmt.Errorf("%w: %d bytes", errDamaged, len(b))
	case crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]):
		return nil, fmt.Errorf("%w: the checksum does not match", errDamaged)
	case b[0] != recordVersion:
		return nil, fmt.Errorf("version %d, and this build reads %d", b[0], recordVersion)
	}
	used, err := binary.Decode(b[1:n], binary.LittleEndian, head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return b[1+used : n], nil
}

// nanos and moment convert times; the zero Time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
