// Command testplugin is a plugin whose conduct can be chosen, for the tests of
// the whole node: it serves honest operations, and others that fail, hang, crash
// or lie in every way a plugin can. The name of the binary chooses how it starts:
// see startup.go.
package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"inos/plugins/sdk"
)

func main() {
	name, version, ways := conduct(called())
	for _, way := range append(ways, name) {
		if misbehave(way) {
			return
		}
	}
	p := plugin(name)
	if version != "" {
		behave(p, version, ways)
	}
	sdk.Serve(p)
}

// called returns what the plugin is to be: what a test appended to the binary,
// else the name of the binary.
func called() string {
	const mark = "\nconduct:"
	if f, err := os.Open("/proc/self/exe"); err == nil {
		defer f.Close()
		tail := make([]byte, 256)
		if end, err := f.Seek(-int64(len(tail)), io.SeekEnd); err == nil {
			n, _ := f.ReadAt(tail, end)
			if _, name, ok := strings.Cut(string(tail[:n]), mark); ok {
				return name
			}
		}
	}
	return filepath.Base(os.Args[0])
}

// plugin returns the module that serves under the given name. Every capability
// carries the name, so that several copies can be served side by side; but a
// plugin named "thief-x" claims the capabilities of x.
func plugin(name string) *sdk.Plugin {
	module := name
	name = strings.TrimPrefix(name, "thief-")
	p := &sdk.Plugin{
		Name:        module,
		Version:     "1.0.0",
		Description: "serves what the tests of the node ask of it",
		License:     "Apache-2.0",
		Needs: []sdk.Grant{
			sdk.MayHostCall, sdk.MayStoreChunk, sdk.MayFetchChunk, sdk.MaySendMessage,
			sdk.MaySpawn, sdk.MayMetric, sdk.MayKeepState, sdk.MayLog,
		},
		Cost:     sdk.CostModel{Base: 10, PerMB: 5, PerSecond: 100},
		State:    []sdk.StateSpec{{Name: "counter", Schema: 1, MaxBytes: 64}},
		SelfTest: name + ".echo",
	}
	p.Capabilities = append(honest(name), dishonest(name)...)
	switch {
	case strings.HasPrefix(name, "lonely"):
		p.Dependencies = []sdk.Dependency{{Module: "nobody"}}
	case name == "dependent":
		p.Dependencies = []sdk.Dependency{{Module: "pine", Max: sdk.Version{Major: 9}}}
	case strings.HasPrefix(name, "sickly"):
		p.SelfTest = name + ".plain"
	case strings.HasPrefix(name, "fatal"):
		p.SelfTest = name + ".poison"
	}
	farewell(p)
	return p
}
