package smime

import (
	"errors"
	"fmt"
	"io"
)

const (
	maxRecipient = 64 << 10
	maxEnvelope  = 8 << 20 // all recipients together
)

// knownCiphers are those that count as encryption when somebody else has chosen them: AES in CBC, GCM and CCM, ChaCha20-Poly1305, and what old
// Outlook takes, three-key Triple DES. Nothing weaker.
var knownCiphers = func() map[string]bool {
	m := map[string]bool{"1.2.840.113549.1.9.16.3.18": true, "1.2.840.113549.3.7": true}
	for _, n := range []int{2, 22, 42, 6, 26, 46, 7, 27, 47} {
		m[fmt.Sprint("2.16.840.1.101.3.4.1.", n)] = true
	}
	return m
}()

// Encrypted tells whether BER or DER is one message that is encrypted to certificates and nothing else, by what it is and not by what it is
// called: EnvelopedData or AuthEnvelopedData (RFC 5652 section 6, RFC 5083) with recipients who have a key of their own, a known cipher, and
// no attribute or certificate beside the ciphertext that could tell something. It gives the value of smime-type. Whether what calls itself
// ciphertext is some cannot be told without the key.
func Encrypted(r io.Reader) (smimeType string, err error) {
	b := newBER(r, maxEnvelope)
	if smimeType = b.sealed(); b.err != nil {
		return "", fmt.Errorf("smime: %w", b.err)
	}
	return smimeType, nil
}

func (b *ber) sealed() (smimeType string) {
	odd := func(why string) { b.fail(errors.New(why)) }
	b.enter(tagSequence)
	switch kind := b.object(); {
	case kind.Equal(oidEnveloped):
		smimeType = "enveloped-data"
	case kind.Equal(oidAuth):
		smimeType = "authEnveloped-data"
	default:
		odd("is no enveloped data")
	}
	b.enter(explicit)
	b.enter(tagSequence)
	var version int
	b.parse(&version)
	b.enter(tagSet)
	if !b.more() {
		odd("has no recipient")
	}
	for b.more() {
		if t := b.next(); t != tagSequence && t != explicit+1 { // key transport and key agreement; not passwords (RFC 5652 section 6.2.4), not shared keys
			odd("a recipient without a key of his own")
		}
		if len(b.value()) > maxRecipient {
			odd("a recipient is too long")
		}
	}
	b.leave()
	b.enter(tagSequence)
	b.object() // what the content is, within
	b.enter(tagSequence)
	if !knownCiphers[b.object().String()] {
		odd("an unknown cipher")
	}
	if b.more() && len(b.value()) > 1<<10 {
		odd("parameters that are too long")
	}
	b.leave()
	if n, _ := io.Copy(io.Discard, b.octets(implicit)); n == 0 {
		odd("has no ciphertext")
	}
	b.leave()
	if smimeType == "authEnveloped-data" {
		var tag []byte
		if b.parse(&tag); len(tag) < 8 {
			odd("a short tag")
		}
	}
	for range 3 { // whatever stands beside is an attribute
		b.leave()
	}
	b.end()
	return smimeType
}
