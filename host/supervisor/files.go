package supervisor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LeastFiles is how many open files a node needs with a handful of plugins, and
// GoodFiles how many it should have: a plugin takes about 10, a connection 1.
const (
	LeastFiles = 256
	GoodFiles  = 1024
)

// RaiseFileLimit raises this process's limit of open files as far as it may
// without being root, and returns it, Unlimited if there is none. It returns an
// error when that leaves fewer than LeastFiles. The host calls it first of all,
// and may call it again.
func RaiseFileLimit() (uint64, error) {
	return raiseFileLimit(unix.Getrlimit, unix.Setrlimit)
}

func raiseFileLimit(get, set func(resource int, l *unix.Rlimit) error) (uint64, error) {
	var now unix.Rlimit
	if err := get(unix.RLIMIT_NOFILE, &now); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if now.Cur < now.Max {
		raised := unix.Rlimit{Cur: now.Max, Max: now.Max}
		// The kernel refuses what is above fs.nr_open. Then what there is must do.
		if err := set(unix.RLIMIT_NOFILE, &raised); err == nil {
			now = raised
		}
	}
	if now.Cur < LeastFiles {
		return now.Cur, fmt.Errorf("the limit of open files is %d, a node needs at least %d: raise it with ulimit -Hn %d, or LimitNOFILE=%d in its systemd unit",
			now.Cur, LeastFiles, GoodFiles, GoodFiles)
	}
	return now.Cur, nil
}
