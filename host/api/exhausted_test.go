package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

func TestWhatTheSystemRanOutOfReachesTheCaller(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "/x", Err: unix.ENOSPC}
	for name, c := range map[string]struct {
		err       error
		code      base.Code
		temporary bool
		hint      string
	}{
		"a full disk":                 {full, base.Code_resourceExhausted, false, "free some space"},
		"a quota":                     {fmt.Errorf("store: %w", unix.EDQUOT), base.Code_resourceExhausted, false, "quota"},
		"files of the process":        {unix.EMFILE, base.Code_resourceExhausted, true, "ulimit -n"},
		"files of the system":         {unix.ENFILE, base.Code_resourceExhausted, true, "fs.file-max"},
		"memory":                      {unix.ENOMEM, base.Code_resourceExhausted, true, "memory"},
		"known as internal":           {wire.NewError(base.Code_internal, "shrug", "journal: %w", full), base.Code_resourceExhausted, false, "free some space"},
		"with a hint that knows more": {wire.NewError(base.Code_resourceExhausted, "discard results", "journal: %w", full), base.Code_resourceExhausted, false, "discard results"},
		"with another meaning":        {wire.NewError(base.Code_outcomeUnknown, "look", "it may be there: %w", full), base.Code_outcomeUnknown, false, "look"},
		"something else":              {unix.EIO, base.Code_internal, false, ""},
		"a queue":                     {wire.NewError(base.Code_resourceExhausted, "wait", "full"), base.Code_resourceExhausted, true, "wait"},
	} {
		e := asError(c.err)
		if e.Code != c.code || e.Temporary != c.temporary || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %+v", name, e)
		}
		if !errors.Is(e, c.err) || !strings.Contains(c.err.Error(), e.Message) {
			t.Errorf("%s: %q lost what was known: %v", name, e.Message, c.err)
		}
	}
	if Exhausted(nil) != nil || Exhausted(io.EOF) != nil {
		t.Error("nothing ran out")
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"code":"notFound","message":"m","hint":"h","temporary":true,"context":{"a":"b"}}`))
	f.Add([]byte(`{"code":"x","message":""}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := refusal(&http.Response{Status: "500 no", Body: io.NopCloser(bytes.NewReader(body))})
		if e.Message == "" || e.Code.String() == "" {
			t.Errorf("%q became %+v", body, e)
		}
		var res RunResult
		res.outcome(http.Header{headerError: {string(body)}, headerMetrics: {string(body)}, headerCost: {string(body)}}, "lost")
		if len(body) > 0 && (res.Error == nil || res.Status != "lost") {
			t.Errorf("%q became %+v", body, res)
		}
	})
}

func FuzzEventLines(f *testing.F) {
	f.Add([]byte(`{"id":1,"step":"flipped","error":{"code":"x"}}` + "\n{}\n"))
	f.Add([]byte("null\n[]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, read := bytes.Count(text, []byte("\n"))+1, 0
		err := readEvents(bytes.NewReader(text), func(Event) error { read++; return nil })
		if read > lines || err != nil && !errors.Is(err, errEvent) {
			t.Errorf("%q gave %d events, %v", text, read, err)
		}
	})
}
