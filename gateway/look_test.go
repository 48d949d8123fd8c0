package gateway_test

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/vault"
)

// The clinic's logo, colours and words are on its pages and in its notices, a reload brings new ones, and a faulty file leaves the former in force.
func TestBrandOnPagesAndNotices(t *testing.T) {
	dir := t.TempDir()
	texts, logo := filepath.Join(dir, "textes"), filepath.Join(dir, "logo.png")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 200, 50))); err != nil {
		t.Fatal(err)
	}
	write(logo, picture.String())
	if err := os.Mkdir(texts, 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(texts, "fr.yaml"), "link.h1: 'Un courrier de la clinique'\nmail.sent: '{clinic} vous a mis un courrier à l''abri.'\nsms.text: '{code} est votre code ({clinic})'\n")
	l := newLife(t, `, brand: {logo: "`+logo+`", colour: "#6a1b4d", accent: "#7a2b5d", texts: "`+texts+`"}`)
	send := func(want string) string {
		t.Helper()
		n := len(l.sink.To("a@patient.test"))
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x [tel:0612345678]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
			t.Fatal(got)
		}
		text := string(arrived(t, l.sink, "a@patient.test", n+1)[n].Data)
		text = strings.NewReplacer("=\r\n", "", "=C3=A0", "à", "=3D", "=").Replace(text)
		if !strings.Contains(text, want) {
			t.Errorf("the notice lacks %q: %s", want, text)
		}
		return regexp.MustCompile(`http://[^/\s]+/r/[0-9a-z]{26}`).FindString(text)
	}
	get := func(url string) string {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
		}
		return string(b)
	}
	look := func(page string) (css, img string) {
		t.Helper()
		base := "http://" + l.portal
		css = get(base + regexp.MustCompile(`stylesheet" href="([^"]+)"`).FindStringSubmatch(page)[1])
		if m := regexp.MustCompile(`<img src="([^"]+)"`).FindStringSubmatch(page); m != nil {
			img = get(base + m[1])
		}
		return css, img
	}
	link := send("vous a mis un courrier à l")
	page := get(link)
	css, img := look(page)
	if !strings.Contains(page, "Un courrier de la clinique") || !strings.Contains(css, ".bar{background:#6a1b4d") || !strings.Contains(css, "a{color:#7a2b5d}") || !strings.HasPrefix(img, "\x89PNG") {
		t.Errorf("the page is not the clinic's: %s", page)
	}
	if !strings.Contains(get(link+"?lang=en"), "A confidential message is waiting for you") {
		t.Error("a language without a file lost its words")
	}
	if _, err := http.Post(link+"/code", "application/x-www-form-urlencoded", nil); err != nil {
		t.Fatal(err)
	}
	if sms, err := l.sms.Wait(t.Context(), 1); err != nil || !strings.Contains(sms[0].Text, "est votre code (Clinique Test)") {
		t.Errorf("the SMS: %v %v", sms, err)
	}

	write(filepath.Join(texts, "fr.yaml"), "link.h1: 'Autre titre'\n")
	l.reload(t, "#6a1b4d", "#1b4d6a")
	if css, _ := look(get(link)); !strings.Contains(get(link), "Autre titre") || !strings.Contains(css, "#1b4d6a") {
		t.Error("the reload changed nothing")
	}
	send("vous a envoy")

	write(filepath.Join(texts, "fr.yaml"), "link.h1: 'Encore un'\n\nmail.until: 'Sans date'\nmail.sent: '{clinic}, {sender}'\n")
	path := filepath.Join(l.dir, "passerelle.yaml")
	load := func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }
	err := l.g.Reload(t.Context(), load)
	if err == nil || !strings.Contains(err.Error(), "fr.yaml:3:1: mail.until: lacks {until}") || !strings.Contains(err.Error(), "fr.yaml:4:1: mail.sent: has {sender}, which is not known here: {clinic}") {
		t.Errorf("the reload says %v", err)
	}
	if !strings.Contains(get(link), "Autre titre") {
		t.Error("a faulty file came into force")
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.OpenReadOnly(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "fr.yaml:3:1: mail.until") {
		t.Errorf("check says %v", err)
	}
}

