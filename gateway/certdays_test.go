package gateway

import (
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
	doors, err := listenersTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	days := (&Gateway{now: time.Now, tls: doors}).certificateDays()
	if len(days) != 2 || days["listen.portal"] < 4 || days["listen.portal"] > 5 || days["listen.smtp"] < 4 {
		t.Fatalf("%v, want 5 days for listen.portal and listen.smtp alone", days)
	}
}
