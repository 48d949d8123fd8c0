package keyring

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
)

const (
	// MaxFile bounds a file of keys.
	MaxFile = 1 << 20
	maxData = 256 << 10 // of one key: certificates are a few kilobytes, an OpenPGP key without others' certifications too
	maxKeys = 1000
	maxPath = 8 // certificates behind a leaf
)

// Material is a key as a file holds it, not yet under an address.
type Material struct {
	Kind        Kind
	Fingerprint string
	Data        []byte // as Key.Data
	Name        string
	// Addresses that it names itself, in key form: the certificate's, the user IDs'.
	Addresses           []string
	NotBefore, NotAfter time.Time
	Revoked             string
	// Signed is when the owner of an OpenPGP key last said something of it; zero of a certificate, which never changes.
	Signed time.Time
	// Fault is why nothing can be sealed to it now; nil where it can.
	Fault error
}

// Names tells whether the key names the address itself; of "@domain", any address there.
func (m *Material) Names(address string) bool {
	if strings.HasPrefix(address, "@") {
		return slices.ContainsFunc(m.Addresses, func(a string) bool { return strings.HasSuffix(a, address) })
	}
	return slices.Contains(m.Addresses, address)
}

// Read gives the keys of a file: certificates in PEM, DER or PKCS#7, OpenPGP keys armoured or binary. Certificates of authorities
// stand behind the leaf that they issued and are none of their own. A private key in it is an *Error, as is a file without a key.
func Read(file []byte, now time.Time) (found []Material, err error) {
	if len(file) > MaxFile {
		return nil, &Error{Reason: "the file is larger than 1 MiB"}
	}
	pgp := bytes.Contains(file, []byte("-----BEGIN PGP")) || len(file) > 0 && file[0]&0x80 != 0 && !bytes.Contains(file, []byte("-----BEGIN ")) // RFC 9580 section 4.2: the first bit of a packet is one; DER begins with 0x30
	if pgp {
		keys, err := openpgp.ReadKeys(file)
		if err != nil {
			return nil, asError(err)
		}
		for _, k := range keys {
			m, err := ofOpenPGP(k, now)
			if err != nil {
				return nil, err
			}
			found = append(found, *m)
		}
	}
	if !pgp || bytes.Contains(file, []byte("-----BEGIN CERTIFICATE")) || bytes.Contains(file, []byte("PRIVATE KEY-----")) {
		certs, err := certificates(file)
		if err != nil {
			return nil, err
		}
		leaves, err := ofCertificates(certs, now)
		if err != nil {
			return nil, err
		}
		found = append(found, leaves...)
	}
	if len(found) > maxKeys {
		return nil, &Error{Reason: fmt.Sprintf("the file holds %d keys, more than %d", len(found), maxKeys)}
	}
	return found, nil
}

// readOne reads the one key of Key.Data.
func readOne(kind Kind, data []byte, now time.Time) (*Material, error) {
	switch kind {
	case OpenPGP:
		keys, err := openpgp.ReadKeys(data)
		if err != nil {
			return nil, asError(err)
		}
		if len(keys) != 1 {
			return nil, &Error{Reason: fmt.Sprintf("%d keys where one is kept", len(keys))}
		}
		return ofOpenPGP(keys[0], now)
	case SMIME:
		certs, err := x509.ParseCertificates(data)
		if err != nil || len(certs) == 0 {
			return nil, &Error{Reason: "the certificate cannot be read", Err: err}
		}
		return ofCertificate(certs, now)
	}
	return nil, &Error{Reason: fmt.Sprintf("kind %q is neither smime nor openpgp", kind)}
}

func ofOpenPGP(k *openpgp.Key, now time.Time) (*Material, error) {
	m := &Material{Kind: OpenPGP, Fingerprint: strings.ToLower(k.Fingerprint()), NotBefore: k.Created(), NotAfter: k.Expires(now), Signed: k.Signed(now), Fault: k.Usable(now)}
	var err error
	if m.Data, err = k.Binary(); err != nil {
		return nil, &Error{Fingerprint: m.Fingerprint, Reason: "cannot be written down", Err: err}
	}
	for i, id := range k.UserIDs(now) {
		if i == 0 {
			m.Name = line(id)
		}
		if a, err := AddressKey(openpgp.Mailbox(id)); err == nil && !slices.Contains(m.Addresses, a) {
			m.Addresses = append(m.Addresses, a)
		}
	}
	if k.Revoked(now) {
		m.Revoked = "by its owner"
	}
	return m, m.small()
}

func (m *Material) small() error {
	if len(m.Data) > maxData {
		return &Error{Fingerprint: m.Fingerprint, Reason: "is larger than 256 KiB"}
	}
	return nil
}

// ofCertificate takes a leaf and its chain.
func ofCertificate(chain []*x509.Certificate, now time.Time) (*Material, error) {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	m := &Material{Kind: SMIME, Fingerprint: hex.EncodeToString(sum[:]), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Fault: smime.Usable(leaf, now)}
	for _, c := range chain[:min(len(chain), maxPath)] {
		m.Data = append(m.Data, c.Raw...)
	}
	if m.Name = line(leaf.Subject.CommonName); m.Name == "" {
		m.Name = line(leaf.Subject.String())
	}
	for _, a := range mailboxes(leaf) {
		if a, err := AddressKey(a); err == nil && !slices.Contains(m.Addresses, a) {
			m.Addresses = append(m.Addresses, a)
		}
	}
	return m, m.small()
}

