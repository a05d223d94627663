package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// index holds what List and Usage answer from. The manifests on disk are the
// truth; the index follows each change of them.
type index struct {
	mu      sync.RWMutex
	infos   map[string]Info
	names   []string     // keys of infos, sorted
	damaged map[id]error // manifests that cannot be read
	notes   []error      // other damage that Open found
}

// fill sets the index at Open.
func (x *index) fill(infos []Info, damaged map[id]error) {
	x.infos = make(map[string]Info, len(infos))
	x.names = make([]string, 0, len(infos))
	for _, i := range infos {
		x.infos[i.Name] = i
		x.names = append(x.names, i.Name)
	}
	slices.Sort(x.names)
	x.damaged = damaged
}

// set records that an object was put.
func (x *index) set(object id, i Info) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.damaged, object)
	if at, found := slices.BinarySearch(x.names, i.Name); !found {
		x.names = slices.Insert(x.names, at, i.Name)
	}
	x.infos[i.Name] = i
}

// drop records that an object was deleted.
func (x *index) drop(object id, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.damaged, object)
	if at, found := slices.BinarySearch(x.names, name); found {
		x.names = slices.Delete(x.names, at, at+1)
		delete(x.infos, name)
	}
}

// counted returns the chunks of a manifest if it is the one that was counted when
// the object was put or the vault opened. The chunks of any other, such as one
// that was restored from a copy meanwhile, are not ours to release.
func (x *index) counted(m *manifest) []entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if i, ok := x.infos[m.Name]; !ok || i != m.Info {
		return nil
	}
	return m.entries
}

// whole reports whether every manifest can be read, so that a chunk without
// references is one that nobody uses.
func (x *index) whole() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.damaged) == 0
}

func (x *index) problems() []error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := slices.Clone(x.notes)
	for _, err := range x.damaged {
		all = append(all, err)
	}
	slices.SortFunc(all, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return all
}

func (x *index) usage() Usage {
	x.mu.RLock()
	defer x.mu.RUnlock()
	u := Usage{Objects: len(x.names)}
	for _, i := range x.infos {
		u.Bytes = addSize(u.Bytes, i.Size)
	}
	return u
}

// MaxList is the most objects that one List returns.
const MaxList = 1000

// List returns the objects whose names start with prefix and come after the name
// after, in the order of the names' bytes: at most limit of them, 0 meaning
// MaxList. To go on, ask again with the last name returned.
func (v *Vault) List(ctx context.Context, prefix string, limit int, after string) ([]Info, error) {
	_, done, err := v.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if limit < 0 || limit > MaxList {
		return nil, fmt.Errorf("%w: a list of %d objects; choose 1 to %d", ErrOptions, limit, MaxList)
	}
	if limit == 0 {
		limit = MaxList
	}
	x := &v.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, _ := slices.BinarySearch(x.names, max(prefix, after))
	var out []Info
	for _, name := range x.names[at:] {
		if !strings.HasPrefix(name, prefix) {
			if name > prefix {
				break
			}
			continue
		}
		if name == after {
			continue
		}
		if len(out) == limit {
			break
		}
		out = append(out, x.infos[name])
	}
	return out, nil
}
