package catalog

import (
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// operator is who runs the node. Only they and root may be able to write what
// the node will run.
type operator struct {
	uid uint32
	// group is a group that has no member but the operator, or -1. Distributions
	// that give each user such a group also make its files writable by it.
	group int64
}

// Limits of the files that privateGroup reads, in bytes.
const maxAccounts = 1 << 20

// currentOperator reads who runs this process.
func currentOperator() operator {
	o := operator{uid: uint32(os.Geteuid()), group: -1}
	me, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return o
	}
	passwd, err1 := readAtMost("/etc/passwd", maxAccounts)
	groups, err2 := readAtMost("/etc/group", maxAccounts)
	if err1 == nil && err2 == nil && privateGroup(passwd, groups, me.Username, me.Gid) {
		if gid, err := strconv.ParseUint(me.Gid, 10, 32); err == nil {
			o.group = int64(gid)
		}
	}
	return o
}

// privateGroup says whether gid, the group of the user name, has nobody else in
// it: neither as a member (groups) nor as the group somebody logs in with
// (passwd).
func privateGroup(passwd, groups, name, gid string) bool {
	for line := range strings.Lines(passwd) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(f) >= 4 && f[3] == gid && f[0] != name {
			return false
		}
	}
	found := false
	for line := range strings.Lines(groups) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 4 || f[2] != gid {
			continue
		}
		found = true
		for member := range strings.SplitSeq(f[3], ",") {
			if member != "" && member != name {
				return false
			}
		}
	}
	return found
}

// alone says whether nobody but the operator and root can write the file or
// folder of that kind at path. An access list counts too: the kernel shows what
// it allows in the bits of the group. Folders above are not looked at.
func (o operator) alone(what, path string, info fs.FileInfo) *Refusal {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return refuse(UnsafePermissions, "the owner of the %s is unknown", what)
	}
	switch mode := info.Mode().Perm(); {
	case stat.Uid != o.uid && stat.Uid != 0:
		return refuse(UnsafePermissions, "the %s belongs to user %d, the node runs as %d", what, stat.Uid, o.uid).
			but("chown %d %s", o.uid, path)
	case mode&0o002 != 0:
		return refuse(UnsafePermissions, "anybody can write the %s (mode %04o)", what, mode).but("chmod go-w %s", path)
	case mode&0o020 != 0 && int64(stat.Gid) != o.group:
		return refuse(UnsafePermissions, "group %d can write the %s (mode %04o)", stat.Gid, what, mode).but("chmod go-w %s", path)
	}
	return nil
}

// readAtMost reads a whole small file. It does not wait for a pipe's other end.
func readAtMost(path string, limit int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = syscall.EFBIG
	}
	return string(b), err
}
