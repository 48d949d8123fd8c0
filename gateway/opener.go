package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"passerelle/config"
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
)

// opens is what the config says of mail that comes protected (inbound.decrypt).
type opens struct {
	off   bool
	roots *x509.CertPool // whose certificates are believed in signatures
}

func newOpens(c config.InboundDecrypt) (opens, error) {
	o := opens{off: c.Mode == "off"}
	if o.off {
		return o, nil
	}
	if c.CA == "" {
		var err error
		if o.roots, err = x509.SystemCertPool(); err != nil { // nobody's signature is trusted then; it is verified all the same
			o.roots = x509.NewCertPool()
		}
		return o, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return o, fmt.Errorf("inbound.decrypt.ca: %w", err)
	}
	o.roots = x509.NewCertPool()
	if !o.roots.AppendCertsFromPEM(pem) {
		return o, fmt.Errorf("inbound.decrypt.ca: no certificate in %s", c.CA)
	}
	return o, nil
}

// keyBunch is what opens the mail of one recipient. id is the same for those who have the same keys.
type keyBunch struct {
	smime   []smime.Key
	openpgp []*openpgp.PrivateKey
	id      string
}

// keyBunchOf gives the clinic's keys that belong to a recipient, under any of his names.
func (g *Gateway) keyBunchOf(names []message.Address) (k keyBunch) {
	var ids []string
	for _, name := range names {
		cms, pgp := g.keys.of(name)
		for _, key := range cms {
			if id := string(key.Cert.Raw); !slices.Contains(ids, id) {
				ids, k.smime = append(ids, id), append(k.smime, key)
			}
		}
		for _, key := range pgp {
			if id := key.Fingerprint(); !slices.Contains(ids, id) {
				ids, k.openpgp = append(ids, id), append(k.openpgp, key)
			}
		}
	}
	slices.Sort(ids)
	k.id = strings.Join(ids, "\x00")
	return k
}

// opener binds a recipient's keys, and what is known of the author, to a message.
func (g *Gateway) opener(ctx context.Context, m *mail, k keyBunch) *protect.Opener {
	author, _ := onlyAddress(m.header, "From")
	limit := g.set.inbound.limit
	o := &protect.Opener{Limit: limit}
	limits := smime.Limits{Size: limit + 1}
	if len(k.smime) > 0 {
		o.SMIME = func(w io.Writer, der io.Reader) (protect.Layer, error) {
			in, err := smime.Decrypt(w, der, k.smime, limits)
			l := protect.Layer{Cipher: strings.ToLower(in.Cipher), Authenticated: in.Authenticated, Weak: in.Weak}
			if in.Cert != nil {
				l.Key = smimeKeyName(in.Cert)
			}
			return l, smimeTrouble(err)
		}
	}
	known := knownSigners(func() []byte { return g.signersOf(ctx, author) })
	if len(k.openpgp) > 0 {
		o.OpenPGP = func(w io.Writer, r io.Reader) (protect.Layer, error) {
			in, err := openpgp.Decrypt(w, r, k.openpgp, known(), limit+1, g.now())
			l := protect.Layer{Cipher: "openpgp", Authenticated: err == nil, Key: in.Key}
			if in.Signature.Verdict != openpgp.Unsigned {
				s := openpgpSignature(in.Signature)
				l.Signed = &s
			}
			return l, openpgpTrouble(err)
		}
	}
	o.Detached = func(form string, entity io.Reader, signature []byte) protect.Signature {
		if form == "smime" {
			found, err := smime.Verify(io.Discard, bytes.NewReader(signature), entity, g.set.opens.roots, g.now(), limits)
			return smimeSignature(found, err, author)
		}
		s, err := openpgp.Verify(entity, bytes.NewReader(signature), known(), g.now())
		if err != nil {
			return protect.Signature{By: "unknown", How: "it cannot be read"}
		}
		if s.Verdict == openpgp.Unsigned {
			return protect.Signature{By: "nobody", How: "it holds no signature"}
		}
		return openpgpSignature(s)
	}
	o.Enclosing = func(w io.Writer, der io.Reader) (protect.Signature, error) {
		found, err := smime.Verify(w, der, nil, g.set.opens.roots, g.now(), limits)
		var verify *smime.VerifyError
		if err != nil && !errors.As(err, &verify) {
			return protect.Signature{}, smimeTrouble(err)
		}
		if verify != nil && verify.Fault == smime.Broken && len(found) == 0 {
			return protect.Signature{}, &protect.OpenError{Why: protect.Malformed, Err: err}
		}
		return smimeSignature(found, err, author), nil
	}
	return o
}

