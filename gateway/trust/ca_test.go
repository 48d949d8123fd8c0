package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a CA of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	up   *authority
	next int64

	crlExtra []pkix.Extension // of its lists
}

var clock = time.Now().Truncate(time.Second)

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCA(t testing.TB, name string, up *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t, elliptic.P256()), up: up, next: 100}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"ASIP-SANTE"}},
		NotBefore: clock.Add(-240 * time.Hour), NotAfter: clock.Add(2400 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	parent, signer := tmpl, crypto.Signer(a.key)
	if up != nil {
		parent, signer = up.cert, up.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, a.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	return a
}

// issue makes a server's certificate with the chain up to the root; change alters it before it is signed.
func (a *authority) issue(subject pkix.Name, change func(*x509.Certificate), key crypto.Signer) tls.Certificate {
	a.t.Helper()
	if key == nil {
		key = newKey(a.t, elliptic.P256())
	}
	a.next++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: subject, NotBefore: clock.Add(-time.Hour), NotAfter: clock.Add(240 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"mx.peer.test"}}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	out := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for ca := a; ca.up != nil; ca = ca.up {
		out.Certificate = append(out.Certificate, ca.cert.Raw)
	}
	return out
}

// crl writes a revocation list.
func (a *authority) crl(file string, next time.Time, serials ...*big.Int) {
	a.t.Helper()
	a.crlFrom(file, next.Add(-48*time.Hour), next, serials...)
}

// crlFrom writes one of these times.
func (a *authority) crlFrom(file string, from, next time.Time, serials ...*big.Int) {
	a.t.Helper()
	tmpl := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: from, NextUpdate: next, ExtraExtensions: a.crlExtra}
	for _, n := range serials {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: clock.Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, file, der)
}

func write(t testing.TB, file string, p []byte) {
	t.Helper()
	if err := os.WriteFile(file, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writePEM(t testing.TB, file, kind string, ders ...[]byte) {
	var out []byte
	for _, d := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	write(t, file, out)
}

// name is an organisation's subject in the order of IGC-Santé: pkix.Name would write ST behind O.
func name(cn string) pkix.Name {
	return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 6}, Value: "FR"}, {Type: []int{2, 5, 4, 8}, Value: "Haute-Garonne (31)"}, {Type: []int{2, 5, 4, 10}, Value: "CH ÉTÉ"},
		{Type: []int{2, 5, 4, 11}, Value: "318000000000018"}, {Type: []int{2, 5, 4, 3}, Value: cn}}}
}

func dnOf(cn string) string {
	return "CN=" + cn + ",OU=318000000000018,O=CH ÉTÉ,ST=Haute-Garonne (31),C=FR"
}

// world is a trust space in a folder: root, intermediate, lists of both, our certificate.
type world struct {
	t           testing.TB
	dir         string
	root, inter *authority
	cfg         Config
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.root = newCA(t, "AC RACINE", nil)
	w.inter = newCA(t, "AC ORGANISATIONS", w.root)
	writePEM(t, w.file("ca.pem"), "CERTIFICATE", w.root.cert.Raw, w.inter.cert.Raw)
	w.ours(w.inter.issue(name("nous.test"), nil, nil))
	w.root.crl(w.file("root.crl"), clock.Add(24*time.Hour))
	w.inter.crl(w.file("inter.crl"), clock.Add(24*time.Hour))
	w.cfg = Config{CA: []string{w.file("ca.pem")}, Cert: w.file("cert.pem"), Key: w.file("key.pem"), CRL: []string{w.file("root.crl"), w.file("inter.crl")},
		Domains:    Domains{"valide.test": {dnOf("mx.peer.test")}, "Deux.test": {dnOf("other.test"), dnOf("mx.peer.test")}, "autre.test": {dnOf("autre.test")}},
		OwnDomains: []string{"nous.test"}, Now: func() time.Time { return clock }}
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) ours(c tls.Certificate) {
	writePEM(w.t, w.file("cert.pem"), "CERTIFICATE", c.Certificate...)
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	writePEM(w.t, w.file("key.pem"), "PRIVATE KEY", der)
}

func (w *world) space() *Space {
	w.t.Helper()
	s, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// shake makes a TLS session over loopback and gives both sides' states and errors.
func shake(t testing.TB, client, server *tls.Config) (cs, ss tls.ConnectionState, cerr, serr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			serr = err
			return
		}
		defer c.Close()
		tc := tls.Server(c, server)
		if serr = tc.Handshake(); serr == nil {
			ss = tc.ConnectionState()
			tc.Write([]byte{1})
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tc := tls.Client(c, client)
	if cerr = tc.Handshake(); cerr == nil {
		cs = tc.ConnectionState()
		_, cerr = tc.Read(make([]byte, 1)) // TLS 1.3 shows a refused client certificate here
	} else {
		c.Close()
	}
	<-done
	return cs, ss, cerr, serr
}

var peerName = name("mx.peer.test")
