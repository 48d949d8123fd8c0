package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/config"
)

// A mailbox that is collected and written from asks its command once, also behind a reload; another command is asked for itself.
func TestTokenCommandIsShared(t *testing.T) {
	count := filepath.Join(t.TempDir(), "runs")
	command := []string{"/bin/sh", "-c", "echo x >>" + count + "; echo jeton"}
	cfg := config.Default()
	cfg.Trust.Submission = config.Submission{Addr: "smtp.operateur.test:587", Auth: "xoauth2", Mailbox: "dr@mss.clinic.test", TokenCommand: command}
	box := config.Collect{Name: "one", Addr: "imap.operateur.test:143", Mailbox: "dr@mss.clinic.test", DeliverTo: "dr@clinic.test", Auth: "xoauth2", TokenCommand: command}
	other := box
	other.Name, other.Mailbox, other.TokenCommand = "two", "b@mss.clinic.test", append([]string{"/usr/bin/env"}, command...)
	cfg.Collect = []config.Collect{box, other}
	g := &Gateway{lasting: &lasting{}, log: slog.New(slog.DiscardHandler)}
	for _, want := range []int{2, 2} {
		s, err := newSubmission(cfg, &g.tokens, g.log)
		if err != nil {
			t.Fatal(err)
		}
		boxes, _, err := g.boxes(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, get := range []func() (string, error){
			func() (string, error) { return s.general.tokens.Get(t.Context()) },
			func() (string, error) { return boxes[0].Token(t.Context()) },
			func() (string, error) { return boxes[1].Token(t.Context()) },
		} {
			if token, err := get(); err != nil || token != "jeton" {
				t.Fatalf("%q, %v", token, err)
			}
		}
		runs, _ := os.ReadFile(count)
		if n := strings.Count(string(runs), "x"); n != want {
			t.Errorf("the commands ran %d times, want %d", n, want)
		}
	}
}
