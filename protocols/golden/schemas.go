package golden

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"

	"capnproto.org/go/capnp/v3"
	"capnproto.org/go/capnp/v3/encoding/text"
	"capnproto.org/go/capnp/v3/schemas"
	"capnproto.org/go/capnp/v3/std/capnp/schema"
)

// Schemas are what is known of the messages of one package.
type Schemas struct {
	registry schemas.Registry
	nodes    map[uint64]schema.Node
	own      string // folder of the package
}

// Load reads the schemas of the package that has the type id. Register are the
// RegisterSchema functions of that package and of those it imports.
func Load(t *testing.T, id uint64, register ...func(*schemas.Registry)) *Schemas {
	t.Helper()
	s := &Schemas{nodes: map[uint64]schema.Node{}}
	for _, r := range register {
		r(&s.registry)
	}
	s.own = folder(s.node(id))
	return s
}

// node returns the node of a type, which may belong to an imported package.
func (s *Schemas) node(id uint64) schema.Node {
	if n, ok := s.nodes[id]; ok {
		return n
	}
	b, err := s.registry.Find(id)
	if err != nil {
		panic(err) // not registered: see Load
	}
	msg, err := capnp.Unmarshal(b)
	if err != nil {
		panic(err)
	}
	msg.ResetReadLimit(1 << 40) // the same nodes are read over and over
	request, err := schema.ReadRootCodeGeneratorRequest(msg)
	if err != nil {
		panic(err)
	}
	nodes, err := request.Nodes()
	if err != nil {
		panic(err)
	}
	for i := range nodes.Len() {
		// Of the types of other packages there are only outlines here.
		if n := nodes.At(i); s.defines(b, n.Id()) {
			s.nodes[n.Id()] = n
		}
	}
	return s.nodes[id]
}

// defines reports whether request is the one in which a type is defined.
func (s *Schemas) defines(request []byte, id uint64) bool {
	b, err := s.registry.Find(id)
	return err == nil && &b[0] == &request[0]
}

// folder returns what the names of the types of a package begin with.
func folder(n schema.Node) string {
	file, _, _ := strings.Cut(display(n), ":")
	return file[:strings.LastIndex(file, "/")+1]
}

// display returns the name of a node, "protocols/base/v1/base.capnp:Error".
func display(n schema.Node) string {
	name, err := n.DisplayName()
	if err != nil {
		panic(err)
	}
	return name
}

// text renders a message, one field on a line.
func (s *Schemas) text(t *testing.T, id uint64, message []byte) string {
	t.Helper()
	msg := capnp.Message{Arena: capnp.SingleSegment(message)}
	root, err := msg.Root()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e := text.NewEncoder(&b)
	e.UseRegistry(&s.registry)
	if err := e.Encode(id, root.Struct()); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), ", ", ",\n") + "\n"
}

// sample is a struct to be filled, with one member of its union.
type sample struct {
	name   string
	id     uint64
	member uint16
	nth    int // among its likes in a list
	*Schemas
}

// samples lists the structs of the package, once for each member of a union.
func (s *Schemas) samples() []sample {
	var list []sample
	for id, n := range s.nodes {
		if n.Which() != schema.Node_Which_structNode || n.StructNode().IsGroup() || folder(n) != s.own {
			continue
		}
		_, name, _ := strings.Cut(display(n), ":")
		members := s.union(n)
		if len(members) == 0 {
			list = append(list, sample{name: name, id: id, Schemas: s})
		}
		for value, member := range members {
			list = append(list, sample{name: name + "." + member, id: id, member: uint16(value), Schemas: s})
		}
	}
	return list
}

// union returns the names of the members of the union in a struct or in a group
// of it, in the order of their values. No struct of ours has two.
func (s *Schemas) union(n schema.Node) []string {
	names := make([]string, n.StructNode().DiscriminantCount())
	for _, f := range fields(n) {
		if f.Which() == schema.Field_Which_group {
			names = append(names, s.union(s.node(f.Group().TypeId()))...)
		} else if f.DiscriminantValue() != schema.Field_noDiscriminant {
			names[f.DiscriminantValue()] = fieldName(f)
		}
	}
	return names
}

func fields(n schema.Node) []schema.Field {
	list, err := n.StructNode().Fields()
	if err != nil {
		panic(err)
	}
	fs := make([]schema.Field, list.Len())
	for i := range fs {
		fs[i] = list.At(i)
	}
	return fs
}

func fieldName(f schema.Field) string {
	name, err := f.Name()
	if err != nil {
		panic(err)
	}
	return name
}

// size is how long the sections of the struct are.
func (s sample) size() capnp.ObjectSize { return size(s.node(s.id)) }

func size(n schema.Node) capnp.ObjectSize {
	return capnp.ObjectSize{
		DataSize: capnp.Size(n.StructNode().DataWordCount()) * 8, PointerCount: n.StructNode().PointerCount(),
	}
}

// fill makes the struct and gives each field a value that no other has, as far as
// it lies within the given sections.
func (s sample) fill(seg *capnp.Segment, within capnp.ObjectSize) (capnp.Struct, error) {
	st, err := capnp.NewStruct(seg, s.size())
	if err != nil {
		return st, err
	}
	f := filler{s.Schemas, within, s.member, s.nth}
	return st, f.fill(st, s.node(s.id))
}

// unique returns a number that belongs to a field of a struct.
func unique(n schema.Node, f schema.Field) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s.%s", display(n), fieldName(f))
	return h.Sum64()
}
