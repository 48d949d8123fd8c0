package deploy_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/http/cookiejar"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/crypto/zipaes"
)

// attachment is base64 of one line, so that it can be looked for in whatever was opened.
var attachment = bytes.Repeat([]byte("compte rendu! "), 4)

// words is the sentence of a message that nobody but its recipient may read.
func words(subject string) string {
	return "Bonjour, voici la glycemie de Mme Zebulon: " + subject + "."
}

// report is a clinic's message with an attachment.
func report(subject string, to ...string) []byte {
	return fmt.Appendf(nil, "From: Staff <%s>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%x@clinic.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n"+
		"--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n.point \r\n"+
		"--cut\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"cr-zebulon.pdf\"\r\n\r\n%s\r\n--cut--\r\n",
		staff, strings.Join(to, ",\r\n "), subject, sha256.Sum256([]byte(subject)), words(subject), base64.StdEncoding.EncodeToString(attachment))
}

// body is what follows the header.
func body(raw []byte) []byte {
	_, b, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	return b
}

// closed fails if anything of the message can be read in what left.
func closed(t *testing.T, raw []byte, subject string) {
	t.Helper()
	for _, s := range []string{subject, "Zebulon", "cr-zebulon", "Bonjour, voici", base64.StdEncoding.EncodeToString(attachment)[:24]} {
		if bytes.Contains(raw, []byte(s)) {
			t.Errorf("%q can be read in what left:\n%s", s, raw)
		}
	}
}

// text is the first text part of a mail, decoded.
func text(t *testing.T, raw []byte) string {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	r, encoding := msg.Body, msg.Header.Get("Content-Transfer-Encoding")
	if kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "multipart/") {
		p, err := multipart.NewReader(msg.Body, params["boundary"]).NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		r, encoding = p, p.Header.Get("Content-Transfer-Encoding")
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// openPGP decrypts as the holder of the key does.
func (w *world) openPGP(t *testing.T, raw []byte, subject string) {
	t.Helper()
	closed(t, raw, subject)
	const begin = "-----BEGIN PGP MESSAGE-----"
	i := bytes.Index(raw, []byte(begin))
	if i < 0 {
		t.Fatalf("no PGP message in:\n%s", raw)
	}
	block, err := armor.Decode(bytes.NewReader(raw[i:]))
	if err != nil {
		t.Fatal(err)
	}
	md, err := openpgp.ReadMessage(block.Body, openpgp.EntityList{w.key}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := io.ReadAll(md.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{words(subject), base64.StdEncoding.EncodeToString(attachment)} {
		if !bytes.Contains(inner, []byte(want)) {
			t.Errorf("the decrypted message lacks %q:\n%s", want, inner)
		}
	}
}

// openZIP opens the archive with a passphrase.
func openZIP(t *testing.T, raw []byte, passphrase, subject string) {
	t.Helper()
	closed(t, raw, subject)
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	var archive []byte
	for r := multipart.NewReader(msg.Body, params["boundary"]); archive == nil; {
		p, err := r.NextPart()
		if err != nil {
			t.Fatalf("no archive: %v", err)
		}
		if strings.HasSuffix(p.FileName(), ".zip") {
			if archive, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var said, same bool
	for _, f := range z.File {
		r, err := zipaes.Open(f, passphrase)
		if err != nil {
			t.Fatalf("open %s: %v", f.Name, err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		said, same = said || bytes.Contains(got, []byte(words(subject))), same || bytes.Equal(got, attachment)
	}
	if !said || !same {
		t.Errorf("the archive holds the text: %v, the attachment: %v", said, same)
	}
}

var (
	spaced     = regexp.MustCompile(`\b\d{3} ?\d{3}\b`)
	passphrase = regexp.MustCompile(`\b[a-z]+(?:-[a-z]+){3,}\b`)
	hrefs      = regexp.MustCompile(`href="([^"]*)"`)
)

// codes are the codes that the sender was told for this recipient's deposits, oldest first.
func (w *world) codes(t *testing.T) (out []string) {
	t.Helper()
	for _, m := range w.mailbox.To(staff) {
		if s := text(t, m.Data); strings.Contains(s, patient) {
			if c := spaced.FindString(s); c != "" {
				out = append(out, c)
			}
		}
	}
	return out
}

// openPickup goes the patient's way: link of the notice, code of the sender, page, attachment.
func (w *world) openPickup(t *testing.T, notice []byte, codes []string, subject string) {
	t.Helper()
	closed(t, notice, subject)
	link := regexp.MustCompile(`http://` + regexp.QuoteMeta(w.portal) + `/r/[0-9A-Za-z-]+`).FindString(text(t, notice))
	if link == "" {
		t.Fatalf("no link in:\n%s", text(t, notice))
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	read := func(res *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if page := read(client.Get(link)); strings.Contains(page, "Zebulon") {
		t.Fatal("the page shows the message before the code")
	}
	var page string
	for _, code := range slices.Backward(codes) { // the newest is the likeliest
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, link, strings.NewReader(url.Values{"code": {code}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "http://"+w.portal)
		if page = read(client.Do(req)); strings.Contains(page, words(subject)) {
			break
		}
	}
	if !strings.Contains(page, words(subject)) {
		t.Fatalf("none of the codes %q opens the message:\n%s", codes, page)
	}
	base, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		if u, err := base.Parse(strings.ReplaceAll(m[1], "&amp;", "&")); err == nil && u.Host == base.Host && strings.Contains(u.Path, "/f/") {
			if read(client.Get(u.String())) == string(attachment) {
				return
			}
		}
	}
	t.Error("no link of the page gives the attachment")
}
