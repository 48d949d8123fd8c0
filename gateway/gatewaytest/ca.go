package gatewaytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// CA is a certificate authority that lives for one test or one demo. It is safe for concurrent use.
type CA struct {
	Cert *x509.Certificate

	key     crypto.Signer
	up      *CA // nil: a root
	now     func() time.Time
	mu      sync.Mutex
	serial  int64
	number  int64 // CRL number
	revoked []x509.RevocationListEntry
}

// Leaf says what a certificate is to bear.
type Leaf struct {
	// Subject is written in the order of a national organisation certificate where Subject.ExtraNames is used, else in Go's order.
	Subject pkix.Name
	// DNS and IPs are the subject's alternative names.
	DNS []string
	IPs []net.IP
	// Days from now; 0 is 30, a negative number makes an expired certificate.
	Days int
	// Status serves the certificate's revocation list and OCSP responder, whose addresses it then bears.
	Status *StatusServer
	// Change alters the certificate before it is signed.
	Change func(*x509.Certificate)
	// Key, where set, is used instead of a fresh P-256 key.
	Key crypto.Signer
}

// Issued is a certificate with its key.
type Issued struct {
	Cert *x509.Certificate
	Key  crypto.Signer

	above [][]byte // the CAs between it and the root, DER
}

// NewCA makes an authority with a fresh P-256 key.
func NewCA(name string) (*CA, error) { return newCA(name, nil, nil) }

// Sub makes an authority below this one; status, where set, serves what this one says of it.
func (ca *CA) Sub(name string, status *StatusServer) (*CA, error) { return newCA(name, ca, status) }

func newCA(name string, up *CA, status *StatusServer) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of %s: %w", name, err)
	}
	ca := &CA{key: key, up: up, now: time.Now, serial: 1}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Country: []string{"FR"}, Organization: []string{"passerelle test"}, CommonName: name},
		NotBefore:    ca.now().Add(-24 * time.Hour), NotAfter: ca.now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	parent, signer := t, crypto.Signer(key)
	if up != nil {
		t.SerialNumber = up.nextSerial()
		parent, signer = up.Cert, up.key
	}
	status.name(t)
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	ca.Cert, err = x509.ParseCertificate(der)
	return ca, err
}

// Issue signs a certificate that serves as server and as client.
func (ca *CA) Issue(l Leaf) (*Issued, error) {
	key := l.Key
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("make key of %s: %w", l.Subject.CommonName, err)
		}
	}
	if l.Days == 0 {
		l.Days = 30
	}
	t := &x509.Certificate{
		SerialNumber: ca.nextSerial(), Subject: l.Subject, DNSNames: l.DNS, IPAddresses: l.IPs,
		NotBefore: ca.now().Add(-60 * 24 * time.Hour), NotAfter: ca.now().Add(time.Duration(l.Days) * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ca.Cert.NotBefore.After(t.NotBefore) {
		t.NotBefore = ca.Cert.NotBefore
	}
	if l.Days < 0 { // it must have been valid once
		t.NotBefore = t.NotAfter.Add(-24 * time.Hour)
	}
	l.Status.name(t)
	if l.Change != nil {
		l.Change(t)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", l.Subject.CommonName, err)
	}
	i := &Issued{Key: key}
	for up := ca; up.up != nil; up = up.up {
		i.above = append(i.above, up.Cert.Raw)
	}
	i.Cert, err = x509.ParseCertificate(der)
	return i, err
}

func (ca *CA) nextSerial() *big.Int {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.serial++
	return big.NewInt(ca.serial)
}

// IssueLocal signs a certificate with this DN that is good for 127.0.0.1, ::1, localhost and the names given.
func (ca *CA) IssueLocal(dn pkix.Name, names ...string) (*Issued, error) {
	return ca.Issue(Leaf{Subject: dn, DNS: append([]string{"localhost"}, names...), IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
}

// Revoke puts a certificate of this authority on its next list.
func (ca *CA) Revoke(i *Issued) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.revoked = append(ca.revoked, x509.RevocationListEntry{SerialNumber: i.Cert.SerialNumber, RevocationTime: ca.now()})
}

// Restore takes a certificate off the next list.
func (ca *CA) Restore(i *Issued) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.revoked = slices.DeleteFunc(ca.revoked, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(i.Cert.SerialNumber) == 0 })
}

// has tells whether a certificate is revoked.
func (ca *CA) has(serial *big.Int) bool {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return slices.ContainsFunc(ca.revoked, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 })
}

// CRL signs the list of revoked certificates, PEM. It says that the next one comes after valid, which may be negative: a stale list.
func (ca *CA) CRL(valid time.Duration) ([]byte, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.number++
	next := ca.now().Add(valid)
	this := ca.now().Add(-time.Minute)
	if next.Before(this) {
		this = next.Add(-time.Hour)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(ca.number), ThisUpdate: this, NextUpdate: next, RevokedCertificateEntries: ca.revoked,
	}, ca.Cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// Pool holds this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// CertPEM is the authority's own certificate.
func (ca *CA) CertPEM() []byte { return certPEM(ca.Cert) }

// WriteDir writes {ca,cert,key,crl}.pem, the layout that the config's tls_dir reads. The folder is made where it is missing.
func (ca *CA) WriteDir(dir string, i *Issued) error {
	crl, err := ca.CRL(24 * time.Hour)
	if err != nil {
		return err
	}
	key, err := i.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make certificate folder: %w", err)
	}
	write := func(name string, b []byte, mode os.FileMode) error {
		return os.WriteFile(filepath.Join(dir, name), b, mode)
	}
	return errors.Join(write("ca.pem", ca.CertPEM(), 0o644), write("cert.pem", i.CertPEM(), 0o644),
		write("key.pem", key, 0o600), write("crl.pem", crl, 0o644))
}

// CertPEM is the certificate without its authority.
func (i *Issued) CertPEM() []byte { return certPEM(i.Cert) }

// KeyPEM is the key as PKCS #8.
func (i *Issued) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// TLS is the certificate as crypto/tls wants it.
func (i *Issued) TLS() tls.Certificate {
	return tls.Certificate{Certificate: append([][]byte{i.Cert.Raw}, i.above...), PrivateKey: i.Key, Leaf: i.Cert}
}

// ServerTLS serves this certificate; a client certificate of the authority is required where requireClient is set, else taken if given.
func (ca *CA) ServerTLS(i *Issued, requireClient bool) *tls.Config {
	auth := tls.VerifyClientCertIfGiven
	if requireClient {
		auth = tls.RequireAndVerifyClientCert
	}
	return &tls.Config{Certificates: []tls.Certificate{i.TLS()}, ClientCAs: ca.Pool(), ClientAuth: auth, MinVersion: tls.VersionTLS12}
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
