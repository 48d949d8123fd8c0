package gateway

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
)

// dkimKey signs what leaves for the Internet in the name of one domain (RFC 6376; Ed25519: RFC 8463).
type dkimKey struct {
	domain, selector string
	signer           crypto.Signer
}

// dkimKeys are the keys of each domain, in the order of the config: several make several signatures.
type dkimKeys map[string][]dkimKey

// loadDKIM reads the keys that the config names. A key that cannot be read or is too weak is a fault: no mail leaves unsigned for it.
func loadDKIM(list []config.DKIM) (dkimKeys, error) {
	keys := dkimKeys{}
	for i, c := range list {
		if c.Key == "" { // switched off
			continue
		}
		signer, err := readDKIMKey(c.Key)
		if err != nil {
			return nil, fmt.Errorf("dkim[%d].key: %s: %w", i, c.Key, err)
		}
		keys[c.Domain] = append(keys[c.Domain], dkimKey{c.Domain, c.Selector, signer})
	}
	return keys, nil
}

// readDKIMKey reads a private key in PEM. What it says of a faulty one never holds a byte of it.
func readDKIMKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path stands before it
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block in the file (openssl genrsa -out pass1.pem 2048)")
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q is not a private key without passphrase (RSA PRIVATE KEY or PRIVATE KEY)", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		// RFC 8301 section 3.2: signers use 2048 bits at least; verifiers need not take more than 4096.
		if n := key.N.BitLen(); n < 2048 || n > 4096 {
			return nil, fmt.Errorf("an RSA key of %d bits: want 2048 to 4096", n)
		}
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errors.New("want an RSA or Ed25519 key")
}

// record is the TXT record to publish, as a line of a zone file (RFC 6376 section 3.6.1). A string of DNS holds 255 octets; readers
// put the pieces together.
func (k dkimKey) record() string {
	kind, public := "rsa", []byte(nil)
	switch p := k.signer.Public().(type) {
	case ed25519.PublicKey: // RFC 8463 section 4: the bare key
		kind, public = "ed25519", p
	case *rsa.PublicKey:
		public, _ = x509.MarshalPKIXPublicKey(p) // cannot fail for an RSA key
	}
	var quoted []string
	for piece := range slices.Chunk([]byte("v=DKIM1; k="+kind+"; p="+base64.StdEncoding.EncodeToString(public)), 255) {
		quoted = append(quoted, `"`+string(piece)+`"`)
	}
	return fmt.Sprintf("%s._domainkey.%s. IN TXT %s", k.selector, k.domain, strings.Join(quoted, " "))
}

// DKIMRecords gives the DNS records that the configured keys want published. The network is not asked whether they are.
func DKIMRecords(cfg *config.Config) ([]string, error) {
	keys, err := loadDKIM(cfg.DKIM)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range cfg.DKIM {
		for _, k := range keys[c.Domain] {
			if k.selector == c.Selector {
				out = append(out, k.record())
			}
		}
	}
	return out, nil
}

// Fields that a signature covers (RFC 6376 section 5.4.1). Each of the first list is named once more than it stands in the header, so
// that none can be added on the way. Those of the second are signed where they stand: a Postfix behind us adds a missing Date and
// Message-ID, a list its own fields. Received and our own trace are never signed: each relay on the way adds to them.
var (
	dkimSealed = []string{"From", "Reply-To", "Subject", "To", "Cc", "In-Reply-To", "References", "MIME-Version", "Content-Type",
		"Content-Transfer-Encoding", "Content-Disposition"}
	dkimSigned = []string{"Date", "Message-ID", "Sender", "Auto-Submitted", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
		"Resent-From", "Resent-To", "Resent-Date", "Resent-Message-ID"}
)

// maxSigned bounds the fields under one signature: the signers look for each among all, and name each in the signature.
const maxSigned = 500

// sign puts a signature on top of a letter for each key of its author's domain. as: the message leaves as its author's system made it.
// Then a domain that signed already is left alone: the clinic's own server does it. A changed message keeps no old signature, for its
// header is written anew from a closed list: a dead one helps nobody (RFC 6376 section 6.1 has verifiers ignore it), and its bh= and
// b= would let a stranger test guesses of the very text and subject that we sealed.
//
// The body is read once for all keys and never held whole.
func (g *Gateway) sign(l *relay.Letter, as bool) error {
	if len(g.set.dkim) == 0 {
		return nil
	}
	fields, start, err := g.letterHeader(l)
	if err != nil {
		return fmt.Errorf("read the header to sign: %w", err)
	}
	var keys []dkimKey
	for _, d := range authorDomains(fields) {
		if of := g.set.dkim[d]; len(of) > 0 && !(as && signedBy(fields, d)) {
			keys = append(keys, of...)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	signatures, err := dkimSign(keys, fields, l.Body.Section(start, -1))
	if err != nil {
		return err
	}
	l.Header = append(signatures, l.Header...)
	return nil
}

// dkimField is a header field as a verifier reads it: a blank before the colon is no part of the name.
type dkimField struct {
	name  string // lower case
	value string
	raw   []byte
}

// letterHeader gives the fields of a letter's header, and where its body begins in l.Body.
func (g *Gateway) letterHeader(l *relay.Letter) ([]dkimField, int64, error) {
	from, start := l.Body, l.Offset
	if start > 0 { // the header was written anew, above the old body
		from = message.BytesBody(l.Header)
	}
	h, end, err := message.ReadHeader(from, 2*g.set.maxHeader)
	if err != nil {
		return nil, 0, err
	}
	if start == 0 {
		start = end
	}
	var out []dkimField
	for _, f := range h.Fields() {
		name, value, ok := bytes.Cut(f.Raw, []byte(":"))
		if !ok {
			continue
		}
		raw := bytes.TrimRight(f.Raw, "\r\n")
		out = append(out, dkimField{strings.ToLower(string(bytes.TrimRight(name, " \t"))), unfold(value), append(raw[:len(raw):len(raw)], "\r\n"...)})
	}
	return out, start, nil
}

func unfold(v []byte) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(v)))
}

