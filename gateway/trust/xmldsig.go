package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	_ "crypto/sha256"
	_ "crypto/sha512"
)

// maxSigned bounds a signed document, as it comes and in its canonical form.
const maxSigned = 64 << 20

// maxSignature bounds the Signature element, counted as text and names.
const maxSignature = 64 << 10

const (
	algExcC14N   = "http://www.w3.org/2001/10/xml-exc-c14n#"
	algEnveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
)

// algorithm is a way to sign. What is not among these is refused: SHA-1, and HMAC, which would make a public key a secret.
type algorithm struct {
	hash  crypto.Hash
	ecdsa bool
}

// RFC 6931 sections 2.3.2 to 2.3.6.
var signatureAlgorithms = map[string]algorithm{
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256":   {crypto.SHA256, false},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":   {crypto.SHA384, false},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":   {crypto.SHA512, false},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256": {crypto.SHA256, true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": {crypto.SHA384, true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512": {crypto.SHA512, true},
}

var digestAlgorithms = map[string]crypto.Hash{
	"http://www.w3.org/2001/04/xmlenc#sha256":       crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
}

// verifySigned reads a document with one enveloped signature over all of it, in the one shape that the white list has (XML Signature
// Syntax 1.1: URI="", enveloped-signature and exclusive C14N, one X509Certificate), and gives the bytes that the signature covers: the
// canonical form of the document without the Signature. They are the only ones to be used. signer is asked about the certificate before
// its key is.
func verifySigned(r io.Reader, size int64, signer func(*x509.Certificate) error) (covered []byte, cert *x509.Certificate, err error) {
	covered, sig, err := splitSigned(r, size)
	if err != nil {
		return nil, nil, fmt.Errorf("read the signed document: %w", err)
	}
	s, err := readSignature(sig)
	if err != nil {
		return nil, nil, fmt.Errorf("read the signature: %w", err)
	}
	if err := signer(s.cert); err != nil {
		return nil, nil, fmt.Errorf("signer %q: %w", dnText(s.cert), err)
	}
	if err := s.verify(covered); err != nil {
		return nil, nil, err
	}
	return covered, s.cert, nil
}

// splitSigned takes the document apart. The Signature is a child of the root and the last element in it.
func splitSigned(r io.Reader, size int64) (covered []byte, sig *xmlNode, err error) {
	limited := &io.LimitedReader{R: r, N: maxSigned + 1}
	s, err := newXMLScanner(limited)
	if err != nil {
		return nil, nil, err
	}
	c := canonical{out: make([]byte, 0, min(max(size, 0), maxSigned)+4096), max: maxSigned}
	for {
		kind, err := s.next()
		switch {
		case limited.N <= 0:
			return nil, nil, fmt.Errorf("it is larger than %d octets", maxSigned)
		case err != nil:
			return nil, nil, err
		case kind == xmlEOF && sig == nil:
			return nil, nil, errors.New("it is not signed")
		case kind == xmlEOF:
			return c.out, sig, nil
		case kind == xmlStart && sig != nil:
			return nil, nil, fmt.Errorf("%s stands behind the signature", s.name)
		case kind == xmlStart && (s.space == dsigSpace || s.name == "Signature"):
			if len(s.open) != 2 || s.name != "Signature" || s.space != dsigSpace {
				return nil, nil, fmt.Errorf("%s where no signature may be", s.name)
			}
			if sig, err = s.subtree(); err != nil {
				return nil, nil, err
			}
		case kind == xmlStart:
			if err := c.start(s.xmlElement, s.attrs); err != nil {
				return nil, nil, err
			}
		case kind == xmlEnd:
			c.end(s.xmlElement)
		case kind == xmlText:
			if err := c.text(s.text); err != nil {
				return nil, nil, err
			}
		}
	}
}

// subtree reads the element that has just begun, to its end. All of it is in the namespace of signatures.
func (s *xmlScanner) subtree() (*xmlNode, error) {
	var open []*xmlNode
	octets := 0
	begin := func() error {
		n := &xmlNode{xmlElement: s.xmlElement, attrs: append([]xmlAttr(nil), s.attrs...)}
		if s.space != dsigSpace {
			return fmt.Errorf("%s is not in the namespace of signatures", s.name)
		}
		octets += len(s.name) + 100
		for _, a := range s.attrs {
			octets += len(a.name) + len(a.value)
		}
		if len(open) > 0 {
			up := open[len(open)-1]
			up.kids = append(up.kids, n)
		}
		open = append(open, n)
		return nil
	}
	if err := begin(); err != nil {
		return nil, err
	}
	for {
		kind, err := s.next()
		if err != nil {
			return nil, err
		}
		switch kind {
		case xmlStart:
			if err := begin(); err != nil {
				return nil, err
			}
		case xmlText:
			up := open[len(open)-1]
			up.kids = append(up.kids, &xmlNode{chars: string(s.text)})
			octets += len(s.text) + 100
		case xmlEnd:
			if len(open) == 1 {
				return open[0], nil
			}
			open = open[:len(open)-1]
		}
		if octets > maxSignature {
			return nil, fmt.Errorf("the signature is larger than %d octets", maxSignature)
		}
	}
}

// signature is a Signature element in the one shape that is taken.
type signature struct {
	info   *xmlNode
	alg    algorithm
	hash   crypto.Hash
	digest []byte
	value  []byte
	cert   *x509.Certificate
}

func readSignature(sig *xmlNode) (*signature, error) {
	parts, err := sig.elements("SignedInfo", "SignatureValue", "KeyInfo")
	if err != nil {
		return nil, err
	}
	s := &signature{info: parts[0]}
	info, err := parts[0].elements("CanonicalizationMethod", "SignatureMethod", "Reference")
	if err != nil {
		return nil, err
	}
	if alg, err := info[0].method(); err != nil || alg != algExcC14N {
		return nil, fmt.Errorf("canonicalization %.80q is not taken (%v)", alg, err)
	}
	var known bool
	alg, err := info[1].method()
	if s.alg, known = signatureAlgorithms[alg]; err != nil || !known {
		return nil, fmt.Errorf("signature method %.80q is not taken (%v)", alg, err)
	}
	if err := s.reference(info[2]); err != nil {
		return nil, err
	}
	if s.value, err = parts[1].base64(); err != nil {
		return nil, err
	}
	data, err := parts[2].elements("X509Data")
	if err != nil {
		return nil, err
	}
	certs, err := data[0].elements("X509Certificate")
	if err != nil {
		return nil, err
	}
	der, err := certs[0].base64()
	if err != nil {
		return nil, err
	}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read its certificate: %w", err)
	}
	return s, nil
}

