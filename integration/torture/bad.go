package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"inos/host/catalog"
)

// spoiled is a kind of bad version.
type spoiled struct {
	name   string
	module string   // that it is a version of, empty for any
	ways   []string // of the victim
	// change the bytes, or what lies beside the file, nil for neither.
	bytes  func(r *rand.Rand, b []byte) []byte
	beside func(c *campaign, path string) error
	mode   os.FileMode // 0 for a proper one
	serves bool        // it comes into service, and then has to go
	says   string      // expression that the reason must match
}

var spoils = []spoiled{
	{name: "crash at start", ways: []string{"crash"}, says: "exit|end|die|panic"},
	{name: "exit at start", ways: []string{"exit"}, says: "exit|end|die"},
	{name: "hang at start", ways: []string{"hang"}, says: "within|time|handshake"},
	{name: "noise for a handshake", ways: []string{"noise"}, says: "handshake|printed"},
	{name: "wrong ABI", ways: []string{"abi"}, says: "ABI"},
	{name: "failing self-test", ways: []string{"test"}, says: "test"},
	{name: "failing health", ways: []string{"unwell"}, serves: true, says: "health|not well"},
	{name: "error rate", ways: []string{"failing"}, serves: true, says: "failed"},
	{name: "dying in probation", ways: []string{"dying"}, serves: true, says: "end|exit|die"},
	{name: "missing dependency", ways: []string{"lacking"}, says: "nobody"},
	{name: "dependency cycle", module: mill, ways: []string{"circle"}, says: "circle|cycle"},
	{name: "capability clash", ways: []string{"clash"}, says: "steady"},
	{name: "state schema", module: tally, ways: []string{"alien"}, says: "schema"},
	{name: "truncated", says: "truncated", bytes: func(r *rand.Rand, b []byte) []byte { return b[:64+r.IntN(len(b)/2)] }},
	{name: "wrong architecture", says: "architecture", bytes: func(_ *rand.Rand, b []byte) []byte {
		other := uint16(183) // EM_AARCH64
		if binary.LittleEndian.Uint16(b[18:]) == other {
			other = 62 // EM_X86_64
		}
		binary.LittleEndian.PutUint16(b[18:], other)
		return b
	}},
	{name: "no program", says: "not-a-plugin", bytes: func(*rand.Rand, []byte) []byte { return []byte("remember to buy milk\n") }},
	{name: "empty", says: "not-a-plugin|truncated", bytes: func(*rand.Rand, []byte) []byte { return nil }},
	{name: "not executable", says: "executable", mode: 0o644},
	{name: "writable by all", says: "permission", mode: 0o777},
	{name: "bad checksum", says: "checksum", beside: func(_ *campaign, path string) error {
		return os.WriteFile(path+".sha256", []byte("0000000000000000000000000000000000000000000000000000000000000000  "+filepath.Base(path)+"\n"), 0o600)
	}},
	{name: "signature of other bytes", says: "signature", beside: func(c *campaign, path string) error { return signOther(c, path, c.key) }},
	{name: "signature by a stranger", says: "signature", beside: func(c *campaign, path string) error {
		key, err := localKey(filepath.Join(c.o.dir, "stranger", "trust"))
		if err != nil {
			return err
		}
		return signOther(c, path, key)
	}},
}

// localKey makes a key, or finds it, that is trusted by who trusts what is in a
// folder, and returns the path of its private half.
func localKey(trust string) (string, error) {
	path, _, err := catalog.LocalKey(trust)
	return path, err
}

// signOther lays a signature beside path that is made of other bytes.
func signOther(c *campaign, path, key string) error {
	other := filepath.Join(c.o.dir, "other")
	if err := os.WriteFile(other, []byte("other bytes"), 0o600); err != nil {
		return err
	}
	sig, err := catalog.Sign(other, key, "")
	if err != nil {
		return err
	}
	return os.Rename(sig, path+".minisig")
}

