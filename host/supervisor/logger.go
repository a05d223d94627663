package supervisor

import "github.com/hashicorp/go-hclog"

// chatter is the logger that go-plugin gets. What it says about itself, much of
// it as errors when a plugin ends as it should, is for tracing; only what the
// plugin printed goes to the plugin's logger.
type chatter struct {
	hclog.Logger
	plugin hclog.Logger
}

// outputName is how go-plugin asks for the logger of a plugin's standard error.
const outputName = "output"

func (c chatter) Named(name string) hclog.Logger {
	if name == outputName {
		return cleaned{c.plugin}
	}
	return c
}

func (c chatter) Debug(msg string, args ...any) { c.Trace(msg, args...) }
func (c chatter) Info(msg string, args ...any)  { c.Trace(msg, args...) }
func (c chatter) Warn(msg string, args ...any)  { c.Trace(msg, args...) }
func (c chatter) Error(msg string, args ...any) { c.Trace(msg, args...) }

// cleaned logs what a plugin wrote. hclog escapes values but neither messages
// nor keys.
type cleaned struct{ hclog.Logger }

func (c cleaned) Trace(msg string, args ...any) { c.Logger.Trace(clean(msg), cleanAll(args)...) }
func (c cleaned) Debug(msg string, args ...any) { c.Logger.Debug(clean(msg), cleanAll(args)...) }
func (c cleaned) Info(msg string, args ...any)  { c.Logger.Info(clean(msg), cleanAll(args)...) }
func (c cleaned) Warn(msg string, args ...any)  { c.Logger.Warn(clean(msg), cleanAll(args)...) }
func (c cleaned) Error(msg string, args ...any) { c.Logger.Error(clean(msg), cleanAll(args)...) }

func cleanAll(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if s, ok := a.(string); ok {
			a = clean(s)
		}
		out[i] = a
	}
	return out
}
