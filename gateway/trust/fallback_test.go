package trust

import (
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// TestFallbackFromSilence: a list's server that accepts and says nothing tells no more than one that is away: the responder is asked, in the
// same session.
func TestFallbackFromSilence(t *testing.T) {
	hang := newShelf(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	answers := newShelf(t, give(nil))
	w, s, cs, _ := netSpace(t, hang.URL, func(c *Config) { c.Revocation.OCSP, c.Revocation.Timeout = OCSPFallback, 3*time.Second })
	peer := w.inter.issue(peerName, func(c *x509.Certificate) {
		c.CRLDistributionPoints, c.OCSPServer = []string{hang.URL}, []string{answers.URL}
	}, nil)
	answers.set(give(w.inter.answerOf(func(r *ocsp.Response) { r.SerialNumber = peer.Leaf.SerialNumber }, nil)))
	cs.PeerCertificates[0] = peer.Leaf
	began := time.Now()
	if got := check(t, s, cs); got != "" {
		t.Errorf("got %q", got)
	}
	if d := time.Since(began); d > 6*time.Second {
		t.Errorf("it took %s", d)
	}
}
