package gatewaytest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Correspondent has an S/MIME certificate, and opens with OpenSSL what is sealed to it.
type Correspondent struct {
	Certificate       *x509.Certificate
	CertFile, KeyFile string // PEM
}

// CorrespondentOptions are what a certificate may differ in.
type CorrespondentOptions struct {
	Address string
	EC      bool // P-256, else RSA of 2048 bits
	Modern  bool // announces AES-256-GCM and OAEP (RFC 4262)
	// NotAfter is a year from now where zero.
	NotAfter time.Time
}

// NewCorrespondent makes a key with a self-signed certificate, in files in dir.
func NewCorrespondent(dir string, o CorrespondentOptions) (*Correspondent, error) {
	var key crypto.Signer
	var err error
	usage := x509.KeyUsageKeyAgreement
	if o.EC {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		usage = x509.KeyUsageKeyEncipherment
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", o.Address, err)
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: o.Address}, EmailAddresses: []string{o.Address},
		NotBefore: o.NotAfter.AddDate(-2, 0, 0), NotAfter: o.NotAfter, KeyUsage: usage | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	if o.Modern {
		type capability struct{ ID asn1.ObjectIdentifier }
		list, err := asn1.Marshal([]capability{{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}}, {asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}}})
		if err != nil {
			return nil, fmt.Errorf("capabilities: %w", err)
		}
		tmpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}, Value: list}}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", o.Address, err)
	}
	c := &Correspondent{CertFile: filepath.Join(dir, "correspondent.crt"), KeyFile: filepath.Join(dir, "correspondent.key")}
	if c.Certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", o.Address, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", o.Address, err)
	}
	for path, b := range map[string]*pem.Block{c.CertFile: {Type: "CERTIFICATE", Bytes: der}, c.KeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", filepath.Base(path), err)
		}
	}
	return c, nil
}

// Open gives the MIME entity out of a message that is S/MIME as a whole.
func (c *Correspondent) Open(message []byte) ([]byte, error) {
	cmd := exec.Command("openssl", "cms", "-decrypt", "-binary", "-inform", "SMIME", "-recip", c.CertFile, "-inkey", c.KeyFile)
	cmd.Stdin = bytes.NewReader(message)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("openssl cms -decrypt (Debian package openssl): %w\n%s", err, errs.String())
	}
	return out.Bytes(), nil
}

// Sign gives an entity as multipart/signed by the correspondent's key, header and all.
func (c *Correspondent) Sign(entity []byte) ([]byte, error) {
	cmd := exec.Command("openssl", "cms", "-sign", "-binary", "-crlfeol", "-signer", c.CertFile, "-inkey", c.KeyFile)
	cmd.Stdin = bytes.NewReader(entity)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("openssl cms -sign (Debian package openssl): %w", err)
	}
	return out, nil
}

// Verify tells whether a message that is signed as a whole bears the correspondent's signature, and gives what it is of.
func (c *Correspondent) Verify(message []byte) ([]byte, error) {
	cmd := exec.Command("openssl", "cms", "-verify", "-binary", "-crlfeol", "-noverify", "-certfile", c.CertFile)
	cmd.Stdin = bytes.NewReader(message)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("openssl cms -verify: %w\n%s", err, errs.String())
	}
	return out.Bytes(), nil
}
