package openpgp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"fmt"
	"hash"
	"io"
)

// chunk is what one partial body length (RFC 9580 section 4.2.1.4) tells of, inside and outside: a power of two, not under 512, and
// little enough that all of it stays in the processor's cache and 50 messages at once weigh nothing.
const (
	chunk     = 1 << chunkBits
	chunkBits = 14
)

// seipd writes a literal data packet inside a version 1 Symmetrically Encrypted and Integrity Protected Data packet (RFC 9580
// sections 5.9 and 5.13.1), as GnuPG 2.2 reads it. The library's own takes CFB byte by byte and copies three times.
//
// OpenPGP's CFB with a zero IV is C[i] = P[i] ^ E(C[i-1]). Call the key stream X[i] = E(C[i-1]); then X[i+1] = E(P[i] ^ X[i]), and
// that is CBC: so the key stream is the CBC encryption of the clear text, one block late. The standard library's CBC is a fifth faster
// than its CFB, and not deprecated.
type seipd struct {
	w     io.Writer
	block cipher.BlockMode // makes the key stream; its IV is X[0], the encrypted zero block
	mdc   hash.Hash
	lit   []byte // of the literal packet's body, not framed yet; at most chunk
	clear []byte // of the encrypted packet's body, not encrypted yet; at most chunk, and 22 more at the end
	// frame is one partial body: its length octet, an octet left over from the one before (the first is the packet's version),
	// cipher text, and room behind for the key stream. The octet left over keeps the cipher text in whole blocks.
	frame []byte
	next  [aes.BlockSize]byte // key stream for the next block
}

// newSEIPD starts the packet on w with an AES key of 16, 24 or 32 bytes.
func newSEIPD(w io.Writer, key []byte) (*seipd, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &seipd{w: w, mdc: sha1.New(), lit: []byte{'b', 0, 0, 0, 0, 0}, frame: []byte{0, 1}} // binary, no name, no date; version 1
	b.Encrypt(s.next[:], s.next[:])
	s.block = cipher.NewCBCEncrypter(b, s.next[:])
	s.clear = make([]byte, aes.BlockSize+2, 512)
	rand.Read(s.clear[:aes.BlockSize])
	copy(s.clear[aes.BlockSize:], s.clear[aes.BlockSize-2:])
	s.clear = append(s.clear, 0xc0|11)
	_, err = w.Write([]byte{0xc0 | 18})
	return s, err
}

func (s *seipd) Write(p []byte) (int, error) {
	n := len(p)
	for len(s.lit)+len(p) > chunk {
		var body []byte
		if len(s.lit) == 0 { // the caller's bytes need no copy
			body, p = p[:chunk], p[chunk:]
		} else {
			k := chunk - len(s.lit)
			s.lit = append(s.lit, p[:k]...)
			body, p = s.lit, p[k:]
		}
		if err := s.put([]byte{0xe0 | chunkBits}); err != nil {
			return 0, err
		}
		if err := s.put(body); err != nil {
			return 0, err
		}
		s.lit = s.lit[:0]
	}
	s.lit = append(s.lit, p...)
	return n, nil
}

// put encrypts what it can fill chunks with, and always leaves something for the end: no partial body may be the last.
func (s *seipd) put(p []byte) error {
	for len(s.clear)+len(p) > chunk {
		k := chunk - len(s.clear)
		s.clear, p = append(s.clear, p[:k]...), p[k:]
		s.mdc.Write(s.clear)
		s.encrypt()
		s.frame[0] = 0xe0 | chunkBits
		if _, err := s.w.Write(s.frame[:1+chunk]); err != nil {
			return err
		}
		s.frame = append(s.frame[:1], s.frame[1+chunk])
	}
	s.clear = append(s.clear, p...)
	return nil
}

// encrypt appends all of clear to frame; only the last call may have a broken block.
func (s *seipd) encrypt() {
	n := len(s.clear)
	whole := (n + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize
	if need := 2 + whole + aes.BlockSize; cap(s.frame) < need {
		s.frame = append(make([]byte, 0, need), s.frame...)
	}
	s.clear = append(s.clear, make([]byte, whole-n)...)
	stream := s.frame[2 : 2+whole+aes.BlockSize]
	copy(stream, s.next[:])
	s.block.CryptBlocks(stream[aes.BlockSize:], s.clear)
	copy(s.next[:], stream[whole:])
	subtle.XORBytes(stream, stream[:n], s.clear[:n])
	s.frame, s.clear = s.frame[:2+n], s.clear[:0]
}

// Close writes the rest and the sum (RFC 9580 section 5.13.1: SHA-1 of prefix, packets, and these two octets).
func (s *seipd) Close() error {
	if err := s.put(length(len(s.lit))); err != nil {
		return err
	}
	if err := s.put(s.lit); err != nil {
		return err
	}
	s.clear = append(s.clear, 0xc0|19, sha1.Size)
	s.mdc.Write(s.clear)
	s.clear = s.mdc.Sum(s.clear)
	s.encrypt()
	body := s.frame[1:]
	if _, err := s.w.Write(length(len(body))); err != nil {
		return err
	}
	if _, err := s.w.Write(body); err != nil {
		return fmt.Errorf("end the packet: %w", err)
	}
	return nil
}

// length is a packet's whole or last length (RFC 9580 section 4.2.1).
func length(n int) []byte {
	switch {
	case n < 192:
		return []byte{byte(n)}
	case n < 8384:
		n -= 192
		return []byte{192 + byte(n>>8), byte(n)}
	}
	return []byte{255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}
