package api

import (
	"cmp"
	"errors"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// shortages are what a system can run out of, and what an operator can do then. A
// disk stays full until somebody sees to it; the others may pass by themselves.
var shortages = []struct {
	errno  unix.Errno
	passes bool
	hint   string
}{
	{unix.ENOSPC, false, "free some space on the disk that holds that file; results of durable jobs go with inos job result ID --discard"},
	{unix.EDQUOT, false, "free some of the user's files, or have the quota of the disk raised"},
	{unix.EFBIG, false, "raise the limit on the size of files: ulimit -f, or LimitFSIZE of the service"},
	{unix.EMFILE, true, "raise the limit on open files of the process: ulimit -n, or LimitNOFILE of the service"},
	{unix.ENFILE, true, "raise fs.file-max of the kernel, or end programs that hold files open"},
	{unix.ENOMEM, true, "free some memory, or raise the limit that the service or its container has"},
}

// Exhausted gives an error that says that the system has run out of something the
// form in which a caller can act on it. It returns nil for any other, and for one
// that means something else besides, like an outcome that is not known.
func Exhausted(err error) *wire.Error {
	for _, s := range shortages {
		if !errors.Is(err, s.errno) {
			continue
		}
		known, hint := wire.AsError(err), s.hint
		switch known.Code {
		case base.Code_resourceExhausted:
			hint = cmp.Or(known.Hint, hint) // whoever said so knows more
		case base.Code_internal, base.Code_unknown, base.Code_unavailable:
		default:
			return nil
		}
		e := wire.NewError(base.Code_resourceExhausted, hint, "%w", err)
		e.Message, e.Temporary, e.Context = known.Message, s.passes, known.Context
		return e
	}
	return nil
}
