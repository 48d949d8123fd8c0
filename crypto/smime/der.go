package smime

import (
	"encoding/asn1"
	"encoding/binary"
	"fmt"
)

// The tags that a message is made of, X.690 section 8.1.2.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagBits     = 0x03
	tagSequence = 0x30
	tagSet      = 0x31
	explicit    = 0xa0 // [0], constructed; + n for [n]
	implicit    = 0x80 // [0], primitive
)

// head gives the tag and the definite length of a value of n octets (X.690 section 10.1): what follows may then be streamed.
func head(tag byte, n int64) []byte {
	if n < 0x80 {
		return []byte{tag, byte(n)}
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	i := 0
	for b[i] == 0 {
		i++
	}
	return append([]byte{tag, 0x80 | byte(8-i)}, b[i:]...)
}

// tlv gives a whole value.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := head(tag, int64(n))
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// number gives a small INTEGER.
func number(n byte) []byte { return []byte{tagInteger, 1, n} }

// oid gives an OBJECT IDENTIFIER; those of this package cannot fail.
func oid(id asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(id)
	if err != nil {
		panic(fmt.Sprintf("smime: object identifier %v: %v", id, err))
	}
	return b
}

var null = []byte{0x05, 0x00}
