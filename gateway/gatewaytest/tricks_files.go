package gatewaytest

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf16"
)

func byName(t []trick) []trick {
	slices.SortFunc(t, func(a, b trick) int { return cmp.Compare(a.name, b.name) })
	return t
}

// places are tricks with parts that lie where not everybody looks.
func (k *trickKit) places() (out []trick) {
	add := func(name, entity string) { out = append(out, trick{name: "place-" + name, entity: entity}) }
	add("ordinary", mixed(k.plain, k.file)) // no trick: nothing may fail where readers agree
	add("text", k.plain+k.text)
	add("no-type", "\n"+k.text)
	add("partial", "Content-Type: message/partial; id=x; number=1; total=2\n\n"+"Content-Type: text/plain\n\n"+k.text)
	add("external", "Content-Type: message/external-body; access-type=URL; URL=\"https://x.test/"+strings.TrimSpace(k.text)+"\"\n\nContent-Type: text/plain\n\n"+k.text)
	add("forwarded", mixed(k.plain, "Content-Type: message/rfc822\n\nSubject: x\n"+k.file))
	add("forwarded-base64", mixed(k.plain, "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"+b64Lines("Subject: x\n"+k.file)))
	add("forwarded-no-header", mixed(k.plain, "Content-Type: message/rfc822\n\n\n"+k.text))
	add("digest", parted("multipart/digest; boundary=b", "b", "\nSubject: x\n\n"+k.text))
	add("news", mixed(k.plain, "Content-Type: message/news\n\nSubject: x\n"+mixed(k.file)))
	add("delivery-status", mixed(k.plain, "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nX: "+k.text))
	add("report", parted("multipart/report; report-type=delivery-status; boundary=b", "b", k.plain, "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n", "Content-Type: message/rfc822\n\n"+k.file))
	add("alternative", parted("multipart/alternative; boundary=b", "b", k.plain, k.html, k.file))
	add("alternative-first", parted("multipart/alternative; boundary=b", "b", k.file, k.html))
	add("related", parted("multipart/related; boundary=b; start=\"<none>\"", "b", k.html, k.file))
	add("appledouble", mixed(k.plain, parted("multipart/appledouble; boundary=in", "in", "Content-Type: application/applefile\nContent-Transfer-Encoding: base64\n\n"+k.b64, k.file)))
	add("signed", parted("multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b", "b", k.plain, k.file))
	add("signed-within", mixed(k.plain, parted("multipart/signed; protocol=\"application/pgp-signature\"; boundary=in", "in", k.file, "Content-Type: application/pgp-signature\n\nx\n")))
	add("says-encrypted", parted("multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b", "b", "Content-Type: application/pgp-encrypted\n\nVersion: 1\n", k.file))
	add("says-smime", "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n"+k.b64)
	add("says-pgp", "Content-Type: text/plain\n\n-----BEGIN PGP MESSAGE-----\n\n"+k.b64+"-----END PGP MESSAGE-----\n")
	add("html-comment", "Content-Type: text/html\n\n<!-- "+k.text+"-->\n")
	add("html-data", "Content-Type: text/html\n\n<a href=\"data:application/pdf;base64,"+strings.ReplaceAll(k.b64, "\n", "")+"\">x</a>\n")
	add("calendar", mixed(k.plain, "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\nATTACH;ENCODING=BASE64;VALUE=BINARY:"+strings.ReplaceAll(k.b64, "\n", "\n ")+"\nEND:VCALENDAR\n"))
	return out
}

