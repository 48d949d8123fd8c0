package gatewaytest

import "strings"

// oddity is a part, a header or a change of the whole that real mail has and no standard likes.
type oddity struct {
	name     string
	part     string
	boundary string // "" is an ordinary one
	header   string // stands above the others
	change   func(entity string) string
}

func oddities(marker string) []oddity {
	text := corpusText(marker)
	plain := textPart("7bit", "us-ascii", text)
	typed := func(kind, rest string) string { return "Content-Type: " + kind + "\r\n" + rest + "\r\n" + text }
	cut := func(from, to string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, from, to) }
	}
	armour := "-----BEGIN PGP MESSAGE-----\r\n\r\n" + wrapped("not really "+marker) + "-----END PGP MESSAGE-----\r\n"
	return []oddity{
		{name: "line998", part: "Content-Type: text/plain\r\n\r\n" + strings.Repeat("x", 998) + "\r\n" + text},
		{name: "line5000", part: "Content-Type: text/plain\r\n\r\n" + strings.Repeat("mot ", 1250) + "\r\n" + text},
		{name: "dots", part: "Content-Type: text/plain\r\n\r\n" + strings.Repeat(".\r\n..\r\n...x\r\n", 20) + text},
		{name: "blank-lines", part: "Content-Type: text/plain\r\n\r\n" + strings.Repeat("\r\n", 50) + text},
		{name: "spaces", part: "Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n" + strings.Repeat("mot   \r\n \t\r\n", 9) + text},
		{name: "empty-part", part: "Content-Type: text/plain\r\n\r\n"},
		{name: "no-type", part: "\r\n" + text},
		{name: "type-case", part: "CONTENT-TYPE: TEXT/PLAIN; CHARSET=\"US-ASCII\"\r\ncontent-transfer-encoding: 7BIT\r\n\r\n" + text},
		{name: "type-folded", part: "Content-Type: text/plain;\r\n\tcharset=utf-8;\r\n name*0=\"a\"; name*1=\"b\"\r\n\r\n" + text},
		{name: "type-comment", part: "Content-Type: text/plain (un commentaire); charset=utf-8 (autre)\r\n\r\n" + text},
		{name: "type-nonsense", part: typed("text plain; ;;=", "")},
		{name: "type-twice", part: typed("text/plain", "Content-Type: text/html\r\n")},
		{name: "encoding-unknown", part: typed("text/plain", "Content-Transfer-Encoding: x-mine\r\n")},
		{name: "encoding-lies", part: typed("text/plain", "Content-Transfer-Encoding: base64\r\n")},
		{name: "qp-broken", part: typed("text/plain", "Content-Transfer-Encoding: quoted-printable\r\n") + "=ZZ = =4\r\n=\r\n"},
		{name: "base64-one-line", part: "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.ReplaceAll(wrapped(text), "\r\n", "") + "\r\n"},
		{name: "base64-tail", part: "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(text) + "=\r\n\r\ntexte en plus\r\n"},
		{name: "uuencode", part: plain + "begin 644 lettre.txt\r\n#86)C\r\n`\r\nend\r\n"},
		{name: "yenc", part: plain + "=ybegin line=128 size=3 name=a.bin\r\nabc\r\n=yend size=3\r\n"},
		{name: "pgp-signed", part: "Content-Type: text/plain\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n" + text + "-----BEGIN PGP SIGNATURE-----\r\n\r\n" + wrapped("sig") + "-----END PGP SIGNATURE-----\r\n"},
		{name: "pgp-inline", part: "Content-Type: text/plain\r\n\r\n" + armour},
		{name: "pgp-mime", part: strings.Replace(multi("encrypted", "pgp", "Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n", "Content-Type: application/octet-stream\r\n\r\n"+armour), "; boundary", "; protocol=\"application/pgp-encrypted\"; boundary", 1)},
		{name: "signed", part: strings.Replace(multi("signed", "sig", plain, "Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n"+wrapped("sig")), "; boundary", "; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary", 1)},
		{name: "smime", part: "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped("\x30\x80"+text)},
		{name: "tnef", part: "Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped("\x78\x9f\x3e\x22"+text)},
		{name: "partial", part: typed("message/partial; id=\"1@clinic.test\"; number=1; total=2", "")},
		{name: "external", part: "Content-Type: message/external-body; access-type=URL; URL=\"https://example.test/" + "\"\r\n\r\nContent-Type: text/plain\r\n\r\n" + text},
		{name: "calendar", part: "Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nSUMMARY:" + marker + "\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
		{name: "vcard", part: "Content-Type: text/vcard\r\n\r\nBEGIN:VCARD\r\nNOTE:" + marker + "\r\nEND:VCARD\r\n"},
		{name: "report", part: multi("report", "rep", plain, "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\n")},
		{name: "binary-name", part: strings.Replace(attachment("x", "application/octet-stream"), "filename=\"x\"", "filename*=utf-8''r%C3%A9sultat.pdf", 1) + text},
		{name: "name-8bit", part: strings.Replace(attachment("x", "application/octet-stream"), "filename=\"x\"", "filename=\"r\xe9sultat.pdf\"", 1)},
		{name: "boundary-odd", part: plain, boundary: "=_'()+_,-./:=? x"},
		{name: "boundary-long", part: plain, boundary: strings.Repeat("b", 70)},
		{name: "boundary-prefix", part: "Content-Type: text/plain\r\n\r\n--bb-not\r\n-- bb\r\n" + text, boundary: "bb"},
		{name: "boundary-missing", part: plain, change: cut("; boundary=", "; bounds=")},
		{name: "not-closed", part: plain, change: cut("--\r\n\r\nepilogue\r\n", "\r\n")},
		{name: "header-huge", part: plain, header: "X-Huge: " + strings.Repeat("valeur\r\n ", 6000) + "fin\r\n"},
		{name: "header-many", part: plain, header: strings.Repeat("X-Again: 1\r\n", 400)},
		{name: "header-8bit", part: plain, header: "X-Name: L\xe9a\r\nX-Nom: L\xc3\xa9a\r\n"},
		{name: "header-space", part: plain, header: "X-Odd : a\r\nX-Empty:\r\nx-tab:\tb\t \r\n"},
		{name: "trace", part: plain, header: strings.Repeat("Received: from a by b with ESMTP id 1; Mon, 23 Nov 2026 10:00:00 +0100\r\n", 20)},
	}
}
