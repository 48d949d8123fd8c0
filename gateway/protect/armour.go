package protect

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"passerelle/gateway/message"
)

// armourLines are those of an armour and of what stands around it: short ones, without their ends.
type armourLines struct{ r *bufio.Reader }

var errNotArmour = errors.New("is no armoured message alone")

const maxArmourLine = 998 // RFC 5322 section 2.1.1

func newLines(r io.Reader) *armourLines { return &armourLines{bufio.NewReaderSize(r, 64<<10)} }

// next gives a line without blanks at its end, valid until the next call, or io.EOF.
func (l *armourLines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err == nil && len(line) > maxArmourLine {
		err = errNotArmour
	}
	return bytes.TrimRight(line, " \t\r\n"), err
}

// until reads lines up to one that is the given one, and gives those before it.
func (l *armourLines) until(end string, limit int) (before []string, err error) {
	for range limit {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		if string(line) == end {
			return before, nil
		}
		before = append(before, string(line))
	}
	return nil, errNotArmour
}

// openMIME reads multipart/encrypted (RFC 3156 section 4) up to its ciphertext.
func openMIME(body io.Reader, boundary string) (io.Reader, error) {
	l := newLines(body)
	preamble, err := l.until("--"+boundary, 10)
	for _, line := range preamble {
		if line != "" && !strings.HasPrefix(line, "This is an OpenPGP/MIME encrypted message") { // as Thunderbird, GpgOL and we write
			err = errNotArmour
		}
	}
	if err != nil {
		return nil, err
	}
	if err := l.partHead("application/pgp-encrypted"); err != nil {
		return nil, err
	}
	version, err := l.until("--"+boundary, 10)
	if err != nil || strings.Join(version, "") != "Version: 1" {
		return nil, errNotArmour
	}
	if err := l.partHead("application/octet-stream"); err != nil {
		return nil, err
	}
	return openArmour(l, boundary)
}

// partHead reads the header of a part, which must be of the given type and without transfer encoding.
func (l *armourLines) partHead(want string) error {
	fields, err := l.until("", 50)
	if err != nil {
		return err
	}
	h, _, err := message.ReadHeader(message.BytesBody([]byte(strings.Join(fields, "\r\n")+"\r\n\r\n")), 64<<10)
	if err != nil {
		return err
	}
	typ, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	encoding := strings.ToLower(h.Get("Content-Transfer-Encoding"))
	if len(h.Values("Content-Type")) != 1 || !strings.EqualFold(strings.TrimSpace(typ), want) || encoding != "" && encoding != "7bit" && encoding != "8bit" {
		return errNotArmour
	}
	return nil
}

// armoured decodes one armoured message (RFC 9580 section 6.2) and wants nothing behind it but, where a boundary is given, the last one.
type armoured struct {
	l        *armourLines
	boundary string
	left     []byte // characters that wait for the rest of their four
	out      []byte
	room     [1024]byte
	padded   bool
	err      error
}

func openArmour(l *armourLines, boundary string) (io.Reader, error) {
	before, err := l.until("-----BEGIN PGP MESSAGE-----", 100)
	if err != nil || strings.Join(before, "") != "" {
		return nil, errNotArmour
	}
	headers, err := l.until("", 20)
	if err != nil {
		return nil, errNotArmour
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		switch strings.ToLower(name) {
		case "version", "comment", "messageid":
		case "charset":
			if !strings.EqualFold(strings.TrimSpace(value), "utf-8") { // it says how to read what is within, and would be lost
				return nil, errNotArmour
			}
		default:
			return nil, errNotArmour
		}
	}
	return &armoured{l: l, boundary: boundary}, nil
}

func (a *armoured) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.out) == 0 {
		if a.err == nil {
			a.err = a.more()
		}
		if a.err != nil {
			return 0, a.err
		}
	}
	n := copy(p, a.out)
	a.out = a.out[n:]
	return n, nil
}

// more decodes a line; io.EOF is the end of a good armour.
func (a *armoured) more() error {
	line, err := a.l.next()
	if err != nil {
		return errNotArmour
	}
	if len(line) == 5 && line[0] == '=' { // the checksum: the far side's reader looks at it, and gets ours
		if line, err = a.l.next(); err != nil || string(line) != "-----END PGP MESSAGE-----" {
			return errNotArmour
		}
	}
	if string(line) == "-----END PGP MESSAGE-----" {
		if len(a.left) > 0 {
			return errNotArmour
		}
		return a.end()
	}
	if len(line) == 0 {
		return nil
	}
	if a.padded {
		return errNotArmour
	}
	line = append(a.left, line...)
	whole := len(line) / 4 * 4
	n, err := base64.StdEncoding.Decode(a.room[:], line[:whole])
	if err != nil {
		return errNotArmour
	}
	a.out, a.padded = a.room[:n], whole > 0 && line[whole-1] == '='
	a.left = append(a.left[:0:0], line[whole:]...)
	return nil
}

// end wants blank lines alone behind the armour, and the last boundary.
func (a *armoured) end() error {
	for wanted := a.boundary != ""; ; {
		line, err := a.l.next()
		switch {
		case err == io.EOF && !wanted:
			return io.EOF
		case err != nil:
			return errNotArmour
		case len(line) == 0:
		case wanted && string(line) == "--"+a.boundary+"--":
			wanted = false
		default:
			return errNotArmour
		}
	}
}
