package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"inos/host/catalog"
)

// passwordEnv holds the password of an encrypted private key, so that it stands in
// no command line.
const passwordEnv = "INOS_KEY_PASSWORD"

// signed is what signing one file came to.
type signed struct {
	File      string `json:"file"`
	Signature string `json:"signature"`
}

func (a *app) pluginSignCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "sign FILE...",
		Short: "Sign plugins with your key",
		Long: `Sign plugins: write FILE.minisig beside each, in the form of minisign. Without --key
your own key is used, which is made at the first use and lies unencrypted in your
configuration folder; every node of yours trusts it. The password of an encrypted key
is taken from ` + passwordEnv + `.`,
		Example: "  inos plugin sign hello\n  inos plugin sign --key ~/.minisign/minisign.key bin/plugins/storage",
		Args:    operands,
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				trust, err := catalog.UserTrust()
				if err != nil {
					return err
				}
				made := false
				if key, made, err = catalog.LocalKey(trust); err != nil {
					return err
				}
				if made {
					fmt.Fprintf(a.err, "made your key %s, which your nodes trust\n", key)
				}
			}
			var list []signed
			for _, file := range args {
				sig, err := catalog.Sign(file, key, os.Getenv(passwordEnv))
				if err != nil {
					return fmt.Errorf("signing %s: %w", file, err)
				}
				list = append(list, signed{file, sig})
			}
			return a.print(map[string]any{"signed": list}, func() {
				for _, s := range list {
					fmt.Fprintln(a.out, "signed", plain(s.File))
				}
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "private key `FILE` of minisign (default your own)")
	return c
}