var oidEmail = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// mailboxes are those of subjectAltName and, of old certificates, of the subject (RFC 8550 section 3).
func mailboxes(c *x509.Certificate) []string {
	all := slices.Clone(c.EmailAddresses)
	for _, n := range c.Subject.Names {
		if s, ok := n.Value.(string); ok && n.Type.Equal(oidEmail) {
			all = append(all, s)
		}
	}
	return slices.DeleteFunc(all, func(a string) bool { return strings.HasPrefix(a, "@") || strings.HasPrefix(a, "*") })
}

// ofCertificates tells leaves from authorities and puts behind each leaf those that lead up from it.
func ofCertificates(certs []*x509.Certificate, now time.Time) (found []Material, err error) {
	for _, c := range certs {
		if c.IsCA && (len(mailboxes(c)) == 0 || slices.ContainsFunc(certs, func(o *x509.Certificate) bool { return o != c && issued(c, o) })) {
			continue
		}
		chain := []*x509.Certificate{c}
		for len(chain) < maxPath {
			last := chain[len(chain)-1]
			i := slices.IndexFunc(certs, func(o *x509.Certificate) bool { return issued(o, last) && !slices.Contains(chain, o) })
			if i < 0 {
				break
			}
			chain = append(chain, certs[i])
		}
		m, err := ofCertificate(chain, now)
		if err != nil {
			return nil, err
		}
		found = append(found, *m)
	}
	if len(found) == 0 {
		return nil, &Error{Reason: "the file holds certificates of authorities alone, none of a mailbox"}
	}
	return found, nil
}

func issued(ca, c *x509.Certificate) bool {
	return bytes.Equal(ca.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(ca) == nil
}

// certificates reads all of a file's, in PEM (PKCS#7 in it too) or DER.
func certificates(file []byte) (certs []*x509.Certificate, err error) {
	add := func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return &Error{Reason: "a certificate cannot be read", Err: err}
		}
		if len(certs) == maxKeys {
			return &Error{Reason: fmt.Sprintf("the file holds more than %d certificates", maxKeys)}
		}
		if !slices.ContainsFunc(certs, c.Equal) {
			certs = append(certs, c)
		}
		return nil
	}
	bundle := func(der []byte) error {
		all, err := pkcs7(der)
		for _, c := range all {
			err = errors.Join(err, add(c))
		}
		return err
	}
	if !bytes.Contains(file, []byte("-----BEGIN ")) {
		switch {
		case isPKCS12(file):
			return nil, &Error{Reason: "this is PKCS#12, which holds a private key: export the certificate alone (openssl pkcs12 -nokeys -clcerts)"}
		case add(file) == nil:
			return certs, nil
		case bundle(file) == nil && len(certs) > 0:
			return certs, nil
		}
		return nil, &Error{Reason: "this is neither a certificate (PEM, DER, PKCS#7) nor an OpenPGP key"}
	}
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, &Error{Reason: "this holds a private key: take it away and give the certificate alone"}
		case block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE":
			err = add(block.Bytes)
		case block.Type == "PKCS7" || block.Type == "CMS":
			err = bundle(block.Bytes)
		case block.Type == "PUBLIC KEY" || block.Type == "RSA PUBLIC KEY":
			err = &Error{Reason: "this is a bare public key: a certificate is needed, which names its owner"}
		}
		if err != nil {
			return nil, err
		}
	}
	if len(certs) == 0 {
		return nil, &Error{Reason: "the file holds neither a certificate nor an OpenPGP key"}
	}
	return certs, nil
}

var (
	oidData   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSigned = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// pkcs7 gives the certificates of a bundle as Windows exports it (.p7b, .p7c): SignedData without content (RFC 5652 section 5.1).
func pkcs7(der []byte) (certs [][]byte, err error) {
	bad := errors.New("the PKCS#7 bundle cannot be read")
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil || !outer.Type.Equal(oidSigned) {
		return nil, bad
	}
	var signed struct {
		Version      int
		Digests      asn1.RawValue
		Content      asn1.RawValue
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &signed); err != nil {
		return nil, bad
	}
	for rest := signed.Certificates.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, bad
		}
		certs = append(certs, one.FullBytes)
	}
	return certs, nil
}

// isPKCS12 knows RFC 7292 section 4: version 3, then content of the type data.
func isPKCS12(der []byte) bool {
	var pfx struct {
		Version int
		Safe    struct {
			Type asn1.ObjectIdentifier
			Rest asn1.RawValue `asn1:"optional"`
		}
		Mac asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.Unmarshal(der, &pfx)
	return err == nil && pfx.Version == 3 && (pfx.Safe.Type.Equal(oidData) || pfx.Safe.Type.Equal(oidSigned))
}

func asError(err error) error {
	var key *openpgp.KeyError
	if errors.As(err, &key) {
		return &Error{Fingerprint: strings.ToLower(key.Fingerprint), Reason: key.Reason, Err: err}
	}
	return &Error{Reason: err.Error(), Err: err}
}

// Certificate of a key of kind SMIME; nil of another.
func (k *Key) Certificate() *x509.Certificate {
	if k.Kind != SMIME {
		return nil
	}
	certs, err := x509.ParseCertificates(k.Data)
	if err != nil || len(certs) == 0 {
		return nil
	}
	return certs[0]
}

// Export writes the key as a file for others: the certificates in PEM, or an armoured public key block.
func (k *Key) Export() ([]byte, error) {
	if k.Kind == OpenPGP {
		return openpgp.Armoured(k.Data)
	}
	certs, err := x509.ParseCertificates(k.Data)
	if err != nil {
		return nil, fmt.Errorf("export key %s: %w", Short(k.Fingerprint), err)
	}
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes(), nil
}
