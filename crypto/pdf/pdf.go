// Package pdf makes PDF files that only a passphrase opens (AES-256, ISO 32000-2 section 7.6: V 5, R 6, AESV3). Encrypt takes a PDF and
// gives it back encrypted; Writer makes a new one of a text and of files, and encrypts while it writes. It knows nothing of mail or of
// where the passphrase comes from.
//
// Readable in an encrypted PDF stay the numbers of its skeleton: how many objects of which length, and in one that came from outside the
// keys and numbers of its streams' dictionaries, as the size of pictures. R 6 stretches the passphrase by some hundred hashes alone, so it must be
// long and random by itself.
package pdf

import (
	"errors"
	"strings"
)

// MinPassphrase and MaxPassphrase bound a passphrase, in bytes; ISO 32000-2 section 7.6.4.3.3 reads no more.
const (
	MinPassphrase = 12
	MaxPassphrase = 127
)

var (
	// ErrPassphrase is given for a passphrase that is too short, too long or not printable ASCII: readers prepare other bytes in
	// differing ways (SASLprep).
	ErrPassphrase = errors.New("pdf passphrase must be printable ASCII of 12 to 127 characters")
	// ErrSigned: rewriting would break a signature in the file.
	ErrSigned = errors.New("the PDF is signed")
	// ErrEncrypted: the file is encrypted already.
	ErrEncrypted = errors.New("the PDF is encrypted already")
	// ErrTooLarge: the file is beyond MaxSize.
	ErrTooLarge = errors.New("the PDF is too large to be rewritten")
	// ErrNotRewritten is every other reason in the file: it is no PDF, cut off, broken, would leave something readable, or takes too long.
	ErrNotRewritten = errors.New("the PDF cannot be rewritten")
)

func checkPassphrase(s string) error {
	if len(s) < MinPassphrase || len(s) > MaxPassphrase || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return ErrPassphrase
	}
	return nil
}
