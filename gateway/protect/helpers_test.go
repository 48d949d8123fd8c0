package protect

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// leaks says how the marker can still be read in p: as bytes, in another charset, quoted-printable, or base64 at any alignment.
func leaks(p []byte) string {
	flat := bytes.ReplaceAll(p, []byte("\r\n"), nil)
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	io.WriteString(w, marker)
	w.Close()
	forms := map[string]string{"bytes": marker, "latin": "MARQUEUR-h\xe9moglobine", "qp": qp.String(), "ascii": "moglobine basse", "word": "MARQUEUR"}
	for i := range 3 {
		e := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", i) + marker))
		forms[fmt.Sprint("base64+", i)] = e[4 : len(e)-4]
	}
	for name, f := range forms {
		if bytes.Contains(flat, []byte(f)) || bytes.Contains(p, []byte(f)) {
			return name
		}
	}
	for _, s := range []string{"secret@", "tiers@", "autre@", "poste-12", "Disposition-Notification-To"} {
		if bytes.Contains(p, []byte(s)) {
			return s
		}
	}
	return ""
}

// leaves gives the decoded contents of all leaves, sorted.
func leaves(t testing.TB, b *message.Body, x *message.Index) []string {
	t.Helper()
	var out []string
	for _, p := range x.Parts {
		if len(p.Children) > 0 {
			continue
		}
		d, err := io.ReadAll(message.DecodePart(b, p))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(d))
	}
	slices.Sort(out)
	return out
}

func all(t testing.TB, b *message.Body) []byte {
	t.Helper()
	p, err := io.ReadAll(b.Section(0, -1))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func gnupg(t testing.TB) (run func(stdin []byte, args ...string) []byte) {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatal("gpg is missing: install the Debian package gnupg")
	}
	dir, err := os.MkdirTemp("", "g") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	return func(stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", dir, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
		}
		return out.Bytes()
	}
}
