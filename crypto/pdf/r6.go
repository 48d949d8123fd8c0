package pdf

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// hash is algorithm 2.B of ISO 32000-2 section 7.6.4.3.4; u is the user entry where the owner's is made, nil otherwise.
func hash(passphrase, salt, u []byte) []byte {
	first := sha256.Sum256(slices.Concat(passphrase, salt, u))
	k := first[:]
	for round := 1; ; round++ {
		one := slices.Concat(passphrase, k, u)
		e := make([]byte, 0, 64*len(one))
		for range 64 {
			e = append(e, one...)
		}
		cbc(k[:16], k[16:32]).CryptBlocks(e, e)
		sum := 0 // 256 is 1 modulo 3, so the number modulo 3 is the sum of its bytes modulo 3
		for _, b := range e[:16] {
			sum += int(b)
		}
		switch sum % 3 {
		case 0:
			s := sha256.Sum256(e)
			k = s[:]
		case 1:
			s := sha512.Sum384(e)
			k = s[:]
		default:
			s := sha512.Sum512(e)
			k = s[:]
		}
		if round >= 64 && int(e[len(e)-1]) <= round-32 {
			return k[:32]
		}
	}
}

func block(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("pdf: " + err.Error()) // the lengths are ours
	}
	return b
}

func cbc(key, iv []byte) cipher.BlockMode { return cipher.NewCBCEncrypter(block(key), iv) }

// newKey draws a file's key and gives its encryption dictionary (ISO 32000-2 sections 7.6.4.4.7 to 7.6.4.4.9). The owner's passphrase
// is drawn and forgotten: who has the passphrase may do everything.
func newKey(passphrase string) (key []byte, dict string) {
	key = make([]byte, 32)
	rand.Read(key)
	entry := func(passphrase, u []byte) (check, wrapped []byte) {
		salts := make([]byte, 16)
		rand.Read(salts)
		check = slices.Concat(hash(passphrase, salts[:8], u), salts)
		wrapped = make([]byte, 32)
		cbc(hash(passphrase, salts[8:], u), make([]byte, 16)).CryptBlocks(wrapped, key)
		return check, wrapped
	}
	u, ue := entry([]byte(passphrase), nil)
	o, oe := entry([]byte(rand.Text()), u)
	const all = 0xFFFFFFFC // -4: everything; the two lowest bits must be 0 (ISO 32000-2 table 22)
	perms := make([]byte, 16)
	rand.Read(perms)
	binary.LittleEndian.PutUint32(perms, all)
	copy(perms[4:], "\xff\xff\xff\xffTadb")
	block(key).Encrypt(perms, perms)
	return key, fmt.Sprintf("<</Filter/Standard/V 5/R 6/Length 256/P -4/U<%x>/UE<%x>/O<%x>/OE<%x>/Perms<%x>"+
		"/CF<</StdCF<</AuthEvent/DocOpen/CFM/AESV3/Length 32>>>>/StmF/StdCF/StrF/StdCF>>", u, ue, o, oe, perms)
}

// sealer encrypts one stream: a drawn IV, AES-256-CBC, padding of PKCS #7 (ISO 32000-2 section 7.6.3.1).
type sealer struct {
	w    io.Writer
	mode cipher.BlockMode
	iv   []byte // until it is written
	buf  []byte
}

func newSealer(w io.Writer, key []byte) *sealer {
	iv := make([]byte, 16)
	rand.Read(iv)
	return &sealer{w: w, mode: cbc(key, iv), iv: iv, buf: append(make([]byte, 0, 32<<10), iv...)}
}

func (s *sealer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(cap(s.buf)-len(s.buf), len(p))
		s.buf, p = append(s.buf, p[:k]...), p[k:]
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush writes a buffer that is whole blocks.
func (s *sealer) flush() error {
	s.mode.CryptBlocks(s.buf[len(s.iv):], s.buf[len(s.iv):])
	s.iv = nil
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *sealer) Close() error {
	pad := 16 - len(s.buf)%16
	for range pad {
		s.buf = append(s.buf, byte(pad))
	}
	return s.flush()
}
