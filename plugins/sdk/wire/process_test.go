package wire

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// otherEnv makes this test binary the other process of a test: it sends every
// sample, then decodes and encodes again what it is sent.
const otherEnv = "INOS_TEST_OTHER_PROCESS"

func init() {
	if os.Getenv(otherEnv) == "" {
		return
	}
	if err := otherProcess(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func otherProcess(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, MaxMessage)
	for _, s := range samples() {
		b, err := s.value.Encode()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%x\n", b); err != nil {
			return err
		}
		if !lines.Scan() {
			return fmt.Errorf("%s: nothing came: %w", s.name(), lines.Err())
		}
		if b, err = hex.DecodeString(lines.Text()); err != nil {
			return err
		}
		v, err := s.decode(b)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(v, s.value) {
			return fmt.Errorf("%s arrived as %+v", s.name(), v)
		}
	}
	return nil
}

func TestMessagesAreTheSameBytesInAnotherProcess(t *testing.T) {
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), otherEnv+"=1")
	to, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	other.Stderr = &said
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, MaxMessage)
	for _, s := range samples() {
		want, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Errorf("%s: the other process sent nothing", s.name())
			break
		}
		if got := lines.Text(); got != hex.EncodeToString(want) {
			t.Errorf("%s is other bytes there:\n%s\n%x", s.name(), got, want)
		}
		if _, err := fmt.Fprintf(to, "%x\n", want); err != nil {
			t.Error(err)
			break
		}
	}
	if err := other.Wait(); err != nil {
		t.Errorf("%v: %s", err, &said)
	}
}
