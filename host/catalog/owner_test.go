package catalog

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"
)

// owned is the FileInfo of a file with an owner and a mode.
type owned struct {
	mode     fs.FileMode
	uid, gid uint32
}

func (o owned) Name() string       { return "plugin" }
func (o owned) Size() int64        { return 0 }
func (o owned) Mode() fs.FileMode  { return o.mode }
func (o owned) ModTime() time.Time { return time.Time{} }
func (o owned) IsDir() bool        { return false }
func (o owned) Sys() any           { return &syscall.Stat_t{Uid: o.uid, Gid: o.gid} }

func TestOnlyTheOperatorMayWrite(t *testing.T) {
	alone, shared := operator{uid: 1000, group: 1000}, operator{uid: 1000, group: -1}
	tests := []struct {
		name string
		who  operator
		file owned
		hint string // empty: accepted
	}{
		{"own", alone, owned{0o755, 1000, 1000}, ""},
		{"of root", alone, owned{0o755, 0, 0}, ""},
		{"writable by the private group", alone, owned{0o775, 1000, 1000}, ""},
		{"writable by a shared group", shared, owned{0o775, 1000, 1000}, "chmod go-w"},
		{"writable by another group", alone, owned{0o775, 1000, 50}, "chmod go-w"},
		{"writable by all", alone, owned{0o757, 1000, 1000}, "chmod go-w"},
		{"writable by all, of root", alone, owned{0o757, 0, 0}, "chmod go-w"},
		{"of another user", alone, owned{0o755, 1001, 1000}, "chown 1000 /plugins/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.who.alone("file", "/plugins/x", tt.file)
			if tt.hint == "" {
				if r != nil {
					t.Fatal(r)
				}
				return
			}
			if r == nil || !errors.Is(r, UnsafePermissions) || !strings.HasPrefix(r.Hint, tt.hint) {
				t.Fatalf("got %+v", r)
			}
		})
	}
}

func TestPrivateGroupHasOneMember(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\neve:x:1002:1001::/:/bin/sh\n"
	const groups = "root:x:0:\nann:x:1000:ann\nbob:x:1001:\nstaff:x:50:ann,bob\nodd line\n"
	tests := []struct {
		name, gid string
		want      bool
	}{
		{"ann", "1000", true},
		{"root", "0", true},
		{"ann", "50", false},   // has members
		{"bob", "1001", false}, // eve logs in with it
		{"ann", "77", false},   // not there
	}
	for _, tt := range tests {
		if got := privateGroup(passwd, groups, tt.name, tt.gid); got != tt.want {
			t.Errorf("group %s of %s: %v", tt.gid, tt.name, got)
		}
	}
}
