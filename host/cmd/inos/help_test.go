package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// each calls f with every command there is.
func each(root *cobra.Command, f func(*cobra.Command)) {
	f(root)
	for _, c := range root.Commands() {
		each(c, f)
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	root := new(app).command()
	each(root, func(c *cobra.Command) {
		for what, text := range map[string]string{"Short": c.Short, "Long": c.Long, "Example": c.Example} {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s has no %s", c.CommandPath(), what)
			}
		}
		if strings.HasSuffix(c.Short, ".") || c.Args == nil || c.RunE == nil {
			t.Errorf("%s: Short is a line without a full stop, and Args and RunE are set", c.CommandPath())
		}
	})
}

// An example that does not work is worse than none.
func TestEveryExampleIsACommandLine(t *testing.T) {
	each(new(app).command(), func(c *cobra.Command) {
		found := false
		for line := range strings.Lines(c.Example) {
			_, line, ours := strings.Cut(" "+strings.TrimSpace(line), " inos ")
			if !ours {
				continue
			}
			line, _, _ = strings.Cut(line, " | ")
			root := new(app).command()
			shown, args, err := root.Find(strings.Fields(line))
			if err == nil {
				err = shown.ParseFlags(args)
			}
			if err == nil {
				err = shown.ValidateArgs(shown.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
			found = found || shown.CommandPath() == c.CommandPath() || c.HasSubCommands()
		}
		if !found {
			t.Errorf("%s: no example shows it", c.CommandPath())
		}
	})
}

func TestHelpReadsAsItDid(t *testing.T) {
	var all bytes.Buffer
	each(new(app).command(), func(c *cobra.Command) {
		args := strings.Fields(c.CommandPath())[1:]
		s := inos(t, append(args, "--help")...)
		s.wants(t, exitOK)
		fmt.Fprintf(&all, "$ %s --help\n%s\n", c.CommandPath(), s.out)
	})
	golden(t, "help.golden", all.Bytes())
}

func TestHelpIsFoldedByParagraphs(t *testing.T) {
	long := strings.Repeat("ninechars ", 9)
	for text, want := range map[string]string{
		"short\nlines\n\nstay": "short\nlines\n\nstay",
		long + "\nand more":    strings.TrimSpace(long[:80]) + "\nninechars and more",
		long + "\n  indented":  strings.TrimSpace(long[:80]) + "\nninechars\n  indented",
		long + "\n\nnext":      strings.TrimSpace(long[:80]) + "\nninechars\n\nnext",
	} {
		if got := fold(strings.ReplaceAll(text, " \n", "\n")); got != want {
			t.Errorf("%q became\n%s\nwant\n%s", text, got, want)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; if it should, run go test -rewrite. It is now:\n%s", path, got)
	}
}

func TestBadCommandLinesAreUsageErrors(t *testing.T) {
	home := privateDir(t)
	for _, line := range []string{
		"bogus", "plugin bogus", "job run", "job show a b", "job list --limit x", "job list --limit 0", "job run x --budget -1",
		"job run x --deadline soon", "job run x --deadline -1s", "--bogus", "store put", "store put -", "run x", "run --segment much", "run --log-level loud",
		"doctor --segment much", "plugin new", "store rm", "plugin new Greet", "job run x --priority urgent", "job run x --param name", "job run x --param =1", "job show what", "job cancel 1g",
		"run --plugins /does/not/exist", "events --limit -1", "events --since x", "job run x --wait", "job run x --durable --out f", "job wait what",
		"job result what", "job forgive abc", "job forgive not-hex-at-all",
	} {
		inos(t, append(strings.Fields(line), "--home", home)...).wants(t, exitUsage, "inos: ", "--help")
	}
}

func TestWhatIsMissingOrTooMuchIsNamed(t *testing.T) {
	for line, want := range map[string]string{
		"job run":        "name the CAPABILITY\n      see inos job run --help",
		"job show":       "name the ID",
		"plugin info":    "give a NAME",
		"plugin swap":    "give a NAME",
		"job result":     "name the ID",
		"job forgive":    "name the DIGEST",
		"store rm":       "give a NAME",
		"store put":      "name the FILE",
		"job show a b":   `"b" is one too many for inos job show`,
		"store ls a b":   `"b" is one too many`,
		"plugin bogus x": `inos plugin has no command "bogus"`,
		"bogus":          `inos has no command "bogus"`,
	} {
		inos(t, strings.Fields(line)...).wants(t, exitUsage, want)
	}
}

func TestCommandsWithoutANodeSayHowToStartOne(t *testing.T) {
	home := privateDir(t)
	for _, line := range []string{
		"plugin list", "plugin info x", "capability list", "job list", "job show 1", "job cancel 1", "job run x", "store ls", "store put /dev/null",
		"plugin swap x", "plugin rollback x", "plugin pin x", "plugin unpin x", "plugin drain x", "plugin undrain x", "plugin history x",
		"events", "events --follow", "job run x --durable", "job wait 1", "job result 1", "job quarantine", "job forgive abcdef", "store get x", "store stat x", "store verify x", "store rm x", "segment show", "tour",
	} {
		inos(t, append(strings.Fields(line), "--home", home)...).wants(t, exitNotRunning, "inos run")
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestVersionIsPrinted(t *testing.T) {
	inos(t, "version").wants(t, exitOK, "inos ")
	inos(t, "--version").wants(t, exitOK, inos(t, "version").out)
	inos(t, "version", "--json").wants(t, exitOK, `"version": `)
}
