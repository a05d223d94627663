package wire

import (
	"bytes"
	"unicode/utf8"

	"capnproto.org/go/capnp/v3"
)

// reader takes the fields of a message apart. A field that is absent, since its
// writer knew an older schema, reads as its zero value.
type reader struct{ trouble }

// text reads a text of at most so many bytes.
func (r *reader) text(field string, get func() ([]byte, error), most int) string {
	b, err := get()
	switch {
	case !r.check(field, err):
		return ""
	case len(b) > most:
		r.fail(field, "%d bytes of text, and at most %d are read", len(b), most)
		return ""
	case !utf8.Valid(b):
		r.fail(field, "text that is not UTF-8")
		return ""
	}
	return string(b)
}

// data reads at most so many bytes, nil if there are none.
func (r *reader) data(field string, get func() ([]byte, error), most int) []byte {
	b, err := get()
	switch {
	case !r.check(field, err), len(b) == 0:
		return nil
	case len(b) > most:
		r.fail(field, "%d bytes, and at most %d are read", len(b), most)
		return nil
	}
	return bytes.Clone(b)
}

// digest reads exactly 32 bytes.
func (r *reader) digest(field string, get func() ([]byte, error)) (d [32]byte) {
	if b := r.data(field, get, len(d)); r.err == nil && copy(d[:], b) < len(d) {
		r.fail(field, "%d bytes, and a digest has %d", len(b), len(d))
	}
	return d
}

// readStruct reads a struct that a field points to, the zero V if there is none.
func readStruct[S ~capnp.StructKind, V any](r *reader, field string, get func() (S, error), read func(*reader, S) V) V {
	var v V
	s, err := get()
	if r.check(field, err) && capnp.Struct(s).IsValid() {
		v = read(r, s)
		r.under("%s", field)
	}
	return v
}

// readEach reads a list of at most so many elements.
func readEach[L interface{ Len() int }, V any](r *reader, field string, get func() (L, error), most int, at func(L, int) V) []V {
	l, err := get()
	switch {
	case !r.check(field, err), l.Len() == 0:
		return nil
	case l.Len() > most:
		r.fail(field, "%d elements, and at most %d are read", l.Len(), most)
		return nil
	}
	vs := make([]V, l.Len())
	for i := range vs {
		if vs[i] = at(l, i); r.err != nil {
			r.under("%s[%d]", field, i)
			return nil
		}
	}
	return vs
}

// readList reads a list of structs.
func readList[S ~capnp.StructKind, V any](r *reader, field string, get func() (capnp.StructList[S], error), most int, read func(*reader, S) V) []V {
	return readEach(r, field, get, most, func(l capnp.StructList[S], i int) V { return read(r, l.At(i)) })
}

// readTexts reads a list of texts of at most size bytes each.
func readTexts(r *reader, field string, get func() (capnp.TextList, error), most, size int) []string {
	return readEach(r, field, get, most, func(l capnp.TextList, i int) string {
		return r.text("", func() ([]byte, error) { return l.BytesAt(i) }, size)
	})
}

// enumerant is a generated enum. Its String is empty for a value that the schema
// of this build does not have.
type enumerant interface {
	~uint16
	String() string
}

// readEnum refuses a value that this build has no name for: nothing sensible can
// stand in for it, and the minor version of the ABI promises that none comes.
func readEnum[E enumerant](r *reader, field string, e E) E {
	if e.String() == "" {
		r.fail(field, "%d is not among its values", uint16(e))
	}
	return e
}

// readEnums reads a list of enum values.
func readEnums[E enumerant](r *reader, field string, get func() (capnp.EnumList[E], error), most int) []E {
	return readEach(r, field, get, most, func(l capnp.EnumList[E], i int) E { return readEnum(r, "", l.At(i)) })
}
