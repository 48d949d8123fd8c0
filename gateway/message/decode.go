package message

import (
	"bufio"
	"fmt"
	"io"
	"mime/quotedprintable"
)

// DecodePart gives the part's body without its transfer encoding. It reads nothing beyond the part; a broken encoding is an error
// at the place where it breaks.
func DecodePart(b *Body, p Part) io.Reader {
	r := b.Section(p.HeaderEnd, max(0, p.End-p.HeaderEnd))
	switch p.Encoding {
	case "base64":
		return newBase64Reader(r)
	case "quoted-printable":
		if b.spill != nil {
			return quotedprintable.NewReader(bufio.NewReaderSize(r, window)) // it would read a file by 4 KiB, each decrypting 64
		}
		return quotedprintable.NewReader(r)
	}
	return r
}

// DecodeString gives the body of a text part as UTF-8, by its charset parameter; bytes that are no text in it become U+FFFD, and
// text that calls itself UTF-8, or nothing, stays as it is. A charset that is not known is an error.
func DecodeString(b *Body, p Part) (io.Reader, error) {
	return p.UTF8(DecodePart(b, p))
}

// UTF8 is the same for r, the part's text without its transfer encoding.
func (p Part) UTF8(r io.Reader) (io.Reader, error) {
	e, err := charset(p.Params["charset"])
	if err != nil {
		return nil, fmt.Errorf("decode text: %w", err)
	}
	if e == nil {
		return r, nil
	}
	return e.NewDecoder().Reader(r), nil
}

// Check decodes every leaf into nothing, and says which encoding is broken: such a message is as good as Unclear to who wants to
// take it apart.
func (x *Index) Check(b *Body) error {
	for i, p := range x.Parts {
		if len(p.Children) > 0 || p.Opaque || p.Encoding != "base64" && p.Encoding != "quoted-printable" {
			continue
		}
		if _, err := io.Copy(io.Discard, DecodePart(b, p)); err != nil {
			return fmt.Errorf("decode part %d: %w", i, err)
		}
	}
	return nil
}
