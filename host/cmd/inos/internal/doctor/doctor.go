// Package doctor looks at the machine and says what stands in the way of a node:
// features of the kernel, limits and how they are kept, memory, folders and their permissions, a GPU.
// It changes nothing but files and processes of its own, which are gone when it
// returns.
package doctor

import (
	"io/fs"
	"os"
)

// Level is how a check came out.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // a node runs, less well
	Fail Level = "fail" // a node does not run
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"`          // what was found
	Advice string `json:"advice,omitzero"` // what to do about it
}

// Options say where to look.
type Options struct {
	Home    string // of the node
	Plugins string // folder
	Segment uint64 // bytes that a node would ask for
	Root    fs.FS  // the file system that /proc, /sys and /dev are read from; nil: this machine's
}

// Examine makes every check, in the order a person would read them.
func Examine(o Options) []Finding {
	if o.Root == nil {
		o.Root = os.DirFS("/")
	}
	list := []Finding{kernel(), sharedMemory(), deathWatch(), doorbell(), memory(o.Root, o.Segment), controlGroup(o.Root, o.Segment)}
	list = append(list, enforcement(), openFiles())
	list = append(list, limits()...)
	return append(list, home(o.Home), policyFile(o.Home), executable(o.Home), temporary(os.TempDir()), plugins(o.Plugins), gpu(o.Root))
}

// Worst returns the worst level found.
func Worst(list []Finding) Level {
	worst := OK
	for _, f := range list {
		if f.Level == Fail {
			return Fail
		}
		if f.Level == Warn {
			worst = Warn
		}
	}
	return worst
}

func ok(check, detail string) Finding { return Finding{Check: check, Level: OK, Detail: detail} }

func warn(check, detail, advice string) Finding {
	return Finding{Check: check, Level: Warn, Detail: detail, Advice: advice}
}

func fail(check, detail, advice string) Finding {
	return Finding{Check: check, Level: Fail, Detail: detail, Advice: advice}
}
