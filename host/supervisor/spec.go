package supervisor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/protocols/system/v1"
)

// MaxSocketDir is the length in bytes of the longest path under which a
// process's sockets still have valid names: the kernel allows 107, and go-plugin
// adds up to "/plugin-dir4294967295/plugin4294967295".
const MaxSocketDir = 107 - len("/plugin-dir4294967295/plugin4294967295")

// Spec says what to start and how.
type Spec struct {
	// Path is the binary, absolute: a file of the store, never of the plugins
	// folder.
	Path string
	// Name of the plugin in messages and logs, default the base name of Path.
	Name string
	// Digest is the SHA-256 of the binary in hex. If it is not empty, the binary is
	// read and compared before it is started.
	Digest string
	// Env holds further variables, NAME=value. A plugin does not inherit those of
	// the host but for PATH, LANG and TMPDIR.
	Env []string
	// Dir is where a folder for the sockets is made, default Options.SocketDir. That
	// folder is also where the plugin works; it goes when the process does.
	Dir string
	// StartTimeout bounds the time from the fork to the first call, default 10 s.
	StartTimeout time.Duration
	// CallTimeout bounds commands whose context has no deadline, default 10 s.
	CallTimeout time.Duration
	// Logger receives what the plugin prints, default Options.Logger named Name.
	Logger hclog.Logger
	// Limits of the process and what it starts. In force is what Process.Limits says.
	Limits Limits
}

// inherited are the host's variables that a plugin sees.
var inherited = []string{"PATH", "LANG", "TMPDIR"}

// complete fills in defaults and checks.
func (spec *Spec) complete(o Options) *LaunchError {
	spec.Name = cmp.Or(spec.Name, filepath.Base(spec.Path))
	spec.Dir = cmp.Or(spec.Dir, o.SocketDir)
	for _, t := range []*time.Duration{&spec.StartTimeout, &spec.CallTimeout} {
		if *t <= 0 {
			*t = 10 * time.Second
		}
	}
	if spec.Logger == nil {
		spec.Logger = o.Logger.Named(spec.Name)
	}
	switch {
	case !filepath.IsAbs(spec.Path):
		return failure(BadSpec, nil, "the path %q is not absolute", spec.Path)
	case !filepath.IsAbs(spec.Dir):
		return failure(BadSpec, nil, "the folder for sockets %q is not absolute", spec.Dir)
	case len(spec.Dir) > MaxSocketDir:
		return failure(BadSpec, nil, "the folder for sockets %q has %d bytes; a socket's name leaves room for %d", spec.Dir, len(spec.Dir), MaxSocketDir)
	}
	for _, e := range spec.Env {
		if !strings.Contains(e, "=") || strings.ContainsRune(e, 0) {
			return failure(BadSpec, nil, "the variable %q is not of the form NAME=value", e)
		}
	}
	return nil
}

// environment puts together what the process sees. What go-plugin and we say
// comes last and wins.
func (spec *Spec) environment(protocol []string, marker string) []string {
	var env []string
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, spec.Env...)
	env = append(env, protocol...)
	if marker != "" {
		env = append(env, marker)
	}
	return append(env, fmt.Sprintf("%s=%d", system.ChannelEnv, system.ChannelFd))
}

// checkDigest compares the binary with what was admitted. It gives up when ctx
// ends.
func (spec *Spec) checkDigest(ctx context.Context) *LaunchError {
	if spec.Digest == "" {
		return nil
	}
	f, err := os.Open(spec.Path)
	if err != nil {
		return failure(CannotExecute, err, "%v", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, whileAlive{ctx, f}); ctx.Err() != nil {
		return gaveUp(ctx, "while its binary was checked")
	} else if err != nil {
		return failure(CannotExecute, err, "reading %s: %v", spec.Path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, spec.Digest) {
		return failure(BadDigest, nil, "the SHA-256 of %s is %s, admitted was %s", spec.Path, got, spec.Digest)
	}
	return nil
}

// whileAlive reads until ctx ends.
type whileAlive struct {
	ctx context.Context
	r   io.Reader
}

func (w whileAlive) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(b)
}
