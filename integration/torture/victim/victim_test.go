package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"inos/plugins/sdk/hashing"
	"inos/plugins/sdk/sdktest"
)

func TestMixingTwiceGivesTheInputBack(t *testing.T) {
	p := plugin("mill", "1.0.0")
	in := bytes.Repeat([]byte("to be mixed "), 10_000)
	out, err := sdktest.Run(t, p, "mill.mix", in, "key", "k")
	if err != nil || bytes.Equal(out, in) {
		t.Fatalf("the input came back unmixed, %v", err)
	}
	if back, err := sdktest.Run(t, p, "mill.mix", out, "key", "k"); err != nil || !bytes.Equal(back, in) {
		t.Errorf("mixed twice it is something else, %v", err)
	}
	if other, err := sdktest.Run(t, p, "mill.mix", in, "key", "l"); err != nil || bytes.Equal(other, out) {
		t.Errorf("another key gives the same, %v", err)
	}
}

func TestHashIsBLAKE3(t *testing.T) {
	want := hashing.Sum([]byte("hello"))
	if got, err := sdktest.Run(t, plugin("mill", "1.0.0"), "mill.hash", []byte("hello")); err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestEveryRunLeavesALine(t *testing.T) {
	p := plugin("mill", "1.0.0")
	ledger := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(ledger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sdktest.Start(t, p, map[string]string{"ledger": ledger})
	for _, key := range []string{"a", "b", "a"} {
		if _, err := sdktest.Run(t, p, "mill.once", []byte("input"), "key", key); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(ledger); err != nil || string(got) != "a\nb\na\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestConductIsReadFromItsForm(t *testing.T) {
	for text, ok := range map[string]bool{
		"mill-v1.0.0": true, "tally-v1.2.30-crash-hang": true, "mill": false, "mill-v1": false, "-v1.0.0": false, "mill-v1.0.0 ": false,
	} {
		if form.MatchString(text) != ok {
			t.Errorf("%q is taken: %v", text, !ok)
		}
	}
}
