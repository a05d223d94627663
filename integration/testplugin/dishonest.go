package main

import (
	"errors"
	"os"
	"syscall"

	"inos/plugins/sdk"
)

// dishonest are the operations that go wrong on purpose.
func dishonest(name string) []sdk.Capability {
	crash := func(*sdk.Job) error {
		// SIGKILL leaves no chance to clean up, as the kernel's own kills do.
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return []sdk.Capability{
		{
			Name: name + ".fail", Description: "fails with words",
			Handle: func(*sdk.Job) error {
				return sdk.Errorf(sdk.NotFound, "look elsewhere", "there is nothing here")
			},
		}, {
			Name: name + ".plain", Description: "fails with a plain error",
			Handle: func(*sdk.Job) error { return errors.New("something went wrong") },
		}, {
			Name: name + ".panic", Description: "panics",
			Handle: func(*sdk.Job) error { panic("the test asked for it") },
		}, {
			Name: name + ".crash", Description: "kills the process, not to be repeated", Handle: crash,
		}, {
			Name: name + ".poison", Description: "kills the process, every time", Idempotent: true, Handle: crash,
		}, {
			Name: name + ".once", Description: "kills the process the first time", Idempotent: true,
			Params: []sdk.ParamSpec{{Name: "file", Required: true}},
			Handle: func(j *sdk.Job) error {
				f, err := os.OpenFile(j.Params().Text("file"), os.O_CREATE|os.O_EXCL, 0o600)
				if errors.Is(err, os.ErrExist) {
					_, err = j.Write([]byte("survived"))
					return err
				}
				if err != nil {
					return err
				}
				_ = f.Close()
				return crash(j)
			},
		}, {
			Name: name + ".deaf", Description: "ignores cancellation",
			Handle: func(*sdk.Job) error { select {} },
		}, {
			Name: name + ".large", Description: "writes more than it may", MaxOutput: 64,
			Handle: func(j *sdk.Job) error {
				_, err := j.Write(make([]byte, 65))
				return err
			},
		}, {
			Name: name + ".scribble", Description: "writes random bytes over all memory it can reach",
			Params: []sdk.ParamSpec{{Name: "writes", Kind: sdk.Uint, Default: "1000000"}, {Name: "seed", Kind: sdk.Uint, Default: "1"}},
			Handle: scribble,
		},
	}
}