// reference reads the one Reference: to the whole document, without the signature, in exclusive canonical form.
func (s *signature) reference(n *xmlNode) error {
	uri, err := n.sole("URI")
	if err != nil {
		return err
	}
	if uri != "" {
		return fmt.Errorf("reference to %.80q: it must cover the whole document", uri)
	}
	parts, err := n.within("Transforms", "DigestMethod", "DigestValue")
	if err != nil {
		return err
	}
	transforms, err := parts[0].elements("Transform", "Transform")
	if err != nil {
		return err
	}
	for i, want := range []string{algEnveloped, algExcC14N} {
		if alg, err := transforms[i].method(); err != nil || alg != want {
			return fmt.Errorf("transform %.80q is not taken (%v)", alg, err)
		}
	}
	alg, err := parts[1].method()
	if s.hash = digestAlgorithms[alg]; err != nil || s.hash == 0 {
		return fmt.Errorf("digest %.80q is not taken (%v)", alg, err)
	}
	if s.digest, err = parts[2].base64(); err == nil && len(s.digest) != s.hash.Size() {
		err = errors.New("the digest has a wrong length")
	}
	return err
}

// method gives the Algorithm of an element without content: parameters (HMACOutputLength, InclusiveNamespaces) would change its meaning.
func (n *xmlNode) method() (string, error) {
	if _, err := n.within(); err != nil {
		return "", err
	}
	return n.sole("Algorithm")
}

func (n *xmlNode) base64() ([]byte, error) {
	text, err := n.leaf()
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.Map(func(r rune) rune {
		if strings.ContainsRune(xmlSpace, r) {
			return -1
		}
		return r
	}, text))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s is no base64", n.name)
	}
	return b, nil
}

func (s *signature) verify(covered []byte) error {
	h := s.hash.New()
	h.Write(covered)
	if subtle.ConstantTimeCompare(h.Sum(nil), s.digest) != 1 {
		return errors.New("the document is not the one that was signed (digest)")
	}
	c := canonical{max: maxSignature * 8}
	if err := s.info.canon(&c); err != nil {
		return err
	}
	h = s.alg.hash.New()
	h.Write(c.out)
	sum := h.Sum(nil)
	bad := errors.New("the signature is not by the key of its certificate")
	if s.alg.ecdsa {
		key, ok := s.cert.PublicKey.(*ecdsa.PublicKey)
		if !ok {
			return errors.New("the signature method does not fit the key")
		}
		n := (key.Curve.Params().BitSize + 7) / 8 // RFC 4050 section 3.3: r and s, each as long as the curve's order
		if len(s.value) != 2*n || !ecdsa.Verify(key, sum, new(big.Int).SetBytes(s.value[:n]), new(big.Int).SetBytes(s.value[n:])) {
			return bad
		}
		return nil
	}
	key, ok := s.cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return errors.New("the signature method does not fit the key")
	}
	if rsa.VerifyPKCS1v15(key, s.alg.hash, sum, s.value) != nil {
		return bad
	}
	return nil
}

// rescan reads what verifySigned gave.
func rescan(covered []byte) *xmlScanner {
	s, _ := newXMLScanner(bytes.NewReader(covered)) // it begins with the root
	return s
}
