package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"inos/host/catalog"
	"inos/host/policy"
	"inos/plugins/sdk/wire"
)

// verdict is what a node would think of a file before it runs it.
type verdict struct {
	File      string `json:"file"`
	OK        bool   `json:"ok"`
	Kind      string `json:"kind,omitempty"`
	Bytes     int64  `json:"bytes,omitempty"`
	Publisher string `json:"publisher,omitempty"`
	Key       string `json:"key,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it would be refused
	Hint      string `json:"hint,omitempty"`
}

func (a *app) pluginVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check files as a node does before it runs them",
		Long: `Check files as a node does before it runs them: who may write them, whether they are
whole programs for this machine, and whether the checksum and the signature beside them
are theirs, the latter by a key that is trusted; what the policy says of signatures is checked for a plugin of the
file's name. Nothing is run. The command fails when one of them would be refused.`,
		Example: "  inos plugin verify bin/plugins/storage\n  inos plugin verify --json *.plugin",
		Args:    operands,
		RunE: func(_ *cobra.Command, args []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			rules, err := policy.Load(filepath.Join(home, "policy.json"))
			if err != nil {
				return err
			}
			list := make([]verdict, 0, len(args))
			bad := 0
			for _, file := range args {
				v := verify(file, rules, trustFolders(filepath.Join(home, "trust")))
				if !v.OK {
					bad++
				}
				list = append(list, v)
			}
			if err := a.print(map[string]any{"files": list}, func() { a.showVerdicts(list) }); err != nil {
				return err
			}
			if bad > 0 {
				return errReported
			}
			return nil
		},
	}
}

// verify checks one file.
func verify(file string, rules *policy.Policy, trust []string) verdict {
	v := verdict{File: file}
	c, isPlugin := catalog.Inspect(file, catalog.Limits{})
	err := c.Err
	if err == nil && !isPlugin {
		err = usagef("%s is a folder, a hidden file, or one that accompanies a plugin", file)
	}
	var key catalog.Key
	if err == nil {
		v.Kind, v.Bytes = c.Kind.String(), c.Size
		err = catalog.CheckSums(c.Path)
	}
	if err == nil {
		key, err = catalog.Verify(file, trust...)
	}
	if err == nil {
		v.Publisher, v.Key = key.Publisher, key.ID
		err = rules.For(filepath.Base(file)).AdmitsPublisher(filepath.Base(file), key.Publisher)
	}
	v.OK = err == nil
	var refusal *catalog.Refusal
	switch {
	case errors.As(err, &refusal):
		v.Reason, v.Hint = refusal.Reason.String()+": "+refusal.Detail, refusal.Hint
	case err != nil:
		e := wire.AsError(err)
		v.Reason, v.Hint = e.Message, e.Hint
	}
	return v
}

func (a *app) showVerdicts(list []verdict) {
	for _, v := range list {
		switch {
		case !v.OK:
			fmt.Fprintf(a.out, "✗ %s: %s\n", plain(v.File), plain(v.Reason))
			if v.Hint != "" {
				fmt.Fprintf(a.out, "    %s\n", plain(v.Hint))
			}
		case v.Publisher == "":
			fmt.Fprintf(a.out, "✓ %s: %s, %d bytes, not signed\n", plain(v.File), v.Kind, v.Bytes)
		default:
			fmt.Fprintf(a.out, "✓ %s: %s, %d bytes, signed by %s (key %s)\n", plain(v.File), v.Kind, v.Bytes, plain(v.Publisher), v.Key)
		}
	}
}
