package protect

import (
	"encoding/base64"
	"fmt"
	"strings"
)

func b64(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > 76 {
		b.WriteString(e[:76] + "\n")
		e = e[76:]
	}
	return b.String() + e
}

const head = "Received: from poste-12.interne.test by mx\nFrom: Dr Martin <m@clinic.test>\nTo: a@dest.test, autre@patient.test\nCc: tiers@patient.test\n" +
	"Bcc: secret@patient.test\nSubject: =?utf-8?Q?MARQUEUR-h=C3=A9moglobine_basse-7Q4Z?=\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\n" +
	"References: <0@dest.test>\nDisposition-Notification-To: m@clinic.test\nX-Check-Id: 42\nX-Other: " + marker + "\nMIME-Version: 1.0\n"

// sample is a message as a clinic's staff and machines send them.
type sample struct {
	name string // as docs/formats.md calls it
	text string
	// odd: readers may take it apart in different ways, or it is broken: it is sealed whole. signed, encrypted: by whom.
	odd               bool
	signed, encrypted string
}

// shapes are all that need no key; the marker is in each of their parts.
func shapes() []sample {
	many := "Content-Type: multipart/mixed; boundary=m\n\n"
	for i := range 300 {
		many += fmt.Sprintf("--m\nContent-Type: application/octet-stream; name=\"f%d.dat\"\nContent-Transfer-Encoding: base64\n\n%s\n", i, b64(fmt.Sprint(i, marker)))
	}
	const (
		plain   = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nMARQUEUR-h=E9moglobine basse-7Q4Z\n"
		invited = "Content-Type: text/calendar; method=REQUEST; charset=utf-8\n\nBEGIN:VCALENDAR\nMETHOD:REQUEST\nSUMMARY:" + marker + "\nEND:VCALENDAR\n"
		nested  = "Content-Type: message/rfc822\n\nSubject: " + marker + "\n\n" + marker + "\n"
	)
	related := "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: multipart/alternative; boundary=a\n\n--a\n" + plain + "\n" +
		"--a\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>" + marker + "</p><img src=\"cid:1\"><img src=\"cid:2\">\n--a--\n" +
		"--r\nContent-Type: image/png; name=logo.png\nContent-ID: <1>\nContent-Transfer-Encoding: base64\n\n" + b64("png"+marker) + "\n" +
		"--r\nContent-Type: image/jpeg\nContent-Disposition: inline; filename=signature.jpg\nContent-ID: <2>\nContent-Transfer-Encoding: base64\n\n" + b64("jpg"+marker) + "\n--r--\n"
	pdf := "Content-Type: application/pdf; name=\"r.pdf\"\nContent-Disposition: attachment; filename*=utf-8''r%C3%A9sultat%20Mme%20Durand.pdf\nContent-Transfer-Encoding: base64\n\n" +
		b64(strings.Repeat(marker, 500)) + "\n"
	japanese := "Content-Type: application/zip; name=\"=?shift_jis?B?k/qWew==?=.zip\"\nContent-Transfer-Encoding: base64\n\n" + b64("PK"+marker) + "\n"
	named := func(name string) string {
		return "Content-Type: application/octet-stream\nContent-Disposition: attachment; " + name + "\nContent-Transfer-Encoding: base64\n\n" + b64(name+marker) + "\n"
	}
	mixed := func(parts ...string) string {
		return head + "Content-Type: multipart/mixed; boundary=\"m\"\n\n--m\n" + strings.Join(parts, "--m\n") + "--m--\n"
	}
	return []sample{
		{name: "text", text: head + "Content-Type: text/plain; charset=utf-8\n\n" + marker + "\n"},
		{name: "text without Content-Type", text: head + "\nplain " + marker + "\n"},
		{name: "HTML alone", text: head + "Content-Type: text/html; charset=utf-8;\n\n<b>" + marker + "</b>"},
		{name: "HTML with inline images", text: mixed(related)},
		{name: "300 attachments", text: head + many + "--m--\n"},
		{name: "nested message", text: mixed(plain, nested)},
		{name: "calendar invitation", text: mixed(plain, invited)},
		{name: "names in UTF-8, ISO-8859-1, Shift_JIS", text: mixed(plain, pdf, japanese, named("filename*=iso-8859-1'fr'r%E9sultat.csv"),
			named("filename=\"=?iso-8859-1?Q?r=E9sultat_2.csv?=\""), named("filename*=shift_jis''%93%FA%96%7B.csv"), named("filename=\"=?utf-8?B?cmVzw7kubHQ=?=\""))},
		{name: "all of these at once", text: mixed(related, pdf, japanese, invited, nested)},
		{name: "empty body", text: head + "\n"},
		{name: "signed by a program unknown", text: head + "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=s\n\n--s\nContent-Type: text/plain\n\n" +
			marker + "\n--s\nContent-Type: application/pkcs7-signature\n\nxx\n--s--\n", signed: "nobody"},
		{name: "two boundaries", odd: true, text: head + "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\n" + marker + "\n--c\n\n" + marker + "\n--b--\n"},
		{name: "text before and after the parts", odd: true, text: head + "Content-Type: multipart/mixed; boundary=b\n\n" + marker + "\n--b\n\nx\n--b--\n" + marker + "\n"},
		{name: "a header line without a colon", odd: true, text: head + marker + "\nBcc : secret@patient.test\n\n" + marker},
		{name: "uuencode in text", odd: true, text: head + "\nbegin 644 x\n" + marker + "\nend\n"},
		{name: "broken base64", odd: true, text: head + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nQUJD=QUJD*\n" + marker + "\n"},
	}
}

// inputs are shapes under the short names that tests of one form use.
func inputs() map[string]string {
	short := map[string]string{"text": "text", "text without Content-Type": "no type", "HTML alone": "html", "empty body": "empty", "all of these at once": "rich", "300 attachments": "many",
		"signed by a program unknown": "signed", "two boundaries": "unclear", "text before and after the parts": "preamble", "a header line without a colon": "no colon",
		"uuencode in text": "uuencode", "broken base64": "bad base64"}
	in := map[string]string{}
	for _, s := range shapes() {
		if n := short[s.name]; n != "" {
			in[n] = s.text
		}
	}
	return in
}
