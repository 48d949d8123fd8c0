package protect

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"crypto/x509"
	"passerelle/crypto/zipaes"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

const letterText = "Bonjour, voici les résultats demandés.\r\n"

// withFiles is a letter whose files and pictures hold the marker, and whose text does not.
const withFiles = noFlow + "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/related; boundary=r\n\n--r\nContent-Type: multipart/alternative; boundary=a\n\n" +
	"--a\nContent-Type: text/plain; charset=utf-8; format=flowed; x-note=MARQUEUR\nContent-Description: MARQUEUR\nContent-Transfer-Encoding: 8bit\n\nBonjour, voici les résultats demandés.\n\n" +
	"--a\nContent-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n<p>r=E9sultats</p><img src=3D\"cid:1\">\n--a--\n" +
	"--r\nContent-Type: image/png; name=MARQUEUR.png\nContent-ID: <1>\nContent-Transfer-Encoding: base64\n\n"

const noFlow = "Received: from poste-12.interne.test by mx\nFrom: Dr Martin <m@clinic.test>\nTo: a@dest.test, autre@patient.test\nCc: tiers@patient.test\nBcc: secret@patient.test\n" +
	"Subject: =?utf-8?Q?MARQUEUR-h=C3=A9moglobine_basse-7Q4Z?=\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\nDisposition-Notification-To: m@clinic.test\nMIME-Version: 1.0\n"

func letterWithFiles() string {
	return withFiles + b64("png"+marker) + "\n--r--\n" +
		"--m\nContent-Type: application/pdf; name=\"r.pdf\"\nContent-Disposition: attachment; filename*=utf-8''r%C3%A9sultat%20MARQUEUR.pdf\nContent-Transfer-Encoding: base64\n\n" + b64(strings.Repeat(marker, 500)) + "\n" +
		"--m\nContent-Type: text/plain; name=note.txt\n\n" + marker + "\n" +
		"--m\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\n\nBEGIN:VCALENDAR " + marker + "\n" +
		"--m\nContent-Type: message/rfc822\n\nSubject: " + marker + "\n\n" + marker + "\n" +
		"--m\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=s\n\n--s\nContent-Type: text/plain\n\n" + marker + "\n--s\nContent-Type: application/pkcs7-signature\n\nxx\n--s--\n--m--\n"
}

// fileNames are what the letter's files become.
var fileNames = []string{"contenu.txt", "piece-01.png", "piece-02.pdf", "piece-03.txt", "piece-04.ics", "piece-05.eml", "piece-06.eml"}

// TestTextOutside: the text stays readable and nothing else; each file opens, and the list names it.
func TestTextOutside(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--armor", "--export")
	b, x := indexed(t, crlf(letterWithFiles()))
	if why := Whole(b, x); why != "" {
		t.Fatal(why)
	}
	for _, form := range []string{"zip", "openpgp"} {
		o := options(t)
		o.TextOutside, o.Lang = true, "en"
		var sealed *message.Body
		var err error
		if form == "zip" {
			sealed, err = ZIP(ctx, envelope, b, x, dest, passphrase, o)
		} else {
			sealed, err = OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, o)
		}
		if err != nil {
			t.Fatal(form, err)
		}
		out := all(t, sealed)
		sealed.Close()
		if how := leaks(out); how != "" {
			t.Errorf("%s: readable outside: %s", form, how)
		}
		ob, ox := indexed(t, string(out))
		if ox.Unclear != "" || ox.Check(ob) != nil {
			t.Fatalf("%s: what leaves is unclear: %s", form, ox.Unclear)
		}
		var types []string
		for _, p := range ox.Parts {
			types = append(types, p.Type)
		}
		if got := strings.Join(types[:5], " "); got != "multipart/mixed multipart/alternative text/plain text/html text/plain" {
			t.Errorf("%s: parts %s", form, got)
		}
		if p := ox.Parts[2]; p.Params["format"] != "flowed" || read(t, message.DecodePart(ob, p)) != letterText {
			t.Errorf("%s: text %v %q", form, p.Params, read(t, message.DecodePart(ob, p)))
		}
		if p := ox.Parts[3]; p.Params["charset"] != "iso-8859-1" || !strings.HasPrefix(read(t, message.DecodePart(ob, p)), "<p>r\xe9sultats</p>") {
			t.Errorf("%s: html %v %q", form, p.Params, read(t, message.DecodePart(ob, p)))
		}
		cover := read(t, message.DecodePart(ob, ox.Parts[4]))
		if !strings.HasPrefix(cover, "Hello") && !strings.HasPrefix(cover, "Clinique des Lilas has sent") || !strings.Contains(cover, "Appelez le 01 23 45 67 89") {
			t.Errorf("%s: cover text\n%s", form, cover)
		}
		got := map[string]string{}
		for _, a := range ox.Attachments() {
			raw := []byte(read(t, message.DecodePart(ob, ox.Parts[a.Part])))
			if form == "openpgp" {
				got[strings.TrimSuffix(a.Name, ".pgp")] = string(gpg(raw, "--decrypt"))
				continue
			}
			z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
			if err != nil || a.Name != "documents.zip" {
				t.Fatal(a.Name, err)
			}
			for _, f := range z.File {
				r, err := zipaes.Open(f, passphrase)
				if err != nil {
					t.Fatal(err)
				}
				got[f.Name] = read(t, r)
			}
		}
		var names []string
		for name, content := range got {
			names = append(names, name)
			if !strings.Contains(content, marker) {
				t.Errorf("%s: %s holds %.100q", form, name, content)
			}
			if how := otherRecipients([]byte(content)); how != "" {
				t.Errorf("%s: %s holds %s", form, name, how)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, fileNames) || !strings.Contains(got["contenu.txt"], "piece-02.pdf = résultat MARQUEUR.pdf") || strings.Contains(got["contenu.txt"], "message.txt") {
			t.Errorf("%s: files %v\n%s", form, names, got["contenu.txt"])
		}
		if !strings.HasPrefix(got["piece-06.eml"], "Content-Type: multipart/signed;") {
			t.Errorf("%s: the signed part is %.100q", form, got["piece-06.eml"])
		}
	}
}

