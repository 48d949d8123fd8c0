package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// What must never be seen where it has no business, in a letter and in its life.
const (
	secretText   = "MARQUEUR-SANTE-GLYCEMIE"
	secretFile   = "MARQUEUR-FICHIER-RADIO"
	secretName   = "MARQUEUR-NOM.pdf"
	secretTitle  = "MARQUEUR-OBJET"
	secretAnswer = "MARQUEUR-REPONSE"
)

// sealedLetter is a message whose every part can be recognised.
func sealedLetter(to, tel string) string {
	file := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(secretFile+"\n", 5000)))
	return "From: Dr <dr@clinic.test>\nTo: " + to + "\nSubject: " + secretTitle + tel + "\nMessage-ID: <" + strings.ToLower(newName()) + "@clinic.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0000\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n" + secretText + "\n--b\nContent-Type: application/pdf; name=\"" + secretName + "\"\n" +
		"Content-Disposition: attachment; filename=\"" + secretName + "\"\nContent-Transfer-Encoding: base64\n\n" + regexp.MustCompile(`.{76}`).ReplaceAllString(file, "$0\n") + "\n--b--\n"
}

func newName() string { return time.Now().Format("150405.000000000") }

// notice is what a patient's mailbox holds of one deposit.
type notice struct {
	link, secret, access string // access without blanks, in lower case
	raw                  string
}

func readNotice(t *testing.T, m gatewaytest.Message) notice {
	t.Helper()
	n := notice{raw: strings.NewReplacer("=\r\n", "", "=3D", "=").Replace(string(m.Data))}
	n.link = regexp.MustCompile(`https?://[^\s"<]+/r/[0-9a-z]{26}`).FindString(n.raw)
	n.access = strings.ToLower(strings.ReplaceAll(regexp.MustCompile(`\b[0-9A-Z]{4} [0-9A-Z]{4} [0-9A-Z]{4} [0-9A-Z]{4}\b`).FindString(n.raw), " ", ""))
	if n.link == "" || n.access == "" {
		t.Fatalf("no link or no access code in the notice: %s", n.raw)
	}
	n.secret = n.link[len(n.link)-26:]
	return n
}

// reader is a patient's browser.
type reader struct {
	t      *testing.T
	client *http.Client
}

func newReader(t *testing.T, transport http.RoundTripper) *reader {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{t, &http.Client{Jar: jar, Transport: transport, Timeout: 2 * time.Minute}}
}

// do gives status and body.
func (r *reader) do(method, url string, body io.Reader, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Referer", url)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (r *reader) post(url string, form url.Values) (int, string) {
	r.t.Helper()
	return r.do("POST", url, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// openBySMS asks for a code, types the newest one of the provider's, and gives it with the page behind it.
func (r *reader) openBySMS(link string, sms *gatewaytest.SMS, n int) (code, page string) {
	r.t.Helper()
	if status, page := r.post(link+"/code", nil); status != http.StatusOK {
		r.t.Fatalf("ask for the code: %d %s", status, page)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	texts, err := sms.Wait(ctx, n)
	if err != nil {
		r.t.Fatal(err)
	}
	code = strings.ReplaceAll(regexp.MustCompile(`\d{3} ?\d{3}`).FindString(texts[n-1].Text), " ", "")
	status, page := r.post(link, url.Values{"code": {code}})
	if status != http.StatusOK || !strings.Contains(page, secretText) {
		r.t.Fatalf("open with the code: %d %s", status, page)
	}
	return code, page
}

// answer sends text and a file of size octets.
func (r *reader) answer(link string, size int) (int, string) {
	r.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	w.WriteField("texte", secretAnswer)
	f, err := w.CreateFormFile("fichiers", "reponse.bin")
	if err != nil {
		r.t.Fatal(err)
	}
	f.Write(bytes.Repeat([]byte(secretAnswer), size/len(secretAnswer)))
	w.Close()
	return r.do("POST", link+"/reponse", &b, "Content-Type", w.FormDataContentType())
}