// encodings are tricks with the transfer encoding and the charset.
func (k *trickKit) encodings() (out []trick) {
	part := func(name, encoding, body string) {
		out = append(out, trick{name: "encoding-" + name, entity: mixed(k.plain, "Content-Type: application/pdf; name=x.pdf\nContent-Transfer-Encoding: "+encoding+"\n\n"+body)})
	}
	part("base64-junk", "base64", k.b64[:10]+"*!"+k.b64[10:])
	part("base64-padding", "base64", b64Lines("x")+k.b64)
	part("base64-twice", "base64", k.b64+k.b64)
	part("base64-tail", "base64", k.b64+"=\n"+k.text)
	part("base64-plain", "base64", k.text)
	part("base64-cut", "base64", strings.TrimRight(k.b64, "=\n")[:len(strings.TrimRight(k.b64, "=\n"))/4*4-1]+"\n")
	part("base64-url", "base64", strings.NewReplacer("+", "-", "/", "_").Replace(k.b64))
	part("base64-blanks", "base64", strings.ReplaceAll(k.b64, "A", "A \t"))
	part("base64-comment", "base64 (x)", k.b64)
	part("base64-twice-over", "base64", b64Lines(k.b64))
	part("twice", "7bit\nContent-Transfer-Encoding: base64", k.b64)
	part("misspelt", "base-64", k.b64)
	part("list", "7bit, base64", k.b64)
	part("quoted", "\"base64\"", k.b64)
	part("8bit-lies", "8bit", k.b64)
	part("uuencode", "x-uuencode", k.uu)
	part("binhex", "mac-binhex40", "(This file must be converted with BinHex 4.0)\n\n:"+k.b64+":\n")
	part("hex", "x-hex", k.hex)
	part("qp", "quoted-printable", k.qp)
	part("qp-broken", "quoted-printable", "=ZZ"+k.qp)
	part("qp-lower", "quoted-printable", strings.ToLower(k.qp))
	part("qp-soft-blanks", "quoted-printable", strings.ReplaceAll(k.qp, "=\n", "= \t\n"))
	part("qp-ends-open", "quoted-printable", strings.TrimSpace(k.qp)+"=")
	part("qp-boundary", "quoted-printable", "x=\n--b\n"+k.file)
	multi := func(name, fields, body string) {
		out = append(out, trick{name: "encoding-" + name, entity: "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: " + fields + "\n\n" + body})
	}
	_, body, _ := strings.Cut(mixed(k.plain, k.file), "\n\n")
	multi("multipart-base64", "base64", b64Lines(body))
	multi("multipart-says-base64", "base64", body)
	multi("multipart-says-qp", "quoted-printable", body)
	text := func(name, charset, encoding, body string) {
		out = append(out, trick{name: "charset-" + name, entity: "Content-Type: text/plain; charset=" + charset + "\nContent-Transfer-Encoding: " + encoding + "\n\n" + body})
	}
	var little, big []byte
	for _, c := range utf16.Encode([]rune(k.text)) {
		little, big = append(little, byte(c), byte(c>>8)), append(big, byte(c>>8), byte(c))
	}
	text("utf-16le", "utf-16le", "base64", b64Lines(string(little)))
	text("utf-16be", "utf-16be", "base64", b64Lines(string(big)))
	text("utf-7", "utf-7", "7bit", "+"+base64.RawStdEncoding.EncodeToString(big)+"-\n")
	text("unknown", "x-invented", "7bit", k.text)
	text("both", "utf-8; charset*=utf-8''utf-16le", "7bit", k.text)
	text("empty", "\"\"", "7bit", k.text)
	return out
}

// files are tricks with files within texts, and with formats that few programs unpack.
func (k *trickKit) files() (out []trick) {
	add := func(name, entity string) { out = append(out, trick{name: "file-" + name, entity: entity}) }
	text := "Content-Type: text/plain\n\nBonjour\n"
	b64uu := "begin-base64 644 x.pdf\n" + k.b64 + "====\n"
	add("uuencode", text+k.uu)
	add("uuencode-twice", text+k.uu+"et\n"+k.uu)
	add("uuencode-base64", text+b64uu)
	add("uuencode-in-html", "Content-Type: text/html\n\n"+k.uu)
	add("uuencode-no-end", text+strings.TrimSuffix(k.uu, "`\nend\n"))
	add("uuencode-broken", text+strings.Replace(k.uu, "\n`", "\nx`", 1))
	add("uuencode-outlook", text+"begin  x.pdf\n"+k.text+"end\n")
	add("uuencode-path", text+strings.Replace(k.uu, "x.pdf", "../../etc/x.pdf", 1))
	add("uuencode-part", mixed(k.plain, text+k.uu))
	add("uuencode-in-qp", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nBonjour\nbegin=20644=20x.pdf\n"+strings.ReplaceAll(strings.TrimPrefix(k.uu, "begin 644 x.pdf\n"), "=", "=3D"))
	add("uuencode-in-base64", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"+b64Lines("Bonjour\r\n"+strings.ReplaceAll(k.uu, "\n", "\r\n")))
	add("uuencode-type", mixed(k.plain, "Content-Type: application/x-uuencode\n\n"+k.uu))
	add("yenc", text+"=ybegin line=128 size=40 name=x.pdf\n"+k.text+"=yend size=40\n")
	add("binhex", text+"(This file must be converted with BinHex 4.0)\n\n:"+k.b64+":\n")
	add("tnef-none", mixed(k.plain, "Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n"+k.b64))
	add("tnef", mixed(k.plain, "Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n"+b64Lines(string(TNEF("IPM.Note", TNEFFile{"x.pdf", []byte(k.text)})))))
	add("tnef-unnamed", mixed(k.plain, "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"+b64Lines(string(TNEF("IPM.Note", TNEFFile{"x.pdf", []byte(k.text)})))))
	add("tnef-meeting", mixed(k.plain, "Content-Type: application/ms-tnef\nContent-Transfer-Encoding: base64\n\n"+b64Lines(string(TNEF("IPM.Microsoft Schedule.MtgReq", TNEFFile{"x.pdf", []byte(k.text)})))))
	cut := TNEF("IPM.Note", TNEFFile{"x.pdf", []byte(k.text)})
	add("tnef-cut", mixed(k.plain, "Content-Type: application/ms-tnef\nContent-Transfer-Encoding: base64\n\n"+b64Lines(string(cut[:len(cut)-5]))))
	return out
}

func b64Lines(s string) string { return strings.ReplaceAll(wrapped(s), "\r\n", "\n") }