// verdictWithin is how soon the node must say what it thinks of a bad version.
const verdictWithin = 5 * time.Second

// spoil drops a bad version, which must be refused or taken back while the one
// before goes on.
func (c *campaign) spoil(ctx context.Context, r *rand.Rand, kind spoiled, clean bool) error {
	c.deploying.Lock()
	defer c.deploying.Unlock()
	if clean {
		defer c.calm()()
	}
	module := kind.module
	if module == "" {
		module = targets[r.IntN(len(targets))]
	}
	if kind.name == "error rate" && module == tally {
		module = mill // nobody probes tally
	}
	bad := c.next(module, kind.ways...)
	file := module + "-bad"
	if kind.bytes != nil {
		bad.bytes = kind.bytes(r, bad.bytes)
	}
	f := fault{kind: spoiling, module: module, detail: bad.version + " " + kind.name}
	if kind.name == "dying in probation" {
		f.kind = dying
	}
	over := c.faults.begin(f)
	defer over()
	begun := time.Now()
	path := filepath.Join(c.folder.dir, file)
	if kind.beside != nil {
		if err := kind.beside(c, path); err != nil {
			return err
		}
	}
	drop := folder.rename
	if kind.mode != 0 {
		drop = func(f folder, r *rand.Rand, file string, b []byte) error {
			if err := (folder{dir: f.aside}).rename(r, file, b); err != nil {
				return err
			}
			if err := os.Chmod(filepath.Join(f.aside, file), kind.mode); err != nil {
				return err
			}
			return os.Rename(filepath.Join(f.aside, file), filepath.Join(f.dir, file))
		}
	}
	if err := drop(c.folder, r, file, bad.bytes); err != nil {
		return err
	}
	whole := time.Now()
	if kind.name == "error rate" {
		stop := c.probe(ctx, module)
		defer stop()
	}
	if err := c.refused(ctx, kind, bad, file, begun, whole); err != nil {
		return err
	}
	c.books.mu.Lock()
	c.books.refusals++
	c.books.mu.Unlock()
	return c.folder.remove(file)
}

// refused waits until a bad version was refused or taken back, and checks that the
// reason is told and that another version serves.
func (c *campaign) refused(ctx context.Context, kind spoiled, bad release, file string, begun, whole time.Time) error {
	served := false
	for {
		list, err := c.host.api().Plugins(ctx)
		if err != nil {
			return err
		}
		refused := -1
		good := false
		for i, p := range list {
			switch {
			case p.Name == bad.module && p.Phase == "serving" && p.Version == bad.version:
				served = true
			case p.Name == bad.module && p.Phase == "serving":
				good = true
			}
			if p.File == file && (p.Phase == "refused" || p.Phase == "stopped") && p.Reason != "" {
				refused = i
			}
		}
		disturbed := len(c.faults.during(bad.module, begun, time.Now(), killing, stopping)) > 0
		switch {
		case served && !kind.serves:
			c.books.isWrong("%s: version %s of %s came into service", kind.name, bad.version, bad.module)
			return nil
		case refused >= 0 && (good || disturbed):
			p := list[refused]
			if told, err := regexp.MatchString(kind.says, p.Reason); err != nil {
				return err
			} else if !told && !disturbed {
				c.books.isWrong("%s: the reason why %s of %s is refused does not match %q: %s; %s", kind.name, bad.version, bad.module, kind.says, p.Reason, p.Hint)
			}
			return nil
		case time.Since(whole) > c.upTo(verdictWithin) && !disturbed, time.Since(whole) > c.upTo(recoverWait):
			c.books.isWrong("%s: no verdict on %s of %s %s after it came; another version serves: %v; it served: %v", kind.name, bad.version, bad.module, time.Since(whole).Round(time.Millisecond), good, served)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// probe has a module probed all the time, until stop is called.
func (c *campaign) probe(ctx context.Context, module string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.do(ctx, newJob(module, "probe", 0))
			pause(ctx, 2*time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}
