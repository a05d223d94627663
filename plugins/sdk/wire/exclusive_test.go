package wire

import (
	"strings"
	"testing"
)

func TestExclusiveNamesArePrintableAndDistinct(t *testing.T) {
	for _, c := range []struct {
		names []string
		bad   bool
	}{
		{[]string{"port 8080", "/dev/ttyUSB0"}, false},
		{[]string{""}, true},
		{[]string{"a\nb"}, true},
		{[]string{"\xff"}, true},
		{[]string{"x", "x"}, true},
		{[]string{strings.Repeat("x", maxName+1)}, true},
	} {
		m := Manifest{Resources: Resources{Exclusive: c.names}}
		if got := strings.Contains(m.Validate().Error(), "exclusive resource"); got != c.bad {
			t.Errorf("%q: refused %v, want %v", c.names, got, c.bad)
		}
	}
}
