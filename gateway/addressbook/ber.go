package addressbook

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// The little of BER that LDAP uses (RFC 4511 section 5.1: definite lengths alone), read from a message that is in memory whole and
// bounded. Nothing here allocates by what a length says, and nothing recurs: who reads nested elements counts his depth.

var errBER = errors.New("malformed BER")

const (
	tagBool     = 0x01
	tagInt      = 0x02
	tagOctets   = 0x04
	tagEnum     = 0x0a
	tagSequence = 0x30
	tagSet      = 0x31
)

// ber is a row of elements still to be read.
type ber []byte

// next takes the first element off.
func (b *ber) next() (tag byte, body ber, err error) {
	s := *b
	if len(s) < 2 || s[0]&0x1f == 0x1f { // tags above 30 do not occur in LDAP
		return 0, nil, errBER
	}
	n, head := int(s[1]), 2
	if n >= 0x80 {
		size := n & 0x7f
		if size == 0 || size > 4 || len(s) < 2+size {
			return 0, nil, errBER
		}
		var l uint64
		for _, c := range s[2 : 2+size] {
			l = l<<8 | uint64(c)
		}
		if l > uint64(len(s)) {
			return 0, nil, errBER
		}
		n, head = int(l), 2+size
	}
	if len(s)-head < n {
		return 0, nil, errBER
	}
	*b = s[head+n:]
	return s[0], s[head : head+n], nil
}

// want takes the first element off, which must have the tag.
func (b *ber) want(tag byte) (ber, error) {
	t, body, err := b.next()
	if err == nil && t != tag {
		err = errBER
	}
	return body, err
}

// number takes an integer off that is neither negative nor above 2^31-1 (RFC 4511: maxInt).
func (b *ber) number(tag byte) (int, error) {
	body, err := b.want(tag)
	if err != nil {
		return 0, err
	}
	if len(body) == 0 || len(body) > 5 || body[0]&0x80 != 0 {
		return 0, errBER
	}
	n := 0
	for _, c := range body {
		n = n<<8 | int(c)
	}
	if n > math.MaxInt32 {
		return 0, errBER
	}
	return n, nil
}

func (b *ber) text(tag byte) (string, error) {
	body, err := b.want(tag)
	return string(body), err
}

func (b *ber) boolean() (bool, error) {
	body, err := b.want(tagBool)
	if err == nil && len(body) != 1 {
		err = errBER
	}
	return err == nil && body[0] != 0, err
}

// readMessage reads one LDAPMessage's content. io.EOF is the end between messages; more than max octets are an error.
func readMessage(r io.Reader, max int) (ber, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return nil, err
	}
	n := int(head[1])
	if head[0] != tagSequence {
		return nil, errBER
	}
	if n >= 0x80 {
		size := n & 0x7f
		if size == 0 || size > 4 {
			return nil, errBER
		}
		if _, err := io.ReadFull(r, head[2:2+size]); err != nil {
			return nil, unexpected(err)
		}
		var l [4]byte
		copy(l[4-size:], head[2:2+size])
		if l := binary.BigEndian.Uint32(l[:]); l > uint32(max) {
			return nil, errBER
		} else {
			n = int(l)
		}
	}
	if n > max {
		return nil, errBER
	}
	body := make(ber, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, unexpected(err)
	}
	return body, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tlv writes one element around parts.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	switch out = append(out, tag); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func octets(s string) []byte { return tlv(tagOctets, []byte(s)) }

// number writes 0 to 2^31-1.
func number(tag byte, n int) []byte {
	var b [5]byte
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	i := 0
	for i < 4 && b[i] == 0 && b[i+1]&0x80 == 0 {
		i++
	}
	return tlv(tag, b[i:])
}