func read(t testing.TB, r io.Reader) string {
	t.Helper()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// TestWhole: what cannot be told apart is sealed as one, whoever asked for the text outside.
func TestWhole(t *testing.T) {
	html := func(page string) string {
		return noFlow + "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: text/html; charset=utf-8\n\n" + page + "\n--m\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + b64(marker) + "\n--m--\n"
	}
	cases := map[string]string{
		"picture in the page":             html("<p>a<img src=\"data:image/png;base64," + b64(marker) + "\">"),
		"picture in the page, references": html("<img src=\"&#100;at&#x61;:image/png,MARQUEUR\">"),
		"picture in the page, blanks":     html("<img src=\"da\n\tta:image/png,MARQUEUR\">"),
		"drawing in the page":             html("<SVG><text>MARQUEUR</text></svg>"),
		"style in the page":               html("<style>p{background:url(DATA:image/png,MARQUEUR)}</style>"),
		"odd charset":                     html("a") + "",
		"long text":                       html(strings.Repeat("MARQUEUR\n", 1<<17)),
	}
	cases["odd charset"] = strings.Replace(html(marker), "charset=utf-8", "charset=x-own", 1)
	for _, name := range []string{"text", "no type", "html", "empty", "signed", "unclear", "preamble", "no colon", "uuencode", "bad base64"} {
		cases[name] = inputs()[name]
	}
	key, c := []byte(nil), correspondent(t, gatewaytest.CorrespondentOptions{})
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key = gpg(nil, "--export")
	for name, in := range cases {
		b, x := indexed(t, crlf(in))
		if Whole(b, x) == "" {
			t.Errorf("%s: its files would be sealed alone", name)
		}
		o := options(t)
		o.TextOutside = true
		for form, seal := range map[string]func() (*message.Body, error){
			"zip":     func() (*message.Body, error) { return ZIP(ctx, envelope, b, x, dest, passphrase, o) },
			"openpgp": func() (*message.Body, error) { return OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, o) },
			"smime": func() (*message.Body, error) {
				return SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, o)
			},
		} {
			sealed, err := seal()
			if err != nil {
				t.Fatal(name, form, err)
			}
			if how := leaks(all(t, sealed)); how != "" {
				t.Errorf("%s as %s: readable outside: %s", name, form, how)
			}
			sealed.Close()
		}
	}
	for name, in := range map[string]string{"page with cid": html("<img src=\"cid:1\">"), "no text": noFlow + "Content-Type: application/pdf\n\nx\n"} {
		if b, x := indexed(t, crlf(in)); Whole(b, x) != "" {
			t.Errorf("%s: %s", name, Whole(b, x))
		}
	}
}

