package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"passerelle/gateway/gatewaytest"
)

// captured gives what is written to descriptor 2 while do runs: who took os.Stderr at his start is heard too.
func captured(t *testing.T, do func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old, err := syscall.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(int(w.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	said := make(chan string)
	go func() { b, _ := io.ReadAll(r); said <- string(b) }()
	func() {
		defer func() { syscall.Dup3(old, 2, 0); syscall.Close(old); w.Close() }()
		do()
	}()
	return <-said
}

// The portal's certificate comes from a real ACME server, by each of the two proofs; it is kept over a restart, its key is nobody else's, and
// certmagic writes to our log alone.
func TestPortalCertificateByACME(t *testing.T) {
	if _, err := gatewaytest.PebbleTool(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	for name, proof := range map[string]string{"TLS-ALPN-01": "", "HTTP-01": ", http_addr: \"{http}\""} {
		t.Run(name, func(t *testing.T) {
			const host = "courrier.clinic.test"
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { // behind all others
				goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"))
			})
			names, err := gatewaytest.StartNameServer()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { names.Close() })
			names.A(host, "127.0.0.1")
			web := freeAddr(t)
			// the house chooses the portal's port; pebble must know it before
			text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n")+"pickup: {url: \"https://"+host+"\"}\n", `portal: {addr: ""}`,
				`portal: {addr: "{front}", acme: {email: chef.informatique@clinic.test, ca: "{ca}", ca_root: "{root}"`+proof+`}}`, 1)
			front := freeAddr(t)
			p, err := gatewaytest.StartPebble(names, portOf(t, web), portOf(t, front))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			var h *house
			said := captured(t, func() {
				h = custom(t, text, nil, nil, "{front}", front, "{ca}", p.URL, "{root}", p.CAFile, "{http}", web)
				leaf := awaitCertificate(t, h, front, host, p.Roots)
				h.stop()
				h.start()
				if again := awaitCertificate(t, h, front, host, p.Roots); !again.Equal(leaf) {
					t.Error("a restart got another certificate")
				}
				h.stop()
			})
			if strings.TrimSpace(said) != "" {
				t.Errorf("something was written to stderr: %s", said)
			}
			if log := h.log.String(); !strings.Contains(log, "acme: certificate obtained successfully") || strings.Contains(log, "chef.informatique") {
				t.Errorf("the log: %s", log)
			}
			err = filepath.WalkDir(filepath.Join(h.dir, "state", "acme"), func(path string, d os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				fi, err := d.Info()
				if err == nil && fi.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %04o", path, fi.Mode().Perm())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	n, nerr := strconv.Atoi(p)
	if err != nil || nerr != nil {
		t.Fatal(addr)
	}
	return n
}

// awaitCertificate opens the portal's page under its name and gives the certificate that it shows.
func awaitCertificate(t *testing.T, h *house, front, host string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}}
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	var last error
	for range 300 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+front+"/retrait", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("the page: %d", resp.StatusCode)
			}
			return resp.TLS.PeerCertificates[0]
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(fmt.Errorf("no certificate: %w; the log: %s", last, h.log.String()))
	return nil
}