func smimeKeyName(c *x509.Certificate) string {
	return fmt.Sprintf("%s serial %X", c.Subject.CommonName, c.SerialNumber)
}

// smimeTrouble says in the reader's terms why a CMS message did not open.
func smimeTrouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, smime.ErrNotForUs):
		return &protect.OpenError{Why: protect.NoKey, Err: err}
	}
	return &protect.OpenError{Why: protect.Altered, Err: err}
}

func openpgpTrouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, openpgp.ErrNotForUs):
		return &protect.OpenError{Why: protect.NoKey, Err: err}
	case errors.Is(err, openpgp.ErrUnprotected):
		return &protect.OpenError{Why: protect.Unproved, Err: err}
	case errors.Is(err, openpgp.ErrTooLarge):
		return &protect.OpenError{Why: protect.TooLarge, Err: err}
	}
	return &protect.OpenError{Why: protect.Altered, Err: err}
}

// smimeSignature is what a signature is worth. Several signers count as the first, and only together: one bad among them is a bad signature.
func smimeSignature(found []smime.Signature, err error, author message.Address) protect.Signature {
	s := protect.Signature{By: "unknown", Valid: err == nil}
	var fault *smime.VerifyError
	if errors.As(err, &fault) {
		s.Valid = fault.Fault == smime.Expired || fault.Fault == smime.Untrusted
		s.How = map[smime.Fault]string{smime.Expired: "the certificate was not valid at that time", smime.Untrusted: "no authority that is believed vouches for the certificate",
			smime.Weak: "a weak digest or key", smime.Broken: "it cannot be read, or is not of that key", smime.Mismatch: "the content is not what was signed"}[fault.Fault]
	} else if err != nil {
		s.How = "it cannot be read"
	}
	if len(found) == 0 || found[0].Cert == nil {
		return s
	}
	first := found[0]
	s.By, s.Chain, s.At, s.Trusted = first.Cert.Subject.String(), first.Chain, first.Time, err == nil
	if len(s.Chain) == 0 {
		s.Chain = []*x509.Certificate{first.Cert}
	}
	if err == nil {
		root := s.Chain[len(s.Chain)-1]
		s.How = "chain to " + root.Subject.String()
	}
	for _, text := range smime.Addresses(first.Cert) {
		if a, err := message.ParseAddress(text, true); err == nil && !author.IsNull() && a.Key() == author.Key() {
			s.Of = true
		}
	}
	return s
}

// openpgpSignature: a key that is known is one that the clinic has for the author's address, so it is trusted and of From.
func openpgpSignature(in openpgp.Signature) protect.Signature {
	s := protect.Signature{By: "key " + in.Fingerprint, At: in.Time}
	switch in.Verdict {
	case openpgp.Good:
		s.Valid, s.Trusted, s.Of, s.How = true, true, true, "key of the author in the clinic's list"
	case openpgp.Unknown:
		s.How = "a key that the clinic does not have"
	default:
		s.How = "not of this content, or of a key that was expired, revoked or weak"
	}
	return s
}

// knownSigners parses the author's keys once, when somebody asks.
func knownSigners(block func() []byte) func() []*openpgp.Key {
	var keys []*openpgp.Key
	done := false
	return func() []*openpgp.Key {
		if !done {
			done = true
			if b := block(); len(b) > 0 {
				keys, _ = openpgp.ParseSigners(b) // one that cannot be read verifies nothing
			}
		}
		return keys
	}
}

// signersOf are the OpenPGP keys that the clinic has for an author's own address.
func (g *Gateway) signersOf(ctx context.Context, author message.Address) []byte {
	if author.IsNull() {
		return nil
	}
	if c := g.directory.Ask(ctx, author).Contact; c != nil && c.Address == author.Key() {
		return c.OpenPGPKey
	}
	return nil
}
