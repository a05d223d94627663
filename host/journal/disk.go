package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// makeDir makes a folder, and those above it that are not there, and makes their
// names durable.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	up := filepath.Dir(dir)
	if up != dir {
		if err := makeDir(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(up)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// isFull reports whether an error says that there is no room on the disk. Bolt
// passes some of them on as text only.
func isFull(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EFBIG}, func(full syscall.Errno) bool {
		return errors.Is(err, full) || strings.HasSuffix(err.Error(), ": "+full.Error())
	})
}

// diskError says what a failure of the disk means for the one who asked.
func diskError(doing string, err error) *wire.Error {
	if isFull(err) {
		return wire.NewError(base.Code_resourceExhausted, "free some space on that disk, or fetch or discard results", "journal: %s: the disk is full: %w", doing, err)
	}
	return wire.NewError(base.Code_internal, "see to the disk that holds the node's folder", "journal: %s: %w", doing, err)
}
