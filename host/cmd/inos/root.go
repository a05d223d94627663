package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"inos/host/api"
	"inos/host/node"
	"inos/plugins/sdk/wire"
)

// app is one run of the command: where it reads and writes, and what all of its
// parts need.
type app struct {
	in       io.Reader
	out, err io.Writer

	home    string // --home
	json    bool   // --json
	started bool   // the command line was understood
}

const rootHelp = `A node is one process with a segment of shared memory. It runs each plugin of its
plugins folder as a process of its own, gives it jobs, and takes back what comes
of them. inos run starts one; the other commands talk to it over a socket in its
home folder, which only its user may open.

The home folder is --home, or INOS_HOME, or inos under the XDG state folder.
Several nodes live side by side, each in a home of its own.

Exit codes:
  0    done
  1    a job or a check failed
  2    the command line makes no sense
  3    no node is running in that home
  4    there is no such plugin, capability, job or object
  130  interrupted`

// command returns the whole tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "inos",
		Short:         "Run a node and its plugins, and give it work",
		Long:          rootHelp,
		Example:       "  inos run --plugins bin/plugins --tour\n  inos store put holiday.tar\n  inos job run storage.list --json",
		Args:          operands,
		RunE:          showHelp,
		Version:       versionName(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.started = true
			return nil
		},
	}
	root.SetVersionTemplate("inos {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.home, "home", "", "folder of the node (default INOS_HOME, or inos under the XDG state folder)")
	flags.BoolVar(&a.json, "json", false, "print data as JSON")
	root.AddCommand(a.runCommand(), a.pluginCommand(), a.eventsCommand(), a.capabilityCommand(), a.jobCommand(),
		a.storeCommand(), a.segmentCommand(), a.doctorCommand(), a.tourCommand(), a.versionCommand())
	foldAll(root)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return root
}

// group returns a command that only holds others.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args, c.RunE = operands, showHelp
	c.AddCommand(children...)
	return c
}

func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

// execute runs one command line and returns the exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !a.started {
		err = usageError{err}
	}
	a.complain(cmd, err)
	return exitCode(err)
}

// complain prints what went wrong and what to do about it.
func (a *app) complain(cmd *cobra.Command, err error) {
	if errors.Is(err, errReported) {
		return
	}
	var known *wire.Error
	var usage usageError
	if full := api.Exhausted(err); full != nil { // a disk of this side's, for instance
		err = full
	}
	switch {
	case errors.As(err, &known):
		shown := wire.AsError(err)
		fmt.Fprintf(a.err, "inos: %s\n", plain(shown.Message))
		if shown.Hint != "" {
			fmt.Fprintf(a.err, "      %s\n", plain(shown.Hint))
		}
	case errors.As(err, &usage):
		fmt.Fprintf(a.err, "inos: %v\n      see %s --help\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(a.err, "inos: %v\n", err)
	}
}

// helpWidth is how long a line of help may be.
const helpWidth = 84

// foldAll breaks the long lines of every command's help.
func foldAll(c *cobra.Command) {
	c.Long = fold(c.Long)
	for _, child := range c.Commands() {
		foldAll(child)
	}
}

// fold breaks the long lines of a text. What is left of one goes into the next line
// of its paragraph; lines that are indented stand alone.
func fold(text string) string {
	var lines []string
	rest := ""
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case rest == "":
		case line == "" || line[0] == ' ':
			lines = append(lines, rest)
		default:
			line = rest + " " + line
		}
		rest = ""
		for len(line) > helpWidth {
			i := strings.LastIndexByte(line[:helpWidth+1], ' ')
			if i <= 0 {
				break
			}
			lines, line = append(lines, line[:i]), line[i+1:]
			rest = line
		}
		if rest == "" {
			lines = append(lines, line)
		}
	}
	if rest != "" {
		lines = append(lines, rest)
	}
	return strings.Join(lines, "\n")
}

// homeDir returns the home folder that the command is about.
func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return filepath.Abs(a.home)
	}
	return node.DefaultHome()
}

// withNode calls f with a client of the running node.
func (a *app) withNode(f func(*api.Client) error) error {
	home, err := a.homeDir()
	if err != nil {
		return err
	}
	c, err := api.Dial(api.SocketPath(home))
	if err != nil {
		return err
	}
	defer c.Close()
	return explain(c, f(c))
}

// print writes v as JSON if that was asked for, and by calling human if not.
func (a *app) print(v any, human func()) error {
	if !a.json {
		human()
		return nil
	}
	return printJSON(a.out, v)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// isTerminal reports whether a person looks at what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version of this command. A node that has been running for long may be of another.",
		Example: "  inos version\n  inos version --json",
		Args:    operands,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": versionName()}
			return a.print(v, func() { fmt.Fprintln(a.out, "inos", v["version"]) })
		},
	}
}

// versionName is what the linker says, or the version control, or neither.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && s.Value != "" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "without a version"
}
