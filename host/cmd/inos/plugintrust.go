package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"inos/host/catalog"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// trusted is a key as it is printed.
type trusted struct {
	Publisher string `json:"publisher"`
	ID        string `json:"id"`
	Path      string `json:"path"`
}

func (a *app) pluginTrustCommand() *cobra.Command {
	var name string
	var remove bool
	c := &cobra.Command{
		Use:   "trust [KEY]",
		Short: "Trust a publisher's key, or list the trusted keys",
		Long: `Have the node trust what a key has signed. KEY is a public key of minisign, or its
file; the publisher is called as the file is, or as --name says. Without KEY the
trusted keys are listed: the node's own, and those of your user, which all your nodes
trust. With --remove, KEY names a publisher or a key's ID that is trusted no more. It
counts from the next file that the node looks at.`,
		Example: "  inos plugin trust\n  inos plugin trust acme.pub\n  inos plugin trust RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3 --name acme\n  inos plugin trust --remove acme",
		Args:    operands,
		RunE: func(_ *cobra.Command, args []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			dir := filepath.Join(home, "trust")
			switch {
			case len(args) == 0 && (remove || name != ""):
				return usagef("name the KEY")
			case len(args) == 0:
				return a.listKeys(dir)
			case remove:
				return a.distrust(dir, args[0])
			}
			return a.trust(dir, args[0], name)
		},
	}
	c.Flags().StringVar(&name, "name", "", "call the publisher `NAME`")
	c.Flags().BoolVar(&remove, "remove", false, "trust it no more")
	return c
}

// trustFolders are the folders of the keys that a node of this home trusts.
func trustFolders(dir string) []string {
	list := []string{dir}
	if user, err := catalog.UserTrust(); err == nil {
		list = append(list, user)
	}
	return list
}

func (a *app) listKeys(dir string) error {
	keys, err := catalog.Keys(trustFolders(dir)...)
	if err != nil {
		return err
	}
	list := make([]trusted, 0, len(keys))
	for _, k := range keys {
		list = append(list, trusted{k.Publisher, k.ID, k.Path})
	}
	return a.print(map[string]any{"keys": list}, func() {
		if len(list) == 0 {
			fmt.Fprintln(a.out, "No key is trusted. inos plugin trust FILE.pub trusts one.")
			return
		}
		t := newTable(a.out, "", "PUBLISHER", "KEY", "FILE")
		for _, k := range list {
			t.row(k.Publisher, k.ID, k.Path)
		}
		t.end()
	})
}

// trust adds a key, given as a file or as text.
func (a *app) trust(dir, key, name string) error {
	text := key
	if b, err := os.ReadFile(key); err == nil {
		text = string(b)
		if name == "" {
			name = strings.TrimSuffix(filepath.Base(key), filepath.Ext(key))
		}
	} else if _, bad := catalog.ParseKey(key); bad != nil {
		return usagef("%s is neither a public key of minisign nor a file of one: %w", key, err)
	}
	if name == "" {
		return usagef("say with --name what the publisher is called")
	}
	k, err := catalog.AddKey(dir, name, text)
	if err != nil {
		return err
	}
	return a.print(trusted{k.Publisher, k.ID, k.Path}, func() {
		fmt.Fprintf(a.out, "%s is trusted: key %s\n", plain(k.Publisher), k.ID)
	})
}

func (a *app) distrust(dir, publisher string) error {
	n, err := catalog.RemoveKey(dir, publisher)
	if err == nil && n == 0 {
		err = wire.NewError(base.Code_notFound, "see inos plugin trust; a key of your user is removed by deleting its file", "no key of %s is trusted by this node", publisher)
	}
	if err != nil {
		return err
	}
	return a.print(map[string]any{"removed": n}, func() {
		fmt.Fprintf(a.out, "%s is trusted no more\n", plain(publisher))
	})
}
