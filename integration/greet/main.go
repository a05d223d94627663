// Command greet is the plugin of the README's tour, in three versions:
//
//	1  greets, and counts its greetings in a block that outlives the process
//	2  greets better, and takes the count over
//	3  is broken: it passes its self-test, but fails whoever has a name
//
// `make tour` builds all three.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"inos/plugins/sdk"
)

// version is set when it is built: 1.0.0, 2.0.0 or 3.0.0.
var version = "1.0.0"

// failed counts the greetings that version 3 could not give.
var failed atomic.Int64

func main() {
	sdk.Serve(&sdk.Plugin{
		Name:        "greet",
		Version:     version,
		Description: "greets, and counts its greetings",
		Needs:       []sdk.Grant{sdk.MayKeepState},
		State:       []sdk.StateSpec{{Name: "count", Schema: 1, MaxBytes: 8}},
		SelfTest:    "greet.check",
		Concurrency: 1, // the count is one block, so one greeting at a time
		Health: func(context.Context) error {
			if n := failed.Load(); n > 0 {
				return fmt.Errorf("%d greetings failed", n)
			}
			return nil
		},
		Capabilities: []sdk.Capability{{
			Name: "greet.hello", Description: "greets somebody",
			Params: []sdk.ParamSpec{{Name: "name", Default: "world"}},
			Handle: hello,
		}, {
			Name: "greet.check", Description: "makes sure that it can greet",
			Handle: func(j *sdk.Job) error {
				_, err := fmt.Fprintln(j, "Hello.")
				return err
			},
		}},
	})
}

func hello(j *sdk.Job) error {
	name := j.Params().Text("name")
	if version == "3.0.0" && name != "world" {
		failed.Add(1)
		return sdk.Errorf(sdk.Internal, "wait until the node has taken this version back", "I forgot who %s is", name)
	}
	st, err := j.Host().State(j.Context(), "count", 1, 8)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(st.Current()) + 1
	binary.LittleEndian.PutUint64(st.Next(), n)
	if err := st.Commit(); err != nil {
		return err
	}
	switch version {
	case "1.0.0":
		_, err = fmt.Fprintf(j, "Hello, %s. (greeting %d)\n", name, n)
	default:
		_, err = fmt.Fprintf(j, "A very good day to you, %s! (greeting %d, by version %s)\n", name, n, version)
	}
	return err
}
