package gateway_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// The patients' door shows a certificate that was renewed on disk to the next browser, without a signal; while the new files do not fit together
// it keeps the former one.
func TestPortalCertificateRenewed(t *testing.T) {
	ca, err := gatewaytest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir, n := t.TempDir(), 0
	issue := func() *gatewaytest.Issued {
		t.Helper()
		leaf, err := ca.Issue(gatewaytest.Leaf{DNS: []string{"courrier.clinic.test"}, Days: 90})
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	write := func(leaf *gatewaytest.Issued) {
		t.Helper()
		n++
		at := time.Now().Add(time.Duration(n) * time.Minute) // files that were written within one tick of the disk's clock
		if err := ca.WriteDir(dir, leaf); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, "cert.pem"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	first, second := issue(), issue()
	write(first)
	text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n")+"pickup: {url: \"https://courrier.clinic.test\"}\n", `portal: {addr: ""}`,
		`portal: {addr: "{portal}", cert: "`+dir+`/cert.pem", key: "`+dir+`/key.pem"}`, 1)
	h := custom(t, text, nil, nil)
	shown := func(want *gatewaytest.Issued, what string) {
		t.Helper()
		c, err := tls.Dial("tcp", h.portal, &tls.Config{ServerName: "courrier.clinic.test", RootCAs: ca.Pool()})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want.Cert) {
			t.Errorf("%s: another certificate", what)
		}
	}
	shown(first, "at the start")
	write(second)
	shown(second, "renewed")
	write(first)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown(second, "half written")
	write(first)
	shown(first, "mended")
}
