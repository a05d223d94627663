package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

var (
	beforeCommit = failpoint.New("journal/commit/before")
	insideCommit = failpoint.New("journal/commit/inside")
	afterCommit  = failpoint.New("journal/commit/after")
)

// bucket names a kind of record. Which records a job has is its state: one that
// has ended has an ending, and one that must not be given to a plugin again has
// a start.
type bucket string

const (
	requests bucket = "requests"
	starts   bucket = "starts"
	endings  bucket = "endings"
	inputs   bucket = "inputs"  // those small enough to lie in the store
	results  bucket = "results" // likewise
	about    bucket = "about"   // the format, under formatKey
)

var formatKey, formatValue = []byte("format"), []byte("inos journal 1")

// change puts a value under a job's number, or removes it when the value is nil.
type change struct {
	bucket bucket
	id     uint64
	value  []byte
}

// maxGroup bounds how many commits share one transaction.
const maxGroup = 1024

// store is the database of records. Its methods may be called from any
// goroutine, but none after close.
type store struct {
	db     *bolt.DB
	path   string
	queue  chan *commit
	stop   chan struct{}
	ended  sync.WaitGroup
	failed atomic.Pointer[wire.Error] // why nothing can be written any more
	dead   chan struct{}              // closed when failed is set

	transactions, commits atomic.Uint64
}

// commit waits to be written.
type commit struct {
	changes []change
	done    chan error
}

// openStore opens the database in dir, made if it is not there.
func openStore(dir string) (_ *store, err error) {
	path := filepath.Join(dir, "journal.db")
	s := &store{path: path, queue: make(chan *commit, maxGroup), stop: make(chan struct{}), dead: make(chan struct{})}
	var file *os.File
	err = guard(func() (err error) {
		// The list of free pages is written with every transaction. Without it bolt
		// rebuilds it at the start, and after each transaction that failed, in a
		// goroutine of its own, where a damaged page would end the process.
		s.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: time.Second, FreelistType: bolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			},
		})
		return err
	})
	if err != nil {
		if file != nil {
			// Bolt has closed it, unless it panicked. Then the mapping stays, and the
			// lock with it, which would refuse whoever comes when the damage is mended.
			_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
			_ = file.Close()
		}
		return nil, openError(path, err)
	}
	err = guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, b := range []bucket{requests, starts, endings, inputs, results, about} {
				if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
					return err
				}
			}
			a := tx.Bucket([]byte(about))
			if f := a.Get(formatKey); f != nil && string(f) != string(formatValue) {
				return wire.NewError(base.Code_notSupported, "use the build that wrote it, or move the file aside; the jobs in it are lost then",
					"journal %s has the format %q, and this build reads %q", path, f, formatValue)
			}
			return a.Put(formatKey, formatValue)
		})
	})
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(openError(path, err), guard(s.db.Close))
	}
	s.ended.Go(s.serve)
	return s, nil
}

func openError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return wire.NewError(base.Code_unavailable, "stop the other node", "journal %s: another process has it open", path)
	}
	if isFull(err) || errors.Is(err, fs.ErrPermission) {
		return diskError("opening "+path, err)
	}
	if errors.Is(err, wire.ErrNotSupported) {
		return err
	}
	return wire.NewError(base.Code_dataLoss, "move the file aside to start with an empty journal; the jobs in it are lost then",
		"journal %s cannot be read: %w", path, err)
}

// guard turns a panic, and a fault on the mapped file, into an error: a damaged
// database ends neither the node nor the jobs that do not need it.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// commit makes changes, all or none, and returns when they are on disk. An error
// leaves the database as it was, unless failed says otherwise.
func (s *store) commit(changes ...change) error {
	c := &commit{changes, make(chan error, 1)}
	s.queue <- c
	return <-c.done
}

// serve writes what waits, one transaction for all of it.
func (s *store) serve() {
	group := make([]*commit, 0, maxGroup)
	for {
		select {
		case c := <-s.queue:
			group = append(group[:0], c)
		case <-s.stop:
			return
		}
		// Those whom the last transaction woke get their turn to join this one.
		runtime.Gosched()
		for more := true; more && len(group) < maxGroup; {
			select {
			case c := <-s.queue:
				group = append(group, c)
			default:
				more = false
			}
		}
		err := s.write(group)
		for _, c := range group {
			c.done <- err
		}
		clear(group)
	}
}

// write makes the changes of a group in one transaction.
func (s *store) write(group []*commit) error {
	if err := s.failed.Load(); err != nil {
		return err
	}
	before := s.version()
	err := beforeCommit.Hit()
	if err == nil {
		err = guard(func() error {
			return s.db.Update(func(tx *bolt.Tx) error {
				for _, c := range group {
					if err := put(tx, c.changes); err != nil {
						return err
					}
				}
				return insideCommit.Hit()
			})
		})
	}
	s.transactions.Add(1)
	s.commits.Add(uint64(len(group)))
	if err == nil {
		err = afterCommit.Hit()
	}
	if err == nil {
		return nil
	}
	// An error after the database had moved on, or a damaged database: nobody
	// knows what is on disk, and reading it back would only ask the page cache.
	if errors.Is(err, errDamaged) || s.version() != before {
		e := wire.NewError(base.Code_unavailable, "see to the disk, then start the node again: what was acknowledged is kept",
			"the journal stopped writing to %s: %w", s.path, err)
		e.Temporary = false
		s.failed.Store(e)
		close(s.dead)
		return e
	}
	return diskError("writing to "+s.path, err)
}

func put(tx *bolt.Tx, changes []change) error {
	for _, c := range changes {
		b := tx.Bucket([]byte(c.bucket))
		var err error
		if c.value == nil {
			err = b.Delete(key(c.id))
		} else {
			err = b.Put(key(c.id), c.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// version of the database: it moves with each transaction. 0 when unreadable.
func (s *store) version() (v int) {
	_ = s.view(func(tx *bolt.Tx) error { v = tx.ID(); return nil }) // 0 says so
	return v
}

// view reads.
func (s *store) view(f func(*bolt.Tx) error) error {
	return guard(func() error { return s.db.View(f) })
}

// get returns a copy of one record, nil when there is none.
func (s *store) get(b bucket, id uint64) (v []byte, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		if found := tx.Bucket([]byte(b)).Get(key(id)); found != nil {
			v = append([]byte{}, found...)
		}
		return nil
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, errClosing
	}
	return v, err
}

// close ends it. Nobody may be in commit.
func (s *store) close() error {
	close(s.stop)
	s.ended.Wait()
	return guard(s.db.Close)
}

func key(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }
