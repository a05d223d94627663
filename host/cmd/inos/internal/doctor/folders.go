package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"inos/host/cmd/inos/internal/units"
	"inos/host/policy"
)

func home(dir string) Finding {
	const check = "home"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if unix.Access(existing(dir), unix.W_OK) != nil {
			return fail(check, dir+" cannot be made", "choose a folder you may write with --home or INOS_HOME")
		}
		return ok(check, dir+", made by the first inos run")
	case err != nil:
		return fail(check, err.Error(), "choose another folder with --home or INOS_HOME")
	case !info.IsDir():
		return fail(check, dir+" is not a folder", "choose another with --home or INOS_HOME")
	case !ours(info):
		return fail(check, dir+" belongs to another user", "choose another folder with --home or INOS_HOME")
	case info.Mode().Perm()&0o077 != 0:
		return fail(check, fmt.Sprintf("%s is open to other users, mode %04o", dir, info.Mode().Perm()), "run chmod 700 "+dir)
	case unix.Access(dir, unix.W_OK) != nil:
		return fail(check, dir+" may not be written", "run chmod 700 "+dir)
	}
	return ok(check, dir)
}

// policyFile checks that a node would understand the operator's policy.
func policyFile(home string) Finding {
	const check = "policy"
	path := filepath.Join(home, "policy.json")
	if _, err := policy.Load(path); err != nil {
		return fail(check, err.Error(), "mend the file, or move it away to use the default: no node starts with it")
	}
	if _, err := os.Stat(path); err != nil {
		return ok(check, "no policy.json in the home, so the default holds")
	}
	return ok(check, path)
}

// littleDisk is when a full disk is near.
const littleDisk = 1 << 30

// executable checks that copies of plugins can run from the home folder.
func executable(dir string) Finding {
	const check = "home's file system"
	var s unix.Statfs_t
	if err := unix.Statfs(existing(dir), &s); err != nil {
		return warn(check, err.Error(), "")
	}
	free := s.Bavail * uint64(s.Bsize)
	switch {
	case s.Flags&unix.ST_NOEXEC != 0:
		return fail(check, "programs may not run from it (noexec)", "choose a home on another file system with --home, since plugins run from there")
	case s.Flags&unix.ST_RDONLY != 0:
		return fail(check, "it is read-only", "choose a home on another file system with --home")
	case free < littleDisk:
		return warn(check, units.Size(free)+" free", "free some space: what is stored lies there")
	}
	return ok(check, units.Size(free)+" free, programs may run")
}

// temporary checks the folder that plugins put their control sockets in.
func temporary(dir string) Finding {
	const check = "temporary folder"
	f, err := os.CreateTemp(dir, "inos-doctor-")
	if err != nil {
		return fail(check, err.Error(), "set TMPDIR to a folder you may write: control sockets of plugins lie there")
	}
	f.Close()
	os.Remove(f.Name())
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err == nil && s.Flags&unix.ST_NOEXEC != 0 {
		return warn(check, dir+" forbids programs (noexec)", "plugins run from the home, so they do not mind; go test and go run do: set TMPDIR for them")
	}
	return ok(check, dir+" may be written")
}

func plugins(dir string) Finding {
	const check = "plugins folder"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warn(check, dir+" does not exist", "make it and put plugins in, or name another with --plugins")
	case err != nil:
		return fail(check, err.Error(), "name another with --plugins")
	case !info.IsDir():
		return fail(check, dir+" is not a folder", "name another with --plugins")
	case info.Mode().Perm()&0o022 != 0:
		return warn(check, fmt.Sprintf("%s may be written by others, mode %04o: they could add programs that run as you", dir, info.Mode().Perm()), "run chmod go-w "+dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fail(check, err.Error(), "make it readable")
	}
	if len(entries) == 0 {
		return warn(check, dir+" is empty", "put plugins in, or name another with --plugins")
	}
	files := fmt.Sprintf("%d files", len(entries))
	if len(entries) == 1 {
		files = "1 file"
	}
	return ok(check, dir+", "+files)
}

// gpu looks for a driver. Without one everything runs, on the CPU.
func gpu(root fs.FS) Finding {
	const check = "GPU"
	devices, _ := fs.Glob(root, "dev/dri/renderD*")
	nvidia, _ := fs.Glob(root, "dev/nvidia[0-9]*")
	drivers, _ := fs.Glob(root, "usr/share/vulkan/icd.d/*.json")
	more, _ := fs.Glob(root, "etc/vulkan/icd.d/*.json")
	devices, drivers = append(devices, nvidia...), append(drivers, more...)
	switch {
	case len(devices) > 0 && len(drivers) > 0:
		return ok(check, fmt.Sprintf("%d devices, %d Vulkan drivers", len(devices), len(drivers)))
	case len(devices) > 0:
		return warn(check, "a device but no Vulkan driver", "install one, on Debian mesa-vulkan-drivers or nvidia-vulkan-icd; without it jobs run on the CPU")
	case len(drivers) > 0:
		return warn(check, "no device; a Vulkan driver in software may be there", "nothing to do: jobs run on the CPU")
	}
	return warn(check, "no device and no Vulkan driver", "nothing to do: jobs run on the CPU")
}

// existing returns the nearest folder above dir, or dir, that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func ours(info fs.FileInfo) bool {
	s, found := info.Sys().(*syscall.Stat_t)
	return !found || int(s.Uid) == os.Geteuid()
}
