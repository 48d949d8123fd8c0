package gatewaytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// ListEntry is one Domaine of a white list.
type ListEntry struct{ Domain, DN string }

// WhiteListSigner is the common name that signs the national white list.
const WhiteListSigner = "alb.mssante.fr"

// ListSigner signs white lists.
type ListSigner struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// ListSigner issues a certificate as the national signer of the white list has one.
func (ca *CA) ListSigner() (*ListSigner, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make the list's key: %w", err)
	}
	ca.mu.Lock()
	ca.serial++
	serial := big.NewInt(ca.serial)
	ca.mu.Unlock()
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Country: []string{"FR"}, CommonName: WhiteListSigner},
		NotBefore: ca.Cert.NotBefore, NotAfter: ca.now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the list's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &ListSigner{cert, key}, err
}

// WhiteList writes a list without its signature, in the national list's shape, each byte as its canonical form has it.
func WhiteList(date time.Time, entries ...ListEntry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<ListeBlancheMSSante xmlns=\"https://listeblanche.mssante.fr/schema\">\n    <DateDeGeneration>%s</DateDeGeneration>\n    <ListeDomaines>\n", date.UTC().Format("2006-01-02T15:04:05Z"))
	for _, e := range entries {
		fmt.Fprintf(&b, "        <Domaine>\n            <Nom>%s</Nom>\n            <Description>Domaine de messagerie MSSanté pour %s</Description>\n            <DNCertificatOperateur>%s</DNCertificatOperateur>\n"+
			"            <ResponsableContact>01 02 03 04 05, contact@%s</ResponsableContact>\n            <SupportContact>01 02 03 04 05, support@%s</SupportContact>\n            <DateMAJ>2024-06-07T10:24:42Z</DateMAJ>\n        </Domaine>\n",
			escaped(e.Domain), escaped(e.Domain), escaped(e.DN), escaped(e.Domain), escaped(e.Domain))
	}
	b.WriteString("    </ListeDomaines>\n</ListeBlancheMSSante>")
	return b.String()
}

// escaped is a text as canonical XML has it: quotes stand as they are.
func escaped(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&#x9;", "\t", "&#xA;", "\n").Replace(b.String())
}

// Sign signs a list with RSA-SHA256 and gives it as the national host does.
func (s *ListSigner) Sign(list string) ([]byte, error) { return s.SignAs(list, crypto.SHA256, nil) }

// SignAs signs a canonical list with the key's algorithm and a hash; change may alter SignedInfo before it is signed.
func (s *ListSigner) SignAs(list string, hash crypto.Hash, change func(signedInfo string) string) ([]byte, error) {
	head, ok := strings.CutSuffix(list, "</ListeBlancheMSSante>")
	if !ok {
		return nil, fmt.Errorf("sign list: its root does not end it")
	}
	kind := "rsa"
	if _, ok := s.Key.(*ecdsa.PrivateKey); ok {
		kind = "ecdsa"
	}
	digest := sha256.Sum256([]byte(list))
	info := `<SignedInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></CanonicalizationMethod>` +
		`<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#` + fmt.Sprintf("%s-sha%d", kind, hash.Size()*8) + `"></SignatureMethod>` +
		`<Reference URI=""><Transforms><Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform>` +
		`<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></Transform></Transforms>` +
		`<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></DigestMethod><DigestValue>` + base64.StdEncoding.EncodeToString(digest[:]) + `</DigestValue></Reference></SignedInfo>`
	if change != nil {
		info = change(info)
	}
	h := hash.New()
	h.Write([]byte(info))
	value, err := s.Key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("sign list: %w", err)
	}
	if key, ok := s.Key.(*ecdsa.PrivateKey); ok { // XML signatures hold r and s side by side
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(value, &rs); err != nil {
			return nil, fmt.Errorf("sign list: %w", err)
		}
		n := (key.Curve.Params().BitSize + 7) / 8
		value = append(rs.R.FillBytes(make([]byte, n)), rs.S.FillBytes(make([]byte, n))...)
	}
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + head + `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#">` +
		strings.Replace(info, ` xmlns="http://www.w3.org/2000/09/xmldsig#"`, "", 1) + `<SignatureValue>` + folded(value) + `</SignatureValue><KeyInfo><X509Data><X509Certificate>` +
		folded(s.Cert.Raw) + `</X509Certificate></X509Data></KeyInfo></Signature></ListeBlancheMSSante>`), nil
}

// folded is base64 in lines that end as those of the national list do.
func folded(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "&#13;\n")
		s = s[76:]
	}
	return out.String() + s
}
