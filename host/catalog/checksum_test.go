package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChecksumListsAreObeyed(t *testing.T) {
	digest := sha256.Sum256([]byte("binary"))
	good, bad := hex.EncodeToString(digest[:]), strings.Repeat("0", 64)
	tests := []struct {
		name, sums, own string // contents of the two lists; "-" for none
		named           bool
		says            string // empty: accepted
	}{
		{"no list", "-", "-", false, ""},
		{"folder's list", good + "  plugin\n" + bad + "  other\n", "-", true, ""},
		{"binary mode, comment and upper case", "# made by hand\n\n" + strings.ToUpper(good) + " *./plugin\n", "-", true, ""},
		{"BSD form", "SHA256 (plugin) = " + good + "\n", "-", true, ""},
		{"list of others", bad + "  other\n", "-", false, ""},
		{"bare digest", "-", good + "\n", true, ""},
		{"own list under an older name", "-", good + "  plugin-linux-amd64\n", true, ""},
		{"both agree", good + "  plugin\n", good, true, ""},
		{"mismatch", bad + "  plugin\n", "-", false, "SHA256SUMS says 0000"},
		{"mismatch of its own", "-", bad, false, "plugin.sha256 says 0000"},
		{"lists disagree", good + "  plugin\n", bad, false, "plugin.sha256"},
		{"same name twice", good + "  plugin\n" + bad + "  plugin\n", "-", false, "SHA256SUMS"},
		{"own list of others", "-", bad + "  a\n" + bad + "  b\n", false, "no digest of it"},
		{"empty own list", "-", "", false, "no digest of it"},
		{"rubbish", "hello\n", "-", false, "line 1"},
		{"digest cut short", good[:63] + "  plugin\n", "-", false, "line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{sumsName: tt.sums, "plugin" + sumSuffix: tt.own} {
				if text == "-" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			named, refusal := checkSums(filepath.Join(dir, "plugin"), digest)
			if tt.says == "" {
				if refusal != nil || named != tt.named {
					t.Fatalf("got %v, %v", named, refusal)
				}
				return
			}
			if refusal == nil || refusal.Reason != BadChecksum || !strings.Contains(refusal.Detail, tt.says) {
				t.Fatalf("got %+v", refusal)
			}
		})
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add(strings.Repeat("a", 64) + "  name\n")
	f.Add("SHA256 (name) = " + strings.Repeat("0", 64))
	f.Add("# nothing\r\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseSums(text)
		if err != nil && list != nil {
			t.Fatal("both a list and an error")
		}
		for _, s := range list {
			if b, err := hex.DecodeString(s.digest); err != nil || len(b) != sha256.Size || s.digest != strings.ToLower(s.digest) {
				t.Fatalf("digest %q", s.digest)
			}
		}
	})
}
