package gateway

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
)

// TestCertificateDays: the patients' door and the listeners have certificates that end, as the trust space's does.
func TestCertificateDays(t *testing.T) {
	dir := t.TempDir()
	ca, err := gatewaytest.NewCA("days")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(gatewaytest.Leaf{DNS: []string{"courrier.clinic.test"}, Days: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteDir(dir, leaf); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cfg := &config.Config{}
	cfg.Listen.Portal.Cert, cfg.Listen.Portal.Key = cert, key
	cfg.Listen.SMTP.Cert, cfg.Listen.SMTP.Key = cert, key
	doors, err := listenersTLS(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	days := (&Gateway{now: time.Now, tls: doors}).certificateDays()
	if len(days) != 2 || days["listen.portal"] < 4 || days["listen.portal"] > 5 || days["listen.smtp"] < 4 {
		t.Fatalf("%v, want 5 days for listen.portal and listen.smtp alone", days)
	}
	longer, err := ca.Issue(gatewaytest.Leaf{Days: 50})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteDir(filepath.Join(dir, "longer"), longer); err != nil {
		t.Fatal(err)
	}
	cfg.Trust.Submission = config.Submission{Addr: "smtp.operateur.test:587", Auth: "external", Cert: filepath.Join(dir, "longer", "cert.pem"), Key: filepath.Join(dir, "longer", "key.pem"),
		Mailboxes: map[string]config.SubmissionMailbox{"dr@mss.clinic.test": {Cert: cert, Key: key}}}
	s, err := newSubmission(cfg, new(tokenSources), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	days = (&Gateway{now: time.Now, submission: s}).certificateDays()
	if len(days) != 1 || days["trust.submission"] < 4 || days["trust.submission"] > 5 {
		t.Errorf("%v, want the 5 days of the mailbox whose certificate ends first", days)
	}
	cfg.Trust.Submission = config.Submission{Addr: "smtp.operateur.test:587", Auth: "xoauth2", Mailbox: "dr@mss.clinic.test", TokenCommand: []string{"/bin/true"}}
	if s, err = newSubmission(cfg, new(tokenSources), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if days = (&Gateway{now: time.Now, submission: s}).certificateDays(); len(days) != 0 {
		t.Errorf("%v, want nothing where no certificate is shown", days)
	}
}
