package trust

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// rsaKey is made once: it takes a while.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

const signerCN = gatewaytest.WhiteListSigner

// signer issues a certificate for lists; change alters it before it is signed, key nil is RSA.
func (a *authority) signer(change func(*x509.Certificate), key crypto.Signer) *gatewaytest.ListSigner {
	a.t.Helper()
	if key == nil {
		key = rsaKey()
	}
	c := a.issue(pkix.Name{CommonName: signerCN, Organization: []string{"ANS"}}, func(c *x509.Certificate) {
		c.DNSNames, c.KeyUsage = nil, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		if change != nil {
			change(c)
		}
	}, key)
	return &gatewaytest.ListSigner{Cert: c.Leaf, Key: key}
}

// listed is a world whose space has a white list; nothing of it is fetched yet.
func listedWorld(t testing.TB) *world {
	w := newWorld(t)
	w.cfg.WhiteList = &WhiteListConfig{URL: "https://127.0.0.1:1/liste.xml", StateDir: t.TempDir(), CN: signerCN, Issuer: "AC ORGANISATIONS", EKU: x509.ExtKeyUsageEmailProtection}
	return w
}

// entries are n domains with a DN each, after first.
func entries(n int, first ...gatewaytest.ListEntry) []gatewaytest.ListEntry {
	for i := range n {
		first = append(first, gatewaytest.ListEntry{Domain: fmt.Sprintf("d%d.mssante.test", i), DN: dnOf(fmt.Sprintf("mx%d.test", i%391))})
	}
	return first
}

func list(date time.Time, e ...gatewaytest.ListEntry) string {
	return gatewaytest.WhiteList(date, e...)
}

func sign(t testing.TB, s *gatewaytest.ListSigner, list string) []byte {
	t.Helper()
	b, err := s.Sign(list)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
