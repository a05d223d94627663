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
	ErrUnknown = errors.New("no such state block")
)

// Directory knows the state blocks of every module. It lives in the host's
// private heap and may be used by many goroutines at once. The blocks are the
// host's in the arena's books, so no plugin's death takes them away.
type Directory struct {
	mu      sync.Mutex
	modules map[string]map[string]*held
}

// Entry describes one block.
type Entry struct {
	Module string
	Name   string
	Schema uint32 // as the host last heard, see Migrated
	Bytes  uint64 // of one half
	Ref    arena.Ref
}

// held is an entry with the arena it lies in.
type held struct {
	Entry
	arena *arena.Arena
}

// NewDirectory returns one without blocks.
func NewDirectory() *Directory { return &Directory{modules: map[string]map[string]*held{}} }

// Open returns the block of that name with room for bytes, and makes it in a if
// there is none. committed is the schema of what is in it, by the host's books;
// fresh means that the block is new and all zero. A module that finds another
// schema than its own reads that, writes its own with CommitAs, and the host
// calls Migrated.
//
// A block does not grow: a module that needs more opens one of another name,
// carries its state over, and has the old one forgotten. Errors: ErrSize for
// such a growth, ErrArena, ErrTooMany, and those of arena.Alloc.
func (d *Directory) Open(module, name string, schema uint32, bytes uint64, a *arena.Arena) (ref arena.Ref, committed uint32, fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	blocks := d.modules[module]
	if h := blocks[name]; h != nil {
		switch {
		case h.arena != a:
			err = fmt.Errorf("state %s/%s: %w: %d, not %d", module, name, ErrArena, h.Ref.Arena, a.ID())
		case bytes > h.Bytes:
			err = fmt.Errorf("state %s/%s: %w: %d bytes wanted, it has %d: use another name and carry the state over",
				module, name, ErrSize, bytes, h.Bytes)
		default:
			return h.Ref, h.Schema, false, nil
		}
		return arena.Ref{}, 0, false, err
	}
	if len(blocks) >= MaxBlocks {
		return arena.Ref{}, 0, false, fmt.Errorf("state %s/%s: %w: the module has %d", module, name, ErrTooMany, len(blocks))
	}
	h, err := create(module, name, schema, bytes, a)
	if err != nil {
		return arena.Ref{}, 0, false, fmt.Errorf("state %s/%s, %d bytes twice: %w", module, name, bytes, err)
	}
	if blocks == nil {
		blocks = map[string]*held{}
		d.modules[module] = blocks
	}
	blocks[name] = h
	return h.Ref, schema, true, nil
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

// Migrated notes that the module has committed its state in another schema.
func (d *Directory) Migrated(module, name string, schema uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.modules[module][name]
	if h == nil {
		return fmt.Errorf("state %s/%s: %w", module, name, ErrUnknown)
	}
	h.Schema = schema
	return nil
}

// Forget ends one block of a module and gives its memory back to the arena.
func (d *Directory) Forget(module, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.modules[module][name]
	if h == nil {
		return fmt.Errorf("state %s/%s: %w", module, name, ErrUnknown)
	}
	delete(d.modules[module], name)
	if len(d.modules[module]) == 0 {
		delete(d.modules, module)
	}
	return h.arena.Release(h.Ref)
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
		return cmp.Or(cmp.Compare(x.Module, y.Module), cmp.Compare(x.Name, y.Name))
	})
	return list
}