// The preview has every page and every mail, by the same templates, without a state folder or a name of anybody.
func TestPreview(t *testing.T) {
	cfg, err := config.Parse("c.yaml", []byte("state_dir: /nowhere\nclinic: {name: Clinique Test, phone: '01 02 03 04 05', domains: [clinic.test], networks: [127.0.0.1]}\nhops: {clinic: {addr: '127.0.0.1:1'}, internet: {addr: '127.0.0.1:2'}}\npickup: {url: https://courrier.clinic.test, brand: {colour: '#6a1b4d'}}\n"), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	if err := gateway.Preview(cfg, "", func(name string, b []byte) error { files[name] = string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"fr-lien-sms-1-demander.html": "Recevoir le code par SMS", "en-message.html": "Download", "index.html": "fr-expediteur.html",
		"courriel-avis-sms.txt": "il arrive par SMS", "courriel-avis-phrase.html": "la phrase convenue", "courriel-rappel-telephone.txt": "pas encore ouvert", "courriel-avis-personnel-sms.html": "MSSanté",
		"courriel-code.html": "123 456", "courriel-suivi-non-lu.txt": "pas encore lu", "courriel-numero-inconnu.txt": "RETENU", "courriel-suivi-non-remis.txt": "NOT DELIVERED", "courriel-suivi-fin.txt": "retiré sans avoir été ouvert", "courriel-suivi-lu.txt": "identity verified, exemple", "courriel-avis-sms.eml": "multipart/alternative", "courriel-avis-telephone.html": "#6a1b4d",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q: %s", name, want, files[name])
		}
	}
	var all strings.Builder
	for _, text := range files {
		all.WriteString(strings.Join(strings.Fields(text), " "))
		if m, err := mail.ReadMessage(strings.NewReader(text)); err == nil && m.Header.Get("Subject") != "" {
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil {
				t.Error(err)
			}
			all.WriteString(subject)
		}
	}
	for lang, texts := range vault.Words() { // who adds a sentence finds out here that the operator could not see it
		for key, text := range texts {
			for _, part := range regexp.MustCompile(`\{[a-z]+\}`).Split(text, -1) {
				if !strings.Contains(all.String(), strings.TrimSpace(part)) {
					t.Errorf("%s: %s is in no preview: %q", lang, key, part)
				}
			}
		}
	}
	for name, text := range files {
		if strings.Contains(text, "{clinic}") || strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "<no value>") {
			t.Errorf("%s has a hole: %s", name, text)
		}
	}
}

// A clinic words its receipts and how a deposit stands as every other mail and page; the preview shows it in both languages.
func TestReceiptsInOwnWords(t *testing.T) {
	texts := t.TempDir()
	for lang, text := range map[string]string{
		"fr": "stands.held: 'EN SUSPENS, numéro avant le {date}'\nstands.opened: 'lu le {date}, par {proof}'\nproof.sms: 'un code reçu'\nreceipt.ask: 'Il nous manque un numéro :'\nreceipt.subject.ask: 'Un numéro, svp'\n",
		"en": "stands.held: 'ON HOLD, number before {date}'\n",
	} {
		if err := os.WriteFile(filepath.Join(texts, lang+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse("c.yaml", []byte("state_dir: /nowhere\nclinic: {name: Clinique Test, phone: '01 02 03 04 05', domains: [clinic.test], networks: [127.0.0.1]}\nhops: {clinic: {addr: '127.0.0.1:1'}, internet: {addr: '127.0.0.1:2'}}\n"+
		"pickup: {url: https://courrier.clinic.test, brand: {texts: '"+texts+"'}}\n"), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	if err := gateway.Preview(cfg, "", func(name string, b []byte) error { files[name] = string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"courriel-numero-inconnu.txt": {"EN SUSPENS, numéro avant le ", "ON HOLD, number before ", "Il nous manque un numéro :"}, "courriel-numero-inconnu.eml": {"Un_num=C3=A9ro,_svp"},
		"courriel-suivi-lu.txt": {", par un code reçu", "code by SMS"}, "fr-expediteur.html": {"EN SUSPENS, numéro avant le "}, "en-expediteur.html": {"ON HOLD, number before "},
	} {
		for _, want := range wants {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %q: %s", name, want, files[name])
			}
		}
	}
	if err := os.WriteFile(filepath.Join(texts, "fr.yaml"), []byte("stands.held: 'EN SUSPENS'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Preview(cfg, "fr", func(string, []byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "stands.held: lacks {date}") {
		t.Errorf("a text without its date: %v", err)
	}
}