// TestKeepSubject: the sender's subject stands outside where the operator wants it, in one line whatever it holds.
func TestKeepSubject(t *testing.T) {
	o := options(t)
	o.KeepSubject, o.Subject = true, "neutre"
	for in, want := range map[string]string{"Subject: =?utf-8?Q?r=C3=A9sultat?=\n": "résultat", "Subject: a\n b\n": "a b", "": "neutre", "Subject:\n": "neutre",
		"Subject: =?utf-8?Q?a=0D=0ABcc:_x@y.test?=\n": "aBcc: x@y.test"} {
		_, x := indexed(t, crlf(in+"From: <m@clinic.test>\n\nx"))
		h := outer(envelope, x.Header, dest, o)
		if got := h.Text("Subject"); !strings.HasPrefix(got, want[:1]) || len(h.Values("Subject")) != 1 || h.Get("Bcc") != "" || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%q: outside stands %q, want %q", in, got, want)
		}
	}
}

// TestSizes: what is reckoned for a limit is never less than what is sealed, and little more where nothing shrinks.
func TestSizes(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--export")
	c := correspondent(t, gatewaytest.CorrespondentOptions{})
	random := make([]byte, 3<<20)
	src := rand.NewChaCha8([32]byte{})
	src.Read(random)
	in := inputs()
	in["large"] = head + "Content-Type: multipart/mixed; boundary=m\n\n--m\n\nx\n--m\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n" + b64(string(random)) + "\n--m--\n"
	in["report"] = withReport(t)
	in["latin"] = head + "Content-Type: text/plain; charset=iso-8859-1\n\n" + strings.Repeat("\xe9", 900) + "\n"
	for name, text := range in {
		b, x := indexed(t, crlf(text))
		for form, seal := range map[string]func() (*message.Body, error){
			"zip":     func() (*message.Body, error) { return ZIP(ctx, envelope, b, x, dest, passphrase, options(t)) },
			"pdf":     func() (*message.Body, error) { return PDF(ctx, envelope, b, x, dest, passphrase, PDFEach, options(t)) },
			"openpgp": func() (*message.Body, error) { return OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, options(t)) },
			"smime": func() (*message.Body, error) {
				return SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, options(t))
			},
		} {
			sealed, err := seal()
			if no := (*Error)(nil); errors.As(err, &no) && no.Step == "form" {
				continue
			}
			if err != nil {
				t.Fatal(name, form, err)
			}
			reckoned := SealedSize(b)
			switch form {
			case "zip":
				reckoned = ArchiveSize(x)
			case "pdf":
				reckoned = PDFSize(x)
			}
			if got := sealed.Size(); got > reckoned || name == "large" && reckoned > got+got/10 {
				t.Errorf("%s as %s: %d bytes, reckoned %d", name, form, got, reckoned)
			}
			sealed.Close()
		}
	}
}

// TestPDFTextOutside: the text stays readable and stands in no PDF; each file opens with the passphrase.
func TestPDFTextOutside(t *testing.T) {
	in := letterWithFiles()
	in = strings.Replace(in, "--m\nContent-Type: text/calendar", "--m\nContent-Type: application/pdf; name=bon.pdf\nContent-Transfer-Encoding: base64\n\n"+b64(report(t))+"\n--m\nContent-Type: text/calendar", 1)
	b, x := indexed(t, crlf(in))
	for _, mode := range []string{PDFEach, PDFWhole} {
		o := options(t)
		o.TextOutside = true
		sealed, err := PDF(ctx, envelope, b, x, dest, passphrase, mode, o)
		if err != nil {
			t.Fatal(err)
		}
		out := all(t, sealed)
		if how := leaks(out); how != "" {
			t.Errorf("%s: readable outside: %s", mode, how)
		}
		ob, ox := indexed(t, string(out))
		if ox.Unclear != "" || ox.Parts[1].Type != "multipart/alternative" || read(t, message.DecodePart(ob, ox.Parts[2])) != letterText ||
			!strings.Contains(read(t, message.DecodePart(ob, ox.Parts[4])), "« message.pdf » les nomme") {
			t.Errorf("%s: outside is %q\n%.3000s", mode, ox.Unclear, out)
		}
		got := openPDFs(t, sealed)
		if strings.Contains(got.texts["message.pdf"], "demandés") || !strings.Contains(got.texts["message.pdf"], "résultat MARQUEUR.pdf") {
			t.Errorf("%s: message.pdf shows\n%s", mode, got.texts["message.pdf"])
		}
		files := len(fileNames) - 1
		if mode == PDFWhole {
			files++
		} else if !strings.Contains(got.texts["piece-01.pdf"], "MARQUEUR") {
			t.Errorf("%s: %v", mode, got.texts)
		}
		if len(got.files) != files {
			t.Errorf("%s: %d files are held, want %d", mode, len(got.files), files)
		}
		for name, p := range got.files {
			if !strings.Contains(string(p), "MARQUEUR") || strings.Contains(string(p), "demandés") || otherRecipients(p) != "" {
				t.Errorf("%s: %s holds %.80q", mode, name, p)
			}
		}
		sealed.Close()
	}
}
