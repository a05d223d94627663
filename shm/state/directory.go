package state

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"inos/shm/arena"
)

// MaxBlocks is how many state blocks one module may have.
const MaxBlocks = 64

// Why a block is not given.
var (
	ErrSize    = errors.New("state block has another size")
	ErrArena   = errors.New("state block lies in another arena")
	ErrTooMany = errors.New("too many state blocks")
)

// Directory knows the state blocks of every module. It lives in the host's
// private heap and may be used by many goroutines at once. The blocks are the
// host's in the arena's books, so no plugin's death takes them away.
type Directory struct {
	mu      sync.Mutex
	modules map[string]map[key]*held
}

// Entry describes one block.
type Entry struct {
	Module string
	Name   string
	Schema uint32
	Bytes  uint64 // of one half
	Ref    arena.Ref
}

// key names a block within its module.
type key struct {
	name   string
	schema uint32
}

// held is an entry with the arena it lies in.
type held struct {
	Entry
	arena *arena.Arena
}

// NewDirectory returns one without blocks.
func NewDirectory() *Directory { return &Directory{modules: map[string]map[key]*held{}} }

// Open returns the block of that name and schema with room for bytes, and makes it
// in a if there is none; fresh means that the block is new and all zero. Blocks of
// one name in two schemas are two blocks: while one version of a module hands over
// to the next, each has its own, and going back finds the old one untouched.
//
// A block does not grow: a module that needs more opens one of another name or
// schema and carries its state over. Errors: ErrSize for such a growth, ErrArena,
// ErrTooMany, and those of arena.Alloc.
func (d *Directory) Open(module, name string, schema uint32, bytes uint64, a *arena.Arena) (ref arena.Ref, fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	blocks := d.modules[module]
	if h := blocks[key{name, schema}]; h != nil {
		switch {
		case h.arena != a:
			err = fmt.Errorf("state %s/%s: %w: %d, not %d", module, name, ErrArena, h.Ref.Arena, a.ID())
		case bytes > h.Bytes:
			err = fmt.Errorf("state %s/%s: %w: %d bytes wanted, it has %d: use another name and carry the state over",
				module, name, ErrSize, bytes, h.Bytes)
		default:
			return h.Ref, false, nil
		}
		return arena.Ref{}, false, err
	}
	if len(blocks) >= MaxBlocks {
		return arena.Ref{}, false, fmt.Errorf("state %s/%s: %w: the module has %d", module, name, ErrTooMany, len(blocks))
	}
	h, err := create(module, name, schema, bytes, a)
	if err != nil {
		return arena.Ref{}, false, fmt.Errorf("state %s/%s, %d bytes twice: %w", module, name, bytes, err)
	}
	if blocks == nil {
		blocks = map[key]*held{}
		d.modules[module] = blocks
	}
	blocks[key{name, schema}] = h
	return h.Ref, true, nil
}

// create makes a block and formats it, so that no plugin has to be trusted to.
func create(module, name string, schema uint32, bytes uint64, a *arena.Arena) (*held, error) {
	bytes = max(bytes, 1)
	ref, err := a.Alloc(Size(bytes), arena.Host)
	if err != nil {
		return nil, err
	}
	memory, err := a.View(ref)
	if err == nil {
		_, err = Format(memory, schema)
	}
	if err != nil {
		return nil, errors.Join(err, a.Release(ref))
	}
	half := (ref.Length - HeaderSize) / 2
	return &held{Entry{Module: module, Name: name, Schema: schema, Bytes: half, Ref: ref}, a}, nil
}

// Find returns a block that is there.
func (d *Directory) Find(module, name string, schema uint32) (ref arena.Ref, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.modules[module][key{name, schema}]
	if h == nil {
		return arena.Ref{}, false
	}
	return h.Ref, true
}

// Keep ends those blocks of a module that keep does not want and gives their
// memory back. It is how a generation that has proved itself drops what only the
// one before could read, and how one that has not is undone.
func (d *Directory) Keep(module string, keep func(Entry) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for k, h := range d.modules[module] {
		if !keep(h.Entry) {
			delete(d.modules[module], k)
			errs = append(errs, h.arena.Release(h.Ref))
		}
	}
	if len(d.modules[module]) == 0 {
		delete(d.modules, module)
	}
	return errors.Join(errs...)
}

// Drop ends all blocks of a module. No process of it may still run. A module
// without blocks is no error.
func (d *Directory) Drop(module string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, h := range d.modules[module] {
		errs = append(errs, h.arena.Release(h.Ref))
	}
	delete(d.modules, module)
	return errors.Join(errs...)
}

// List returns all blocks, by module and name.
func (d *Directory) List() []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Entry
	for _, blocks := range d.modules {
		for _, h := range blocks {
			list = append(list, h.Entry)
		}
	}
	slices.SortFunc(list, func(x, y Entry) int {
		return cmp.Or(cmp.Compare(x.Module, y.Module), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Schema, y.Schema))
	})
	return list
}
