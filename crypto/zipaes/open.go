package zipaes

import (
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
)

// ErrWrongPassphrase: the two check bytes of the entry do not fit the passphrase. One in 65 536 wrong ones passes them and is found by
// the authentication code.
var ErrWrongPassphrase = errors.New("zipaes: wrong passphrase")

const maxEntry = 256 << 20 // bytes of one sealed entry that Open takes

// Open gives the content of an AE-2 entry with AES-256, authenticated before the first byte is given. It holds the sealed entry in
// memory, 256 MiB at most.
func Open(f *zip.File, passphrase string) (io.Reader, error) {
	method, err := extra(f.Extra)
	if err != nil {
		return nil, fmt.Errorf("zipaes: entry %d bytes: %w", f.CompressedSize64, err)
	}
	if f.CompressedSize64 > maxEntry {
		return nil, fmt.Errorf("zipaes: entry is larger than %d bytes", maxEntry)
	}
	r, err := f.OpenRaw()
	if err != nil {
		return nil, fmt.Errorf("zipaes: %w", err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("zipaes: %w", err)
	}
	const salt, check, mac, key = 16, 2, 10, 32 // of AES-256
	if len(raw) < salt+check+mac {
		return nil, errors.New("zipaes: entry is too short")
	}
	keys, err := pbkdf2.Key(sha1.New, passphrase, raw[:salt], 1000, 2*key+check)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(keys[2*key:], raw[salt:salt+check]) {
		return nil, ErrWrongPassphrase
	}
	data := raw[salt+check : len(raw)-mac]
	h := hmac.New(sha1.New, keys[key:2*key])
	h.Write(data)
	if !hmac.Equal(h.Sum(nil)[:mac], raw[len(raw)-mac:]) {
		return nil, errors.New("zipaes: entry was altered, or the passphrase is wrong")
	}
	block, err := aes.NewCipher(keys[:key])
	if err != nil {
		return nil, err
	}
	var counter, stream [aes.BlockSize]byte
	for i := 0; i < len(data); i += aes.BlockSize { // the counter is little-endian and starts at 1, so that cipher.NewCTR does not fit
		binary.LittleEndian.PutUint64(counter[:], uint64(i/aes.BlockSize+1))
		block.Encrypt(stream[:], counter[:])
		for k := 0; k < aes.BlockSize && i+k < len(data); k++ {
			data[i+k] ^= stream[k]
		}
	}
	switch method {
	case zip.Store:
		return bytes.NewReader(data), nil
	case zip.Deflate:
		return flate.NewReader(bytes.NewReader(data)), nil
	}
	return nil, fmt.Errorf("zipaes: compression method %d is not known", method)
}

// extra finds the AE-2 field 0x9901 and gives the entry's true compression method.
func extra(b []byte) (uint16, error) {
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if b = b[4:]; n > len(b) {
			break
		}
		if id == 0x9901 && n == 7 {
			if b[4] != 3 {
				return 0, errors.New("not AES-256")
			}
			return binary.LittleEndian.Uint16(b[5:]), nil
		}
		b = b[n:]
	}
	return 0, errors.New("not encrypted as AE-2")
}
