package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"inos/host/api"
	"inos/host/cmd/inos/internal/units"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

func (a *app) storeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "store",
		Short:   "Keep files on the node",
		Long:    "Keep files on the node and get them back. Each command runs a job of the plugin that serves storage.put, storage.get and so on; inos job run does the same.",
		Example: "  inos store put holiday.tar\n  inos store ls\n  inos store get holiday.tar copy.tar",
	}, a.storePutCommand(), a.storeGetCommand(), a.storeListCommand(), a.storeStatCommand(), a.storeVerifyCommand(), a.storeRemoveCommand())
}

// object is what storage says of a file it keeps.
type object struct {
	Name        string    `json:"name"`
	Size        uint64    `json:"size"`
	Stored      uint64    `json:"stored"` // on disk
	Chunks      uint64    `json:"chunks"`
	Compression string    `json:"compression"`
	BLAKE3      string    `json:"blake3"`
	Created     time.Time `json:"created"`
}

func (a *app) storePutCommand() *cobra.Command {
	var compression string
	cmd := &cobra.Command{
		Use:     "put FILE [NAME]",
		Short:   "Keep a file",
		Long:    "Keep a file on the node, compressed and encrypted. NAME is the file's own unless given. With - as FILE, standard input is kept.",
		Example: "  inos store put holiday.tar\n  tar c photos | inos store put - photos --compression brotli",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := filepath.Base(args[0])
			if len(args) > 1 {
				name = args[1]
			} else if args[0] == "-" {
				return usagef("give a NAME for what comes on standard input")
			}
			return a.withNode(func(c *api.Client) error {
				in, size, err := a.openInput(args[0])
				if err != nil {
					return err
				}
				defer in.Close()
				var answer bytes.Buffer
				r := request("storage.put", "name="+name, "compression="+compression)
				bar := a.progress("put "+name, size)
				r.Input, r.Size, r.Output = bar.reader(in), size, &answer
				began := time.Now()
				_, err = c.Run(cmd.Context(), r)
				bar.end()
				if err == nil && size >= 0 {
					err = whole(args[0], in, size)
				}
				if err != nil {
					return err
				}
				var o object
				if err := understand(r, answer.Bytes(), &o); err != nil {
					return err
				}
				return a.print(o, func() {
					took := time.Since(began)
					fmt.Fprintf(a.out, "kept %s: %s as %s in %d chunks, %s, %s\n", plain(o.Name),
						units.Size(o.Size), units.Size(o.Stored), o.Chunks, units.Duration(took), units.Rate(o.Size, took))
				})
			})
		},
	}
	cmd.Flags().StringVar(&compression, "compression", "zstd", "zstd, s2, brotli or none")
	return cmd
}

func (a *app) storeGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME [FILE]",
		Short:   "Get a file back",
		Long:    "Get a file back. FILE is NAME in this folder unless given, and - is standard output. A file that is there is replaced once all has come, and not touched before.",
		Example: "  inos store get holiday.tar copy.tar\n  inos store get photos - | tar t",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			to := filepath.Base(args[0])
			if len(args) > 1 {
				to = args[1]
			}
			return a.withNode(func(c *api.Client) error { return a.get(cmd.Context(), c, args[0], to) })
		},
	}
}

func (a *app) get(ctx context.Context, c *api.Client, name, to string) error {
	dst, err := a.createOutput(to)
	if err != nil {
		return err
	}
	defer dst.discard()
	size := int64(-1)
	if isTerminal(a.err) { // only the progress bar needs to know
		var o object
		if err := ask(ctx, c, request("storage.stat", "name="+name), &o); err != nil {
			return err
		}
		size = int64(o.Size)
	}
	r := request("storage.get", "name="+name)
	bar := a.progress("get "+name, size)
	r.Output = bar.writer(dst)
	began := time.Now()
	res, err := c.Run(ctx, r)
	bar.end()
	if err == nil {
		err = dst.commit()
	}
	if err != nil || to == "-" {
		return err
	}
	return a.print(res, func() {
		took := time.Since(began)
		fmt.Fprintf(a.out, "got %s as %s: %s, %s, %s\n", plain(name), plain(to), units.Size(res.Bytes), units.Duration(took), units.Rate(res.Bytes, took))
	})
}

func (a *app) storeStatCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stat NAME",
		Short:   "Show what is known of a file that is kept",
		Long:    "Show what is known of a file that is kept: its size, its digest, and what it takes on disk.",
		Example: "  inos store stat holiday.tar",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(func(c *api.Client) error {
				var o object
				if err := ask(cmd.Context(), c, request("storage.stat", "name="+args[0]), &o); err != nil {
					return err
				}
				return a.print(o, func() {
					t := newList(a.out)
					t.pair("name", o.Name)
					t.pair("size", fmt.Sprintf("%s (%d bytes)", units.Size(o.Size), o.Size))
					t.pair("stored", units.Size(o.Stored))
					t.pair("chunks", fmt.Sprint(o.Chunks))
					t.pair("compression", o.Compression)
					t.pair("BLAKE3", o.BLAKE3)
					t.pair("created", o.Created.Local().Format(time.DateTime))
					t.end()
				})
			})
		},
	}
}

func (a *app) storeVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "verify NAME",
		Short:   "Check that a file is whole",
		Long:    "Read every chunk of a file and check that nothing of it was changed or lost on disk.",
		Example: "  inos store verify holiday.tar",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(func(c *api.Client) error {
				var v struct {
					object
					OK bool `json:"ok"`
				}
				if err := ask(cmd.Context(), c, request("storage.verify", "name="+args[0]), &v); err != nil {
					return err
				}
				if !v.OK {
					return wire.NewError(base.Code_dataLoss, "put it again from another copy", "%s is damaged", args[0])
				}
				return a.print(v, func() {
					fmt.Fprintf(a.out, "%s is whole: %d chunks, %s\n", plain(v.Name), v.Chunks, units.Size(v.Size))
				})
			})
		},
	}
}

func (a *app) storeRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Short:   "Remove files that are kept",
		Long:    "Remove files that are kept. It stops at the first that cannot be removed.",
		Example: "  inos store rm holiday.tar photos",
		Args:    operands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(func(c *api.Client) error {
				for _, name := range args {
					var answer json.RawMessage
					if err := ask(cmd.Context(), c, request("storage.delete", "name="+name), &answer); err != nil {
						return err
					}
					if err := a.print(answer, func() { fmt.Fprintf(a.out, "removed %s\n", plain(name)) }); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// request is a job with parameters and no input.
func request(capability string, params ...string) api.RunRequest {
	return api.RunRequest{Capability: capability, Params: params}
}

// ask runs a job that answers in JSON.
func ask(ctx context.Context, c *api.Client, r api.RunRequest, into any) error {
	var answer bytes.Buffer
	r.Output = &answer
	if _, err := c.Run(ctx, r); err != nil {
		return err
	}
	return understand(r, answer.Bytes(), into)
}

func understand(r api.RunRequest, answer []byte, into any) error {
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s answered what this command does not understand: %w", r.Capability, err)
	}
	return nil
}
