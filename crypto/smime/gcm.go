package smime

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// gcm encrypts and decrypts a stream with AES-256-GCM under one tag over all of it (NIST SP 800-38D section 7.1), which the standard library does
// only for what lies in memory as a whole. The cipher is the library's CTR. The tag is a Horner scheme, y = (y ^ block) * H, so it can
// be taken up where it was left: the library's GCM is given each chunk as additional data, the state before it added to its first
// block. That gives (y ^ L) * H, with L the length block of the chunk, hidden by e0, which is known here; the multiplication by H
// that remains is done once a chunk, without table or branch that a secret would choose.
type gcm struct {
	aead   cipher.AEAD
	stream cipher.Stream
	nonce  [12]byte
	h, e0  field
	y      field
	size   uint64 // bytes encrypted
	aad    uint64 // bytes of what is authenticated beside
	tag    [16]byte
}

func newGCM(key []byte, nonce [12]byte) (*gcm, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	g := &gcm{nonce: nonce}
	if g.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	var b, j0 [16]byte
	block.Encrypt(b[:], b[:])
	g.h = load(b[:])
	copy(j0[:], nonce[:])
	j0[15] = 1
	block.Encrypt(b[:], j0[:])
	g.e0 = load(b[:])
	j0[15] = 2 // SP 800-38D: the counter has 32 bits, enough for 64 GiB; maxSize is far below
	g.stream = cipher.NewCTR(block, j0[:])
	return g, nil
}

// encrypt encrypts p in place. All calls but the last are of whole blocks; p has room for the last to be filled to one.
func (g *gcm) encrypt(p []byte) []byte {
	if len(p) == 0 {
		return p
	}
	g.stream.XORKeyStream(p, p)
	g.size += uint64(len(p))
	whole := (len(p) + 15) &^ 15
	filled := p[:whole]
	clear(filled[len(p):])
	g.absorb(filled)
	return p
}

// decrypt is the same for what was encrypted.
func (g *gcm) decrypt(p []byte) []byte {
	if len(p) == 0 {
		return p
	}
	g.size += uint64(len(p))
	filled := p[:(len(p)+15)&^15]
	clear(filled[len(p):])
	g.absorb(filled)
	g.stream.XORKeyStream(p, p)
	return p
}

// behind takes additional data that is known only once all is decrypted. It is summed first (SP 800-38D section 7.1), and the sum is
// linear: what it brings is multiplied by H for each block that came after it.
func (g *gcm) behind(p []byte) {
	g.aad = uint64(len(p))
	var sum field
	for len(p) > 0 {
		var b [16]byte
		p = p[copy(b[:], p):]
		sum = sum.add(load(b[:])).times(g.h)
	}
	power := g.h
	for n := (g.size + 15) / 16; n > 0; n >>= 1 {
		if n&1 == 1 {
			sum = sum.times(power)
		}
		power = power.times(power)
	}
	g.y = g.y.add(sum)
}

// absorb takes whole blocks into the state; p is as before when it returns.
func (g *gcm) absorb(p []byte) {
	n := len(p) - 16
	last := load(p[n:])
	if n == 0 {
		g.y = g.y.add(last).times(g.h)
		return
	}
	var y [16]byte
	g.y.store(y[:])
	subtle.XORBytes(p[:16], p[:16], y[:])
	s := load(g.aead.Seal(g.tag[:0], g.nonce[:], nil, p[:n])).add(g.e0)
	subtle.XORBytes(p[:16], p[:16], y[:])
	// s is (y' ^ L) * H, y' the state before the last block; what is wanted is (y' ^ last) * H.
	length := field{hi: uint64(n) * 8}
	g.y = s.add(length.add(last).times(g.h))
}

// sum is the tag.
func (g *gcm) sum() []byte {
	g.y.add(field{hi: g.aad * 8, lo: g.size * 8}).times(g.h).add(g.e0).store(g.tag[:])
	return g.tag[:]
}

// field is an element of GF(2^128) as SP 800-38D section 6.3 writes it: the first bit is the highest of hi.
type field struct{ hi, lo uint64 }

func load(b []byte) field { return field{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])} }

func (x field) store(b []byte) {
	binary.BigEndian.PutUint64(b, x.hi)
	binary.BigEndian.PutUint64(b[8:], x.lo)
}

func (x field) add(y field) field { return field{x.hi ^ y.hi, x.lo ^ y.lo} }

// times is algorithm 1 of section 6.3, in constant time.
func (x field) times(v field) (z field) {
	for i := range 128 {
		word := x.hi
		if i >= 64 {
			word = x.lo
		}
		mask := -(word >> (63 - i&63) & 1)
		z.hi ^= v.hi & mask
		z.lo ^= v.lo & mask
		carry := -(v.lo & 1)
		v.lo = v.lo>>1 | v.hi<<63
		v.hi = v.hi>>1 ^ carry&(0xe1<<56)
	}
	return z
}
