package golden

import (
	"fmt"
	"math"

	"capnproto.org/go/capnp/v3"
	"capnproto.org/go/capnp/v3/std/capnp/schema"
)

// filler gives values to the fields of a struct.
type filler struct {
	*Schemas
	within capnp.ObjectSize // what lies outside is left alone
	member uint16           // of the union
	nth    int              // among its likes in a list
}

func (f filler) fill(s capnp.Struct, n schema.Node) error {
	if n.StructNode().DiscriminantCount() > 0 {
		if at := capnp.DataOffset(n.StructNode().DiscriminantOffset()); f.holds(at, 16) {
			s.SetUint16(at*2, f.member)
		}
	}
	for _, field := range fields(n) {
		if d := field.DiscriminantValue(); d != schema.Field_noDiscriminant && d != f.member {
			continue
		}
		var err error
		if field.Which() == schema.Field_Which_group {
			err = f.fill(s, f.node(field.Group().TypeId()))
		} else {
			err = f.set(s, n, field)
		}
		if err != nil {
			return fmt.Errorf("%s.%s: %w", display(n), fieldName(field), err)
		}
	}
	return nil
}

// holds reports whether the data section has a value of so many bits at a
// multiple of its size.
func (f filler) holds(at capnp.DataOffset, bits capnp.DataOffset) bool {
	return (at+1)*bits <= capnp.DataOffset(f.within.DataSize)*8
}

// set gives one field its value.
func (f filler) set(s capnp.Struct, n schema.Node, field schema.Field) error {
	typ, err := field.Slot().Type()
	if err != nil {
		return err
	}
	at, v := capnp.DataOffset(field.Slot().Offset()), unique(n, field)+uint64(f.nth)
	switch typ.Which() {
	case schema.Type_Which_void:
	case schema.Type_Which_bool:
		if f.holds(at, 1) {
			s.SetBit(capnp.BitOffset(at), true)
		}
	case schema.Type_Which_uint8:
		if f.holds(at, 8) {
			s.SetUint8(at, uint8(v)|1)
		}
	case schema.Type_Which_uint16, schema.Type_Which_enum:
		if f.holds(at, 16) {
			if typ.Which() == schema.Type_Which_enum {
				v = uint64(f.enumerants(typ) - 1)
			}
			s.SetUint16(at*2, uint16(v))
		}
	case schema.Type_Which_uint32:
		if f.holds(at, 32) {
			s.SetUint32(at*4, uint32(v))
		}
	case schema.Type_Which_uint64, schema.Type_Which_int64, schema.Type_Which_float64:
		if f.holds(at, 64) {
			if typ.Which() == schema.Type_Which_float64 {
				v = math.Float64bits(float64(v) / 3)
			}
			s.SetUint64(at*8, v)
		}
	case schema.Type_Which_text, schema.Type_Which_data, schema.Type_Which_structType, schema.Type_Which_list:
		if at >= capnp.DataOffset(f.within.PointerCount) {
			return nil
		}
		p, err := f.pointer(s.Segment(), typ, fmt.Sprint(fieldName(field), f.nth))
		if err != nil {
			return err
		}
		return s.SetPtr(uint16(at), p)
	default:
		return fmt.Errorf("package golden has no value of kind %s; give it one", typ.Which())
	}
	return nil
}

// pointer makes what a field of that name points to.
func (f filler) pointer(seg *capnp.Segment, typ schema.Type, name string) (capnp.Ptr, error) {
	switch typ.Which() {
	case schema.Type_Which_text:
		l, err := capnp.NewText(seg, name)
		return l.ToPtr(), err
	case schema.Type_Which_data:
		l, err := capnp.NewData(seg, []byte(name))
		return l.ToPtr(), err
	case schema.Type_Which_structType:
		id := typ.StructType().TypeId()
		st, err := sample{id: id, nth: f.nth, Schemas: f.Schemas}.fill(seg, size(f.node(id)))
		return st.ToPtr(), err
	}
	elem, err := typ.List().ElementType()
	if err != nil {
		return capnp.Ptr{}, err
	}
	switch elem.Which() {
	case schema.Type_Which_text:
		l, err := capnp.NewTextList(seg, 2)
		for i := range l.Len() {
			if err == nil {
				err = l.Set(i, fmt.Sprint(name, ".", i))
			}
		}
		return l.ToPtr(), err
	case schema.Type_Which_enum:
		l, err := capnp.NewUInt16List(seg, int32(f.enumerants(elem)))
		for i := range l.Len() {
			l.Set(i, uint16(i))
		}
		return l.ToPtr(), err
	case schema.Type_Which_uint32:
		l, err := capnp.NewUInt32List(seg, 2)
		for i := range l.Len() {
			l.Set(i, uint32(f.nth+i))
		}
		return l.ToPtr(), err
	case schema.Type_Which_structType:
		return f.structs(seg, f.node(elem.StructType().TypeId()))
	}
	return capnp.Ptr{}, fmt.Errorf("package golden has no list of kind %s; give it one", elem.Which())
}

// structs makes a list with an element for each member of the union that the
// struct has, or with two.
func (f filler) structs(seg *capnp.Segment, n schema.Node) (capnp.Ptr, error) {
	count := max(2, len(f.union(n)))
	l, err := capnp.NewCompositeList(seg, size(n), int32(count))
	if err != nil {
		return capnp.Ptr{}, err
	}
	for i := range count {
		if err := (filler{f.Schemas, size(n), uint16(i), i}).fill(l.Struct(i), n); err != nil {
			return capnp.Ptr{}, err
		}
	}
	return l.ToPtr(), nil
}

// enumerants returns how many values an enum has.
func (f filler) enumerants(typ schema.Type) int {
	list, err := f.node(typ.Enum().TypeId()).Enum().Enumerants()
	if err != nil {
		panic(err)
	}
	return list.Len()
}
