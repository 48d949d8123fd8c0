package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// TestAttachRefuses: the script would rather do nothing than half of it.
func TestAttachRefuses(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	submission := regexp.MustCompile(`(?m)^127\.0\.0\.1:\d+ inet n - n - - smtpd\n127\.0\.0\.1:\d+ inet.*\n`)
	for _, x := range []struct {
		name, snippet string
		before        func(master []byte) []byte // changes master.cf first
		ok            bool
		says          string
	}{
		{"unknown snippet", "milter", nil, false, "attach in"},
		{"no listener of that name", "lmtp", nil, false, "no service smtp/inet"},
		{"no submission service is no fault", "content_filter", func(m []byte) []byte {
			return submission.ReplaceAll(m, []byte("smtp inet n - n - - smtpd\n"))
		}, true, "no service submission/inet"},
		{"a value of theirs stands there", "lmtp", func(m []byte) []byte {
			return submission.ReplaceAll(m, []byte("smtp inet n - n - - smtpd -o cleanup_service_name=theirs\n"))
		}, false, "is set already"},
		{"attached already", "lmtp", func(m []byte) []byte {
			return append(submission.ReplaceAll(m, []byte("smtp inet n - n - - smtpd\n")), "# passerelle begin (lmtp)\n# passerelle end (lmtp)\n"...)
		}, false, "attached already"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			p, err := gatewaytest.ConfigurePostfix(t.Context(), gatewaytest.PostfixOptions{Name: "attach"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			master := filepath.Join(p.Config(), "master.cf")
			before := read(t, master)
			if x.before != nil {
				changed := x.before(before)
				if bytes.Equal(changed, before) {
					t.Fatalf("master.cf was not changed:\n%s", before)
				}
				before = changed
				if err := os.WriteFile(master, before, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.CommandContext(t.Context(), "sh", filepath.Join("postfix", "attach"), "in", x.snippet, p.Config()).CombinedOutput()
			if (err == nil) != x.ok || !bytes.Contains(out, []byte(x.says)) {
				t.Errorf("got %v and %q, want success %t and %q", err, out, x.ok, x.says)
			}
			if after := read(t, master); !x.ok && !bytes.Equal(after, before) {
				t.Errorf("refused, yet master.cf was changed:\n%s", after)
			}
		})
	}
}
