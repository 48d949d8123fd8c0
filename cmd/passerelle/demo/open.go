package demo

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/mail"
	"net/url"
	"regexp"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/crypto/zipaes"
	"passerelle/gateway/gatewaytest"
)

// checkOpenPGP decrypts with the colleague's private key and compares.
func (w *world) checkOpenPGP(ctx context.Context, subject string) (string, error) {
	const begin, end = "-----BEGIN PGP MESSAGE-----", "-----END PGP MESSAGE-----"
	var inner []byte
	m, err := newest(ctx, w.internet, colleague, func(m gatewaytest.Message) bool {
		i, j := bytes.Index(m.Data, []byte(begin)), bytes.Index(m.Data, []byte(end))
		if i < 0 || j < i {
			return false
		}
		md, err := openpgp.ReadMessage(armored(m.Data[i:j+len(end)]), openpgp.EntityList{w.key}, nil, nil)
		if err != nil {
			return false
		}
		inner, err = io.ReadAll(md.UnverifiedBody)
		return err == nil && bytes.Contains(inner, []byte(subject))
	})
	if err != nil {
		return "", fmt.Errorf("nothing arrived that the key opens: %w", err)
	}
	if err := w.hidden(m.Data, subject); err != nil {
		return "", err
	}
	if err := w.sameAttachment(inner); err != nil {
		return "", err
	}
	return "PGP/MIME; decrypted with the colleague's key", nil
}

// checkZIP takes the passphrase from the SMS and opens the archive.
func (w *world) checkZIP(ctx context.Context, subject string) (string, error) {
	var fault error
	_, err := newest(ctx, w.internet, zipper, func(m gatewaytest.Message) bool {
		if fault = w.hidden(m.Data, subject); fault != nil {
			return false
		}
		archive, err := zipOf(m.Data)
		if err != nil {
			return false
		}
		for _, t := range w.sms.Messages() {
			words := strings.Fields(t.Text)
			if ok, err := w.zipHolds(archive, words[len(words)-1], subject); ok {
				return true
			} else if err != nil {
				fault = err
			}
		}
		return false
	})
	if err != nil {
		return "", fmt.Errorf("no archive that the SMS opens: %w", or(fault, err))
	}
	return "AES-256 ZIP; opened with the passphrase of the SMS", nil
}

func or(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// zipHolds tells whether the archive opens and holds the message and its attachment.
func (w *world) zipHolds(archive []byte, passphrase, subject string) (bool, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return false, err
	}
	text, same := false, false
	for _, f := range z.File {
		r, err := zipaes.Open(f, passphrase)
		if err != nil {
			return false, nil // another message's passphrase
		}
		got, err := io.ReadAll(r)
		if err != nil {
			return false, err
		}
		text = text || bytes.Contains(got, []byte(subject))
		same = same || w.compare(got) == nil
	}
	return text && same, nil
}

func zipOf(raw []byte) ([]byte, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(p.FileName(), ".zip") {
			return io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
		}
	}
}

// checkPickup walks as the patient does: link, code by SMS, message, attachment.
func (w *world) checkPickup(ctx context.Context, subject string) (string, error) {
	tried := map[string]bool{}
	var fault error
	_, err := newest(ctx, w.internet, patient, func(m gatewaytest.Message) bool {
		if fault = w.hidden(m.Data, subject); fault != nil {
			return false
		}
		link := regexp.MustCompile(`http://` + regexp.QuoteMeta(w.portalAddr) + `/r/[0-9A-Za-z-]+`).Find(plainText(m.Data))
		if link == nil || tried[string(link)] {
			return false
		}
		tried[string(link)] = true
		w.link = string(link)
		fault = w.openLink(ctx, string(link), subject)
		return fault == nil
	})
	if err != nil {
		return "", fmt.Errorf("no notice whose link opens: %w", or(fault, err))
	}
	return "a neutral notice; opened with the code of the SMS", nil
}

// plainText undoes quoted-printable soft breaks, enough to find a link.
func plainText(raw []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("=\r\n"), nil), []byte("=3D"), []byte("="))
}

func (w *world) openLink(ctx context.Context, link, subject string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	b := &browser{ctx: ctx, client: &http.Client{Jar: jar}}
	before := len(w.sms.Messages())
	if err := b.get(link); err != nil {
		return err
	}
	if err := b.submit("", nil); err != nil { // "send me the code"
		return err
	}
	texts, err := w.sms.Wait(ctx, before+1)
	if err != nil {
		return fmt.Errorf("no SMS came: %w", err)
	}
	code := regexp.MustCompile(`\d{3} ?\d{3}`).FindString(texts[len(texts)-1].Text)
	if err := b.submit("code", url.Values{"code": {code}}); err != nil {
		return err
	}
	if !strings.Contains(b.page, subject) {
		return fmt.Errorf("the page does not show the message")
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(b.page, -1) {
		if got, err := b.fetch(m[1]); err == nil && w.compare(got) == nil {
			return nil
		}
	}
	return fmt.Errorf("no link of the page gives the attachment")
}

// browser follows forms without JavaScript, as an old phone may.
type browser struct {
	ctx    context.Context
	client *http.Client
	at     *url.URL
	page   string
}

func (b *browser) do(req *http.Request) error {
	res, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	page, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 400 {
		return fmt.Errorf("%s answered %s", req.Method, res.Status)
	}
	b.at, b.page = res.Request.URL, string(page)
	return nil
}

func (b *browser) get(link string) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, link, nil)
	if err != nil {
		return err
	}
	return b.do(req)
}

func (b *browser) fetch(href string) ([]byte, error) {
	u, err := b.at.Parse(strings.ReplaceAll(href, "&amp;", "&"))
	if err != nil || u.Host != b.at.Host {
		return nil, fmt.Errorf("link leads elsewhere")
	}
	other := *b
	if err := other.get(u.String()); err != nil {
		return nil, err
	}
	return []byte(other.page), nil
}

// submit sends the form that holds the named field; "" is the first form without a visible field.
func (b *browser) submit(field string, values url.Values) error {
	for _, form := range regexp.MustCompile(`(?is)<form\b.*?</form>`).FindAllString(b.page, -1) {
		hasField := field != "" && strings.Contains(form, `name="`+field+`"`)
		if field != "" && !hasField || field == "" && strings.Contains(form, `autocomplete="one-time-code"`) {
			continue
		}
		action := b.at
		if m := regexp.MustCompile(`(?i)action="([^"]*)"`).FindStringSubmatch(form); m != nil {
			var err error
			if action, err = b.at.Parse(m[1]); err != nil {
				return err
			}
		}
		v := url.Values{}
		for _, in := range regexp.MustCompile(`(?is)<(?:input|button)\b[^>]*>`).FindAllString(form, -1) {
			name := regexp.MustCompile(`name="([^"]*)"`).FindStringSubmatch(in)
			value := regexp.MustCompile(`value="([^"]*)"`).FindStringSubmatch(in)
			if name != nil && value != nil {
				v.Set(name[1], value[1])
			}
		}
		for k := range values {
			v.Set(k, values.Get(k))
		}
		req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, action.String(), strings.NewReader(v.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
		return b.do(req)
	}
	return fmt.Errorf("the page has no form for %q", field)
}

// armored gives the bytes inside an armour; what cannot be read is given as an empty message, which no key opens.
func armored(text []byte) io.Reader {
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil {
		return bytes.NewReader(nil)
	}
	return block.Body
}
