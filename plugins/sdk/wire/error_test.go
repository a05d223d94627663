package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"inos/protocols/base/v1"
)

func TestErrorsAreFoundByTheirCode(t *testing.T) {
	sentinels := []error{
		ErrUnknown, ErrInvalidArgument, ErrNotFound, ErrAlreadyExists, ErrPermissionDenied, ErrResourceExhausted,
		ErrBudgetExceeded, ErrDeadlineExceeded, ErrCanceled, ErrUnavailable, ErrNotSupported, ErrDataLoss, ErrInternal,
		ErrOutcomeUnknown, ErrQuarantined,
	}
	if c := base.Code(len(sentinels)); c.String() != "" {
		t.Errorf("the code %s has no sentinel", c)
	}
	for i := range sentinels {
		e := fmt.Errorf("wrapped: %w", NewError(base.Code(i), "", "it went wrong"))
		for j, s := range sentinels {
			if errors.Is(e, s) != (i == j) {
				t.Errorf("%v is %v: %v", base.Code(i), s, i != j)
			}
		}
		if errors.Is(e, NewError(base.Code(i), "", "it went wrong")) {
			t.Errorf("%v is another error of its code", base.Code(i))
		}
	}
	if got := ErrOutcomeUnknown.Error(); got != "outcome unknown" {
		t.Errorf("a sentinel reads %q", got)
	}
}

func TestErrorPrintsMessageAndHint(t *testing.T) {
	tests := []struct {
		e    *Error
		want string
	}{
		{NewError(base.Code_notFound, "see the list", "no %s", "x"), "no x; see the list"},
		{NewError(base.Code_notFound, "", "no x"), "no x"},
		{&Error{Code: base.Code_notFound, Hint: "see the list"}, "not found; see the list"},
	}
	for _, tt := range tests {
		if got := tt.e.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestNewErrorWraps(t *testing.T) {
	one := NewError(base.Code_internal, "", "reading: %w", io.ErrUnexpectedEOF)
	if !errors.Is(one, io.ErrUnexpectedEOF) || !errors.Is(one, ErrInternal) {
		t.Errorf("%v has lost what it wraps", one)
	}
	two := NewError(base.Code_internal, "", "%w and %w", io.ErrUnexpectedEOF, io.ErrClosedPipe)
	if !errors.Is(two, io.ErrUnexpectedEOF) || !errors.Is(two, io.ErrClosedPipe) {
		t.Errorf("%v has lost what it wraps", two)
	}
	if plain := NewError(base.Code_internal, "", "%v", io.ErrUnexpectedEOF); plain.Unwrap() != nil {
		t.Errorf("%v wraps %v", plain, plain.Unwrap())
	}
}

func TestAsErrorKeepsWhatIsSaid(t *testing.T) {
	ours := NewError(base.Code_notFound, "see the list", "no x")
	tests := []struct {
		name    string
		in      error
		code    base.Code
		message string
		hint    string
	}{
		{"ours", ours, base.Code_notFound, "no x", "see the list"},
		{"wrapped", fmt.Errorf("job 7: %w", ours), base.Code_notFound, "job 7: no x", "see the list"},
		{"a sentinel", fmt.Errorf("job 7: %w", ErrQuarantined), base.Code_quarantined, "job 7: quarantined", ""},
		{"deadline", fmt.Errorf("job 7: %w", context.DeadlineExceeded), base.Code_deadlineExceeded, "job 7: context deadline exceeded", ""},
		{"cancelled", context.Canceled, base.Code_canceled, "context canceled", ""},
		{"any other", io.ErrUnexpectedEOF, base.Code_internal, "unexpected EOF", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := AsError(tt.in)
			if e.Code != tt.code || e.Message != tt.message || e.Hint != tt.hint {
				t.Errorf("%+v", *e)
			}
			if !errors.Is(e, tt.in) {
				t.Errorf("%v is no longer %v", e, tt.in)
			}
		})
	}
	if AsError(nil) != nil {
		t.Error("nil became an error")
	}
	if ours.Message != "no x" {
		t.Errorf("the original now says %q", ours.Message)
	}
}

func TestAnyErrorCanBeSent(t *testing.T) {
	e := Error{Code: 99, Message: strings.Repeat("m", 1<<20), Hint: "\xff", Context: map[string]string{strings.Repeat("k", 1<<10): strings.Repeat("v", 1<<20)}}
	for i := range 100 {
		e.Context[fmt.Sprint(i)] = "v"
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeError(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Code != base.Code_unknown || len(got.Message) != maxText || !strings.HasSuffix(got.Message, cut) || got.Hint != "\uFFFD" || len(got.Context) != maxContext {
		t.Errorf("code %v, %d bytes of message, hint %q, %d facts", got.Code, len(got.Message), got.Hint, len(got.Context))
	}
}
