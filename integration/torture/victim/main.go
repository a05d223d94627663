// Command victim is the plugin that the torture campaign breaks. It does honest
// work whose answers the campaign computes by itself, and writes down each run of a
// job that must not run twice. One binary plays every version of every module: what
// it is to be, and how it goes wrong, was appended to it.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"inos/plugins/sdk"
)

func main() {
	name, version, ways, err := conduct()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if misbehave(ways, name) {
		return
	}
	p := plugin(name, version)
	spoil(p, ways)
	sdk.Serve(p)
}

// mark begins what was appended to the binary: MODULE-vVERSION and any number of
// -WAYs, then a byte 0 and anything that makes the digest another.
const mark = "\nconduct:"

var form = regexp.MustCompile(`^(\w+)-v(\d+\.\d+\.\d+)((?:-\w+)*)$`)

// conduct reads what the binary is to be.
func conduct() (name, version string, ways []string, err error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", "", nil, err
	}
	const most = 512
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-most), most))
	if err != nil {
		return "", "", nil, err
	}
	i := bytes.LastIndex(tail, []byte(mark))
	if i < 0 {
		return "", "", nil, fmt.Errorf("nothing was appended to this binary that says what it is to be")
	}
	text, _, _ := strings.Cut(string(tail[i+len(mark):]), "\x00")
	m := form.FindStringSubmatch(text)
	if m == nil {
		return "", "", nil, fmt.Errorf("%q says nothing about what to be", text)
	}
	return m[1], m[2], strings.Split(strings.TrimPrefix(m[3], "-"), "-"), nil
}

// plugin returns the honest plugin. The module "tally" keeps state, every other
// none, so that a swap of it need not hold still. The module "forge" has a helper.
func plugin(name, version string) *sdk.Plugin {
	p := &sdk.Plugin{
		Name: name, Version: version, License: "Apache-2.0",
		Description: "does work that the torture campaign can check",
		Needs:       []sdk.Grant{sdk.MayKeepState},
		SelfTest:    name + ".probe",
	}
	var ledger string // the file that runs are written down in, set before the first job
	p.Start = func(_ context.Context, h *sdk.Host) error {
		ledger = h.Setting("ledger")
		if name == "forge" {
			return helper()
		}
		return nil
	}
	p.Capabilities = work(name, &ledger)
	if name == "tally" {
		p.State = []sdk.StateSpec{{Name: "count", Schema: 1, MaxBytes: 64}}
		p.Capabilities = append(p.Capabilities, counting(name))
	}
	return p
}

// helper starts a process in a session of its own, which nobody but the node will
// end.
func helper() error {
	cmd := exec.Command("sleep", "3600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// has reports whether a version misbehaves in some way.
func has(ways []string, way string) bool { return slices.Contains(ways, way) }
