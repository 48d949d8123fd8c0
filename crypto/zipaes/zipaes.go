// Package zipaes writes ZIP archives whose entries are encrypted with AES-256 (WinZip AE-2, APPNOTE 7.2 and the AE specification of
// WinZip, 2009). It takes a passphrase, names and streams, gives an archive that 7-Zip opens, and knows nothing of mail or of where
// the passphrase comes from. Names and sizes of entries stay readable: give neutral ones. The format stretches the passphrase by
// PBKDF2-SHA1 x 1000 alone, so it must be long and random by itself.
package zipaes

import (
	"archive/zip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
)

const (
	methodAES = 99
	saltSize  = 16 // AES-256
	checkSize = 2
	macSize   = 10
	// level of deflating: on text as good as 5 and twice as fast, on what cannot be deflated, which most attachments are, four times.
	level = 1
	// MinPassphrase is the shortest passphrase that is taken, in bytes.
	MinPassphrase = 12
)

// ErrPassphrase is given for a passphrase that is too short or not printable ASCII: archivers read other bytes in differing charsets.
var ErrPassphrase = errors.New("zip passphrase must be printable ASCII of at least 12 characters")

// Writer writes an archive. Entries come one after the other; Close writes the directory.
type Writer struct {
	zip        *zip.Writer
	passphrase string
	modified   time.Time
	names      map[string]bool
	entry      *entry
}

// NewWriter starts an archive on w, which is written strictly forward. modified is the date of every entry.
func NewWriter(w io.Writer, passphrase string, modified time.Time) (*Writer, error) {
	if len(passphrase) < MinPassphrase || strings.ContainsFunc(passphrase, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return nil, ErrPassphrase
	}
	return &Writer{zip: zip.NewWriter(w), passphrase: passphrase, modified: modified, names: map[string]bool{}}, nil
}

// Create starts an entry and ends the one before. The name must be a plain file name: no folder, no control character, nothing that
// Windows gives a meaning to. store leaves out the deflating, for what is compressed already.
func (z *Writer) Create(name string, store bool) (io.Writer, error) {
	if err := z.end(); err != nil {
		return nil, err
	}
	key := strings.ToLower(name)
	if !safeName(name) || z.names[key] {
		return nil, fmt.Errorf("zip entry has an unsafe name or stands twice")
	}
	z.names[key] = true
	method := zip.Deflate
	if store {
		method = zip.Store
	}
	h := &zip.FileHeader{Name: name, Method: methodAES, Flags: 0x1 | 0x8} // encrypted; sizes follow the data
	for i := range len(name) {
		if name[i] >= 0x80 {
			h.Flags |= 0x800 // UTF-8
			break
		}
	}
	h.CreatorVersion, h.ReaderVersion = 3<<8|51, 51
	h.SetMode(0o600)
	//lint:ignore SA1019 CreateRaw writes these two as they are, and nothing from Modified
	h.ModifiedDate, h.ModifiedTime = dosTime(z.modified)
	h.Extra = binary.LittleEndian.AppendUint16(nil, 0x9901)
	h.Extra = append(h.Extra, 7, 0, 2, 0, 'A', 'E', 3) // AE-2: no CRC, which would tell what is inside; AES-256
	h.Extra = binary.LittleEndian.AppendUint16(h.Extra, method)
	raw, err := z.zip.CreateRaw(h)
	if err != nil {
		return nil, fmt.Errorf("zip entry: %w", err)
	}
	e := &entry{header: h, w: raw}
	if err := e.start(z.passphrase); err != nil {
		return nil, err
	}
	if !store {
		if e.deflate, err = flate.NewWriter(sealer{e}, level); err != nil {
			return nil, fmt.Errorf("zip entry: %w", err)
		}
	}
	z.entry = e
	return e, nil
}

// safeName: what was hidden in a name must not become a path, a device or a second extension on the recipient's machine.
func safeName(name string) bool {
	if name == "" || len(name) > 200 || !utf8.ValidString(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") ||
		strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") {
		return false
	}
	for _, r := range name {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || strings.ContainsRune(`/\:*?"<>|`, r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return false
		}
	}
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CLOCK$":
		return false
	}
	return len(base) != 4 || !(strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) || base[3] < '0' || base[3] > '9'
}

