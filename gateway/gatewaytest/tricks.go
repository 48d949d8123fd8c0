package gatewaytest

import (
	"fmt"
	"strings"
)

// Tricks are letters that hide payload, an ASCII text without blanks, where some mail program finds it and another does not. Their names are
// the same each time, in the same order; more than 100. The bytes are as they go behind DATA, dots not doubled; some hold what no server of
// ours takes (bare CR or LF, NUL).
func Tricks(payload string) (all []Letter) {
	k := newTrick(payload)
	for _, part := range [][]trick{k.types(), k.boundaries(), k.headers(), k.places(), k.encodings(), k.files()} {
		for _, t := range part {
			head := "From: Dr <dr@clinic.test>\nTo: <a@dest.test>\nSubject: essai\nDate: Mon, 23 Nov 2026 10:00:00 +0100\nMessage-ID: <" + t.name + "@clinic.test>\nMIME-Version: 1.0\n"
			if t.head != "" {
				head = t.head
			}
			raw := strings.ReplaceAll(head+t.entity, "\n", "\r\n")
			if t.change != nil {
				raw = t.change(raw)
			}
			all = append(all, Letter{t.name, []byte(raw)})
		}
	}
	return all
}

// trick: lines end in \n, change has them in \r\n.
type trick struct {
	name   string
	entity string // its Content fields, an empty line, its body
	head   string // in the place of the ordinary one
	change func(string) string
}

// trickKit holds payload in the dresses that the tricks put on it.
type trickKit struct {
	text, b64, qp, uu, hex string
	plain, html, file      string // parts; the payload is in file alone
}

func newTrick(payload string) *trickKit {
	k := &trickKit{text: payload + "\n", b64: strings.ReplaceAll(wrapped("%PDF-1.4\n"+payload+"\n"), "\r\n", "\n"), uu: UUEncode("x.pdf", []byte(payload)), hex: fmt.Sprintf("%x\n", payload)}
	for i := range len(payload) {
		k.qp += fmt.Sprintf("=%02X", payload[i])
		if i%20 == 19 {
			k.qp += "=\n"
		}
	}
	k.qp += "\n"
	k.plain = "Content-Type: text/plain; charset=utf-8\n\nBonjour\n"
	k.html = "Content-Type: text/html; charset=utf-8\n\n<p>Bonjour</p>\n"
	k.file = "Content-Type: application/pdf; name=\"x.pdf\"\nContent-Disposition: attachment; filename=\"x.pdf\"\nContent-Transfer-Encoding: base64\n\n" + k.b64
	return k
}

// mixed puts parts together, and nothing else.
func mixed(parts ...string) string { return parted("multipart/mixed; boundary=b", "b", parts...) }

func parted(kind, boundary string, parts ...string) string {
	s := "Content-Type: " + kind + "\n\n"
	for _, p := range parts {
		s += "--" + boundary + "\n" + p + "\n"
	}
	return s + "--" + boundary + "--\n"
}

// UUEncode writes a file as POSIX uuencode does, lines ended by LF.
func UUEncode(name string, p []byte) string {
	var b strings.Builder
	b.WriteString("begin 644 " + name + "\n")
	sign := func(c byte) byte {
		if c &= 63; c == 0 {
			return '`'
		}
		return c + ' '
	}
	for len(p) > 0 {
		line := p[:min(45, len(p))]
		p = p[len(line):]
		b.WriteByte(sign(byte(len(line))))
		for len(line) > 0 {
			var g [3]byte
			line = line[copy(g[:], line):]
			b.Write([]byte{sign(g[0] >> 2), sign(g[0]<<4 | g[1]>>4), sign(g[1]<<2 | g[2]>>6), sign(g[2])})
		}
		b.WriteByte('\n')
	}
	return b.String() + "`\nend\n"
}
