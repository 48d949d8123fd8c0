package smime

import (
	"bufio"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math"
)

// ber reads BER (X.690 section 8) from a stream: OpenSSL's -stream, Outlook and NSS write lengths that are not known before. The first
// error stays, and what follows it does nothing.
type ber struct {
	r      *bufio.Reader
	at     int64 // bytes read
	budget int64 // bytes that may still be held
	frames []frame
	err    error
}

// frame is a constructed value that was entered.
type frame struct {
	end  int64 // no byte of it stands at end or behind
	open bool  // ends where two zero octets stand
}

const maxDepth = 32

var (
	errBER       = errors.New("not the BER of a CMS message")
	errTruncated = errors.New("the message breaks off")
)

func newBER(r io.Reader, budget int64) *ber {
	return &ber{r: bufio.NewReaderSize(r, chunk), budget: budget, frames: []frame{{end: math.MaxInt64}}}
}

func (b *ber) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *ber) readErr(err error) {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errTruncated
	}
	b.fail(err)
}

func (b *ber) octet() byte {
	if b.err != nil {
		return 0
	}
	c, err := b.r.ReadByte()
	if err != nil {
		b.readErr(err)
	}
	b.at++
	return c
}

func (b *ber) top() frame { return b.frames[len(b.frames)-1] }

// header reads a tag of one octet and a length; -1 is the indefinite one, of a constructed value.
func (b *ber) header() (tag byte, n int64) {
	tag = b.octet()
	l := b.octet()
	switch {
	case b.err != nil:
		return 0, 0
	case tag&0x1f == 0x1f || tag == 0:
		b.fail(errBER)
	case l == 0x80:
		n = -1
		if tag&0x20 == 0 {
			b.fail(errBER)
		}
	case l > 0x88:
		b.fail(errBER)
	case l > 0x80:
		for range l & 0x7f {
			if n >= 1<<40 {
				b.fail(errBER)
			}
			n = n<<8 | int64(b.octet())
		}
	default:
		n = int64(l)
	}
	if b.err == nil && b.at+max(n, 0) > b.top().end {
		b.fail(errBER)
	}
	return tag, n
}

func (b *ber) push(n int64) {
	f := frame{b.at + n, false}
	if n < 0 {
		f = frame{b.top().end, true}
	}
	if len(b.frames) > maxDepth {
		b.fail(errBER)
	}
	b.frames = append(b.frames, f)
}

// next is the tag of the next value of this frame, 0 where there is none.
func (b *ber) next() byte {
	f := b.top()
	if b.err != nil || !f.open && b.at >= f.end {
		return 0
	}
	p, err := b.r.Peek(2)
	if err != nil {
		b.readErr(err)
		return 0
	}
	return p[0]
}

func (b *ber) more() bool { return b.next() != 0 }

// enter goes into a constructed value of that tag.
func (b *ber) enter(tag byte) {
	t, n := b.header()
	if t != tag {
		b.fail(errBER)
	}
	b.push(n)
}

// leave goes out of it; nothing may be left in it.
func (b *ber) leave() {
	f := b.top()
	b.frames = b.frames[:len(b.frames)-1]
	if f.open && (b.octet() != 0 || b.octet() != 0) || b.at > f.end || !f.open && b.at != f.end {
		b.fail(errBER)
	}
}

// end wants nothing behind the message.
func (b *ber) end() {
	if b.err != nil {
		return
	}
	if _, err := b.r.ReadByte(); err == nil {
		b.fail(errors.New("something stands behind the message"))
	} else if err != io.EOF {
		b.fail(err)
	}
}

// value reads a whole value, with definite lengths and octet strings in one piece. nil after an error.
func (b *ber) value() []byte {
	tag, n := b.header()
	if b.err != nil {
		return nil
	}
	if b.budget -= 4; b.budget < max(n, 0) {
		b.fail(errors.New("more than may be held"))
		return nil
	}
	if tag&0x20 == 0 {
		b.budget -= n
		p := append(head(tag, n), make([]byte, n)...)
		if _, err := io.ReadFull(b.r, p[len(p)-int(n):]); err != nil {
			b.readErr(err)
			return nil
		}
		b.at += n
		return p
	}
	b.push(n)
	var body []byte
	for b.more() {
		v := b.value()
		if tag == tagOctets|0x20 && b.err == nil {
			if v[0] != tagOctets {
				b.fail(errBER)
			}
			_, v = split(v)
		}
		body = append(body, v...)
	}
	b.leave()
	if b.err != nil {
		return nil
	}
	if tag == tagOctets|0x20 {
		tag = tagOctets
	}
	return tlv(tag, body)
}

// split gives the tag and the content of a value that value gave.
func split(v []byte) (tag byte, content []byte) {
	if len(v) < 2 {
		return 0, nil
	}
	n := 2
	if v[1] > 0x80 {
		n += int(v[1] & 0x7f)
	}
	return v[0], v[min(n, len(v)):]
}

// object reads an OBJECT IDENTIFIER.
func (b *ber) object() (id asn1.ObjectIdentifier) {
	b.parse(&id)
	return id
}

// parse reads a value into what encoding/asn1 fills.
func (b *ber) parse(v any) {
	p := b.value()
	if b.err != nil {
		return
	}
	if err := unmarshal(p, v, ""); err != nil {
		b.fail(err)
	}
}

func unmarshal(der []byte, v any, params string) error {
	rest, err := asn1.UnmarshalWithParams(der, v, params)
	if err != nil {
		return fmt.Errorf("%w: %w", errBER, err)
	}
	if len(rest) > 0 {
		return errBER
	}
	return nil
}

// octets streams an octet string with the primitive tag; the constructed form may be nested.
func (b *ber) octets(tag byte) *octets {
	o := &octets{b: b, base: len(b.frames)}
	t, n := b.header()
	switch t {
	case tag:
		o.left = n
	case tag | 0x20:
		b.push(n)
	default:
		b.fail(errBER)
	}
	return o
}

type octets struct {
	b    *ber
	left int64 // of the piece at hand
	base int   // frames outside
}

func (o *octets) Read(p []byte) (int, error) {
	b := o.b
	for o.left == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if len(b.frames) == o.base {
			return 0, io.EOF
		}
		if !b.more() {
			b.leave()
			continue
		}
		switch t, n := b.header(); t {
		case tagOctets:
			o.left = n
		case tagOctets | 0x20:
			b.push(n)
		default:
			b.fail(errBER)
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), o.left)])
	b.at += int64(n)
	o.left -= int64(n)
	if err != nil && n == 0 {
		b.readErr(err)
		return 0, b.err
	}
	return n, nil
}