// dosTime gives the date and time in the archive's two fields, to two seconds.
func dosTime(t time.Time) (date, clock uint16) {
	if t.Year() < 1980 || t.Year() > 2107 {
		return 1<<5 | 1, 0
	}
	return uint16(t.Day() + int(t.Month())<<5 + (t.Year()-1980)<<9), uint16(t.Second()/2 + t.Minute()<<5 + t.Hour()<<11)
}

func (z *Writer) end() error {
	e := z.entry
	z.entry = nil
	if e == nil {
		return nil
	}
	if e.deflate != nil {
		if err := e.deflate.Close(); err != nil {
			return fmt.Errorf("zip entry: %w", err)
		}
	}
	if _, err := e.w.Write(e.mac.Sum(nil)[:macSize]); err != nil {
		return fmt.Errorf("zip entry: %w", err)
	}
	// The directory and the data descriptor are written from the header later, when the next entry begins or the archive ends.
	e.header.CompressedSize64 = e.sealed + saltSize + checkSize + macSize
	e.header.UncompressedSize64 = e.plain
	//lint:ignore SA1019 archive/zip writes the directory from the 32-bit sizes too
	e.header.CompressedSize = uint32(min(e.header.CompressedSize64, 1<<32-1))
	//lint:ignore SA1019 as above
	e.header.UncompressedSize = uint32(min(e.plain, 1<<32-1))
	return nil
}

// Close ends the archive. It does not close the writer below.
func (z *Writer) Close() error {
	if err := z.end(); err != nil {
		return err
	}
	if err := z.zip.Close(); err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	return nil
}

// entry is one file: plain bytes go in, sealed ones to w.
type entry struct {
	header        *zip.FileHeader
	w             io.Writer
	deflate       *flate.Writer
	plain, sealed uint64
	ctr           counter
	mac           hash.Hash
	buf           []byte
}

func (e *entry) start(passphrase string) error {
	var salt [saltSize]byte
	rand.Read(salt[:])
	keys, err := pbkdf2.Key(sha1.New, passphrase, salt[:], 1000, 32+32+checkSize)
	if err != nil {
		return fmt.Errorf("zip entry: %w", err)
	}
	if e.ctr.block, err = aes.NewCipher(keys[:32]); err != nil {
		return fmt.Errorf("zip entry: %w", err)
	}
	e.mac = hmac.New(sha1.New, keys[32:64])
	if _, err := e.w.Write(append(salt[:], keys[64:]...)); err != nil {
		return fmt.Errorf("zip entry: %w", err)
	}
	return nil
}

func (e *entry) Write(p []byte) (int, error) {
	e.plain += uint64(len(p))
	if e.deflate != nil {
		return e.deflate.Write(p)
	}
	return e.seal(p)
}

type sealer struct{ e *entry }

func (s sealer) Write(p []byte) (int, error) { return s.e.seal(p) }

// seal encrypts, then authenticates what was encrypted.
func (e *entry) seal(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), 32<<10)
		if cap(e.buf) < k {
			e.buf = make([]byte, 32<<10)
		}
		out := e.buf[:k]
		e.ctr.xor(out, p[:k])
		e.mac.Write(out)
		if _, err := e.w.Write(out); err != nil {
			return 0, err
		}
		e.sealed, p = e.sealed+uint64(k), p[k:]
	}
	return n, nil
}

// counter is CTR with a little-endian counter from 1, as AE wants it; the standard library counts big-endian.
type counter struct {
	block cipher.Block
	n     uint64
	key   [aes.BlockSize * 128]byte
	used  int // of key; 0 where none is left
}

func (c *counter) xor(dst, src []byte) {
	for len(src) > 0 {
		if c.used == 0 {
			// All counters first: a processor waits for one that was written just before it is read in another width.
			clear(c.key[:])
			for i := 0; i < len(c.key); i += aes.BlockSize {
				c.n++
				binary.LittleEndian.PutUint64(c.key[i:], c.n)
			}
			for i := 0; i < len(c.key); i += aes.BlockSize {
				c.block.Encrypt(c.key[i:i+aes.BlockSize], c.key[i:i+aes.BlockSize])
			}
		}
		k := min(len(src), len(c.key)-c.used)
		subtle.XORBytes(dst[:k], src[:k], c.key[c.used:c.used+k])
		c.used = (c.used + k) % len(c.key)
		dst, src = dst[k:], src[k:]
	}
}
