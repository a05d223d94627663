package wire

import (
	"strings"
	"unicode/utf8"

	"capnproto.org/go/capnp/v3"
)

// writer puts the fields of a message together. Empty texts and lists take no
// room.
type writer struct {
	trouble
	size int // bytes of text and data so far
}

// text writes a text of at most so many bytes.
func (w *writer) text(field string, set func(string) error, s string, most int) {
	switch {
	case !utf8.ValidString(s):
		w.fail(field, "text that is not UTF-8; send it as data")
	case w.room(field, len(s), most):
		w.check(field, set(s))
	}
}

// prose writes what a person reads. It cuts a text that is too long and replaces
// what is not UTF-8, since a mangled message tells more than none.
func (w *writer) prose(field string, set func(string) error, s string, most int) {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most-len(cut)], "") + cut
	}
	w.text(field, set, s, most)
}

// cut marks the place where prose was cut.
const cut = " ..."

// data writes at most so many bytes.
func (w *writer) data(field string, set func([]byte) error, b []byte, most int) {
	if w.room(field, len(b), most) && len(b) > 0 {
		w.check(field, set(b))
	}
}

// room reports whether n more bytes may be written, of at most so many in this
// field.
func (w *writer) room(field string, n, most int) bool {
	if w.err != nil {
		return false
	}
	w.size += n
	switch {
	case n > most:
		w.fail(field, "%d bytes, and at most %d travel", n, most)
	case w.size > MaxMessage:
		w.fail(field, "more than %d bytes with what comes before it", MaxMessage)
	}
	return w.err == nil
}

// writeStruct writes v as a struct that a field points to.
func writeStruct[S, V any](w *writer, field string, create func() (S, error), write func(*writer, S, V), v V) {
	if w.err != nil {
		return
	}
	s, err := create()
	if w.check(field, err) {
		write(w, s, v)
		w.under("%s", field)
	}
}

// writeEach writes a list of at most so many elements.
func writeEach[L, V any](w *writer, field string, create func(int32) (L, error), most int, put func(L, int, V), vs []V) {
	if len(vs) > most {
		w.fail(field, "%d elements, and at most %d travel", len(vs), most)
	}
	if w.err != nil || len(vs) == 0 {
		return
	}
	l, err := create(int32(len(vs)))
	if !w.check(field, err) {
		return
	}
	for i, v := range vs {
		if put(l, i, v); w.err != nil {
			w.under("%s[%d]", field, i)
			return
		}
	}
}

// writeList writes a list of structs.
func writeList[S ~capnp.StructKind, V any](w *writer, field string, create func(int32) (capnp.StructList[S], error), most int, write func(*writer, S, V), vs []V) {
	writeEach(w, field, create, most, func(l capnp.StructList[S], i int, v V) { write(w, l.At(i), v) }, vs)
}

// writeTexts writes a list of texts of at most size bytes each.
func writeTexts(w *writer, field string, create func(int32) (capnp.TextList, error), most, size int, texts []string) {
	writeEach(w, field, create, most, func(l capnp.TextList, i int, s string) {
		w.text("", func(s string) error { return l.Set(i, s) }, s, size)
	}, texts)
}

// writeEnum refuses what the reader would.
func writeEnum[E enumerant](w *writer, field string, set func(E), e E) {
	if e.String() == "" {
		w.fail(field, "%d is not among its values", uint16(e))
	}
	set(e)
}

// writeEnums writes a list of enum values.
func writeEnums[E enumerant](w *writer, field string, create func(int32) (capnp.EnumList[E], error), most int, es []E) {
	writeEach(w, field, create, most, func(l capnp.EnumList[E], i int, e E) {
		writeEnum(w, "", func(e E) { l.Set(i, e) }, e)
	}, es)
}
