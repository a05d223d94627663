package node

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHome makes sure that one node at a time uses a folder. The lock ends with
// the process, however it ends.
func lockHome(home string) (*os.File, error) {
	path := filepath.Join(home, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the node's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		var who [32]byte
		n, _ := f.Read(who[:])
		_ = f.Close()
		return nil, fmt.Errorf("another node uses %s (process %s); stop it, or give this one a folder of its own with --home",
			home, strings.TrimSpace(string(who[:n])))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the node's lock: %w", err)
	}
	return f, nil
}

// runFolder makes the folder of a node's short-lived files. Its name follows from
// the home, so that what a killed node left there goes when the next one starts.
// The caller holds the home's lock.
func runFolder(home string) (string, error) {
	name := sha256.Sum256([]byte(home))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("inos-%d-%x", os.Getuid(), name[:6]))
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err == nil && int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s belongs to somebody else; remove it, or set TMPDIR", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Mkdir(dir, 0o700) // fails if somebody was faster
}
