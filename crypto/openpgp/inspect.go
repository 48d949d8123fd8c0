package openpgp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Armour gives a writer of an armoured message, for packets that somebody else has sealed.
func Armour(w io.Writer) (io.WriteCloser, error) { return newArmour(w) }

const (
	maxSessionKey = 4 << 10 // a PKESK of the largest keys, post-quantum ones too, is half of that
	minSealed     = 40      // version, random prefix and MDC of an empty literal packet
)

// Encrypted tells whether packets, without armour, are one message that is encrypted to keys and nothing else (RFC 9580 section 10.3): session
// keys for public keys, then one integrity-protected packet to the end. nil is yes. A message that a password alone opens is none, for nobody
// knows how good it is; neither is one that is signed, compressed or literal, or of the old kind without integrity protection. Whether what
// calls itself ciphertext is some cannot be told without the key.
func Encrypted(packets io.Reader) error {
	r := bufio.NewReaderSize(packets, 64<<10)
	for keys := 0; ; keys++ {
		tag, n, err := packetHead(r)
		if err != nil {
			return err
		}
		switch tag {
		case 1: // public-key encrypted session key
			if n < 10 || n > maxSessionKey {
				return errors.New("openpgp: a session key of an odd length")
			}
			version, err := r.ReadByte()
			if err != nil || version != 3 && version != 6 {
				return errors.New("openpgp: a session key of an unknown version")
			}
			if _, err := r.Discard(int(n) - 1); err != nil {
				return fmt.Errorf("openpgp: %w", err)
			}
		case 18, 20: // encrypted and integrity protected; GnuPG's own OCB packet
			if keys == 0 {
				return errors.New("openpgp: is encrypted to no key")
			}
			version, err := r.ReadByte()
			if err != nil || version != 1 && (tag != 18 || version != 2) {
				return errors.New("openpgp: ciphertext of an unknown version")
			}
			return onlyBody(r, n)
		default:
			return fmt.Errorf("openpgp: packet of type %d", tag)
		}
	}
}

// Lengths that are none.
const (
	toTheEnd = -1
	partial  = -2 // - the power of two
)

// packetHead reads the type and the length of a packet (RFC 9580 section 4.2); a partial length of 2^n octets is partial-n.
func packetHead(r *bufio.Reader) (tag byte, n int64, err error) {
	b, err := r.ReadByte()
	if err != nil {
		return 0, 0, fmt.Errorf("openpgp: no packet: %w", err)
	}
	if b&0x80 == 0 {
		return 0, 0, errors.New("openpgp: no packet")
	}
	if b&0x40 != 0 {
		n, err = readLength(r)
		return b & 0x3f, n, err
	}
	tag = b >> 2 & 0x0f
	if b&3 == 3 {
		return tag, toTheEnd, nil
	}
	for range 1 << (b & 3) {
		c, err := r.ReadByte()
		if err != nil {
			return 0, 0, fmt.Errorf("openpgp: %w", err)
		}
		n = n<<8 | int64(c)
	}
	return tag, n, nil
}

// readLength reads a length of the new format.
func readLength(r *bufio.Reader) (int64, error) {
	b, err := r.ReadByte()
	more := 0
	switch {
	case err != nil || b < 192:
		return int64(b), err
	case b < 224:
		c, err := r.ReadByte()
		return int64(b-192)<<8 + int64(c) + 192, err
	case b < 255:
		return partial - int64(b&0x1f), nil
	default:
		more = 4
	}
	n := int64(0)
	for range more {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}

// onlyBody reads the rest of a packet, whose version octet is read, and wants nothing behind it.
func onlyBody(r *bufio.Reader, n int64) error {
	sum, read := int64(0), int64(1)
	for last := false; !last; {
		var got int64
		var err error
		switch {
		case n == toTheEnd:
			got, err = io.Copy(io.Discard, r)
			last = true
		case n <= partial:
			want := int64(1)<<(partial-n) - read
			got, err = io.CopyN(io.Discard, r, want)
			if err == nil {
				n, err = readLength(r)
			}
		default:
			got, err = io.CopyN(io.Discard, r, n-read)
			last = true
		}
		if err != nil {
			return fmt.Errorf("openpgp: ciphertext ends early: %w", err)
		}
		sum, read = sum+got, 0
	}
	if sum < minSealed {
		return errors.New("openpgp: too little ciphertext")
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return errors.New("openpgp: something stands behind the ciphertext")
	}
	return nil
}
