package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes a file that a node would take for a plugin.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(privateDir(t), "hello")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSignedPluginVerifiesAndAnotherDoesNot(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", privateDir(t))
	home, file := privateDir(t), program(t)
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitOK, "not signed")
	inos(t, "plugin", "trust", "--home", home).wants(t, exitOK, "No key is trusted")
	inos(t, "plugin", "sign", file, "--home", home).wants(t, exitOK, "signed")
	inos(t, "plugin", "trust", "--home", home).wants(t, exitOK, "local")
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitOK, "signed by local")
	inos(t, "plugin", "verify", file, "--home", home, "--json").wants(t, exitOK, `"publisher": "local"`)
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitFailed, "bad-signature")
}

func TestWrongChecksumIsVerified(t *testing.T) {
	home, file := privateDir(t), program(t)
	if err := os.WriteFile(file+".sha256", []byte(strings.Repeat("0", 64)+"  hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitFailed, "bad-checksum")
}

func TestKeysAreTrustedByNameAndNoMore(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", privateDir(t))
	home, file := privateDir(t), program(t)
	inos(t, "plugin", "sign", file, "--home", home).wants(t, exitOK, "signed")
	config, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(config, "inos", "trust", "local.pub")
	inos(t, "plugin", "trust", key, "--name", "acme", "--home", home).wants(t, exitOK, "acme is trusted")
	inos(t, "plugin", "trust", "--home", home).wants(t, exitOK, "acme")
	inos(t, "plugin", "trust", "--remove", "acme", "--home", home).wants(t, exitOK, "no more")
	inos(t, "plugin", "trust", "--remove", "acme", "--home", home).wants(t, exitNotFound, "acme")
	inos(t, "plugin", "trust", "nonsense", "--home", home).wants(t, exitUsage, "nonsense")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitFailed, "not trusted")
}

func TestPolicyThatDemandsSignaturesIsVerified(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", privateDir(t))
	home, file := privateDir(t), program(t)
	if err := os.WriteFile(filepath.Join(home, "policy.json"), []byte(`{"default": {"require_signature": true}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitFailed, "demands a signature")
	inos(t, "plugin", "sign", file, "--home", home).wants(t, exitOK, "signed")
	inos(t, "plugin", "verify", file, "--home", home).wants(t, exitOK, "signed by local")
}