// What stands for an address in a From that no parser takes: raw 8-bit names are common. Only where nothing stands in brackets is a bare
// one looked for, for a name may hold anything.
var (
	inBrackets  = regexp.MustCompile(`<[^<>@]+@([^<>@\s]+)>`)
	bareAddress = regexp.MustCompile(`@([^<>@\s,;:()"]+)`)
)

// authorDomains gives the domain of each author (From, not the envelope), each once.
func authorDomains(fields []dkimField) (out []string) {
	add := func(d string) {
		if d, err := message.ParseDomain(d); err == nil && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, f := range fields {
		if f.name != "from" {
			continue
		}
		authors, err := netmail.ParseAddressList(f.value)
		if err == nil {
			for _, a := range authors {
				add(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
			}
			continue
		}
		found := inBrackets.FindAllStringSubmatch(f.value, -1)
		if found == nil {
			found = bareAddress.FindAllStringSubmatch(f.value, -1)
		}
		for _, m := range found {
			add(m[1])
		}
	}
	return out
}

// signedBy tells whether the header bears a signature of the domain that has all it needs (RFC 6376 section 3.5).
func signedBy(fields []dkimField, domain string) bool {
	for _, f := range fields {
		if f.name != "dkim-signature" {
			continue
		}
		tags := map[string]string{}
		for tag := range strings.SplitSeq(f.value, ";") {
			if k, v, ok := strings.Cut(tag, "="); ok {
				tags[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
		d, err := message.ParseDomain(tags["d"])
		covers := slices.ContainsFunc(strings.Split(tags["h"], ":"), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "From") })
		if err == nil && d == domain && covers && tags["v"] == "1" && tags["a"] != "" && tags["b"] != "" && tags["bh"] != "" && tags["s"] != "" {
			return true
		}
	}
	return false
}

// dkimSign gives the signature fields, one for each key.
func dkimSign(keys []dkimKey, fields []dkimField, body io.Reader) ([]byte, error) {
	// The signers are shown the signed fields alone: a line of the header that is no field stops none of them.
	var header []byte
	count := map[string]int{}
	for _, f := range fields {
		count[f.name]++
	}
	var names []string
	pick := func(list []string, more int) {
		for _, n := range list {
			names = append(names, slices.Repeat([]string{n}, count[strings.ToLower(n)]+more)...)
		}
	}
	pick(dkimSealed, 1)
	pick(dkimSigned, 0)
	named := map[string]bool{}
	for _, n := range names {
		named[strings.ToLower(n)] = true
	}
	signed := 0
	for _, f := range fields {
		if named[f.name] {
			header = append(header, f.raw...)
			signed++
		}
	}
	if signed > maxSigned {
		return nil, refuse(554, [3]int{5, 6, 0}, "En-tete du message illisible ou trop grand", fmt.Errorf("%d fields to sign", signed))
	}
	header = append(header, "\r\n"...)

	var signers []*dkim.Signer
	defer func() { // each has a goroutine, which ends with it
		for _, s := range signers {
			s.Close()
		}
	}()
	var all []io.Writer
	for _, k := range keys {
		s, err := dkim.NewSigner(&dkim.SignOptions{Domain: k.domain, Selector: k.selector, Signer: k.signer, Hash: crypto.SHA256,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed, HeaderKeys: names})
		if err != nil {
			return nil, fmt.Errorf("sign for %s: %w", k.domain, err)
		}
		signers, all = append(signers, s), append(all, s)
	}
	w := io.MultiWriter(all...)
	if _, err := w.Write(header); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if _, err := io.CopyBuffer(w, onlyReader{body}, make([]byte, 64<<10)); err != nil {
		return nil, fmt.Errorf("read the body to sign: %w", err)
	}
	var out []byte
	pending := signers
	signers = nil
	var errs []error
	for i, s := range pending {
		if err := s.Close(); err != nil {
			errs = append(errs, fmt.Errorf("sign for %s: %w", keys[i].domain, err))
			continue
		}
		out = append(out, s.Signature()...)
	}
	return out, errors.Join(errs...)
}

// onlyReader hides io.WriterTo, which reads in pieces of 32 KiB of its own.
type onlyReader struct{ io.Reader }
