package vault

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the most bytes that the name of an object may have.
const MaxName = 1024

// CheckName returns ErrName unless name can name an object: 1 to MaxName bytes of
// UTF-8 without control characters. A name is compared byte by byte and is never
// a path: "../x" and "a/b" are names like any other.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: it has %d bytes, the most is %d", ErrName, len(name), MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q is not UTF-8", ErrName, name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: %q holds a control character", ErrName, name)
	}
	return nil
}
