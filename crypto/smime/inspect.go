package smime

import (
	"bufio"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
)

const (
	maxRecipient = 64 << 10
	maxInspected = 32
)

// knownCiphers are those that count as encryption when somebody else has chosen them: AES in CBC, GCM and CCM, ChaCha20-Poly1305, and what old
// Outlook takes, three-key Triple DES. Nothing weaker.
var knownCiphers = func() map[string]bool {
	m := map[string]bool{}
	aes := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, n} }
	for _, id := range []asn1.ObjectIdentifier{aes(2), aes(22), aes(42), aes(6), aes(26), aes(46), aes(7), aes(27), aes(47),
		{1, 2, 840, 113549, 1, 9, 16, 3, 18}, {1, 2, 840, 113549, 3, 7}} {
		m[string(oid(id)[2:])] = true
	}
	return m
}()

// Encrypted tells whether BER or DER is one message that is encrypted to certificates and nothing else, by what it is and not by what it is
// called: EnvelopedData or AuthEnvelopedData (RFC 5652 section 6, RFC 5083) with recipients who have a key of their own, a known cipher, and
// no attribute or certificate beside the ciphertext that could tell something. It gives the value of smime-type. Whether what calls itself
// ciphertext is some cannot be told without the key.
func Encrypted(ber io.Reader) (smimeType string, err error) {
	p := &berReader{r: bufio.NewReaderSize(ber, 64<<10)}
	if smimeType, err = p.contentInfo(); err != nil {
		return "", fmt.Errorf("smime: %w", err)
	}
	return smimeType, nil
}

func (p *berReader) contentInfo() (string, error) {
	p.open(tagSequence)
	smimeType := map[string]string{string(oid(oidEnveloped)[2:]): "enveloped-data", string(oid(oidAuth)[2:]): "authEnveloped-data"}[string(p.value(tagOID, 64))]
	if smimeType == "" {
		p.fail("is no enveloped data")
	}
	p.open(explicit)
	p.open(tagSequence)
	p.value(tagInteger, 8)
	p.open(tagSet)
	recipients := 0
	for ; p.err == nil && p.more(); recipients++ {
		if t := p.peek(); t != tagSequence && t != explicit+1 { // key transport and key agreement; not passwords (RFC 5652 section 6.2.4), not shared keys
			p.fail("a recipient without a key of his own")
		}
		p.skip(maxRecipient, 0)
	}
	if recipients == 0 {
		p.fail("has no recipient")
	}
	p.close()
	p.open(tagSequence)
	p.value(tagOID, 64) // what the content is, within
	p.open(tagSequence)
	if !knownCiphers[string(p.value(tagOID, 64))] {
		p.fail("an unknown cipher")
	}
	if p.err == nil && p.more() { // its parameters
		p.skip(1<<10, 0)
	}
	p.close()
	p.ciphertext()
	p.close()
	if smimeType == "authEnveloped-data" {
		if len(p.value(tagOctets, 64)) < 8 {
			p.fail("a short tag")
		}
	}
	for range 3 { // whatever stands beside is an attribute
		p.close()
	}
	if _, err := p.r.ReadByte(); p.err == nil && err != io.EOF {
		p.fail("something stands behind it")
	}
	return smimeType, p.err
}

// ciphertext skips the encrypted content, in one piece or several.
func (p *berReader) ciphertext() {
	sum := int64(0)
	switch p.peek() {
	case implicit:
		sum = p.skip(-1, 0)
	case explicit: // [0] constructed
		p.open(explicit)
		for p.err == nil && p.more() {
			if p.peek() != tagOctets {
				p.fail("ciphertext in odd pieces")
			}
			sum += p.skip(-1, 0)
		}
		p.close()
	default:
		p.fail("has no ciphertext")
	}
	if sum == 0 {
		p.fail("has no ciphertext")
	}
}

const tagOID = 0x06

// berReader walks through BER (X.690 section 8) in one pass. The first fault stays; every call after it does nothing.
type berReader struct {
	r    *bufio.Reader
	at   int64
	ends []int64 // of what is open; -1 where only end-of-contents octets tell
	err  error
}

func (p *berReader) fail(why string) {
	if p.err == nil {
		p.err = errors.New(why)
	}
}

func (p *berReader) byte() byte {
	if p.err != nil {
		return 0
	}
	b, err := p.r.ReadByte()
	if err != nil {
		p.err = fmt.Errorf("ends early: %w", err)
	}
	p.at++
	return b
}

// peek gives the tag of what comes next.
func (p *berReader) peek() byte {
	if p.err != nil {
		return 0
	}
	b, err := p.r.Peek(1)
	if err != nil {
		p.err = fmt.Errorf("ends early: %w", err)
		return 0
	}
	return b[0]
}

// head reads a tag and a length, -1 for the indefinite one.
func (p *berReader) head() (tag byte, n int64) {
	tag = p.byte()
	if tag&0x1f == 0x1f {
		p.fail("a tag of several octets")
	}
	l := p.byte()
	switch {
	case l < 0x80:
		return tag, int64(l)
	case l == 0x80:
		if tag&0x20 == 0 {
			p.fail("a primitive value of indefinite length")
		}
		return tag, -1
	case l > 0x86:
		p.fail("a length of too many octets")
	}
	for range l & 0x7f {
		n = n<<8 | int64(p.byte())
	}
	return tag, n
}

// open goes into a constructed value.
func (p *berReader) open(tag byte) {
	got, n := p.head()
	if got != tag {
		p.fail("is of another shape")
	}
	if n >= 0 {
		n += p.at
	}
	p.ends = append(p.ends, n)
}

// more tells whether the innermost open value goes on.
func (p *berReader) more() bool {
	if end := p.ends[len(p.ends)-1]; end >= 0 {
		return p.at < end
	}
	b, err := p.r.Peek(2)
	return err == nil && (b[0] != 0 || b[1] != 0)
}

// close leaves the innermost open value, which must be at its end.
func (p *berReader) close() {
	if p.err != nil {
		return
	}
	end := p.ends[len(p.ends)-1]
	p.ends = p.ends[:len(p.ends)-1]
	switch {
	case end < 0:
		if p.byte() != 0 || p.byte() != 0 {
			p.fail("something stands beside it")
		}
	case p.at != end:
		p.fail("something stands beside it")
	}
}

// value reads a primitive value of at most limit octets.
func (p *berReader) value(tag byte, limit int64) []byte {
	got, n := p.head()
	if got != tag || n < 0 || n > limit {
		p.fail("is of another shape")
	}
	if p.err != nil {
		return nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.err = fmt.Errorf("ends early: %w", err)
	}
	p.at += n
	return b
}

// skip passes over one value of at most limit octets, -1 for any, and gives how many its contents had.
func (p *berReader) skip(limit int64, depth int) int64 {
	if depth > maxInspected {
		p.fail("is nested too deeply")
	}
	_, n := p.head()
	if limit >= 0 && n > limit {
		p.fail("a value is too long")
	}
	if p.err != nil {
		return 0
	}
	if n >= 0 {
		if _, err := io.CopyN(io.Discard, p.r, n); err != nil {
			p.err = fmt.Errorf("ends early: %w", err)
		}
		p.at += n
		return n
	}
	start := p.at
	p.ends = append(p.ends, -1)
	for p.err == nil && p.more() {
		p.skip(limit, depth+1)
		if limit >= 0 && p.at-start > limit {
			p.fail("a value is too long")
		}
	}
	sum := p.at - start
	p.close()
	return sum
}
