package portal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/openid"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"

	"go.uber.org/goleak"
)

type testBlobs struct {
	dir    string
	opened func(vault.Blob) vault.Blob
}

type testBlob struct{ *os.File }

func (b testBlob) Size() int64 {
	s, err := b.Stat()
	if err != nil {
		return -1
	}
	return s.Size()
}
func (b testBlobs) Put(_ context.Context, id string, r io.Reader) error {
	p, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, id), p, 0o600)
}
func (b testBlobs) Open(id string) (vault.Blob, error) {
	f, err := os.Open(filepath.Join(b.dir, id))
	if b.opened != nil && err == nil {
		return b.opened(testBlob{f}), nil
	}
	return testBlob{f}, err
}
func (b testBlobs) Delete(_ context.Context, ids ...string) error {
	for _, id := range ids {
		if err := os.Remove(filepath.Join(b.dir, id)); err != nil {
			return err
		}
	}
	return nil
}
func (b testBlobs) List(context.Context, func([]string) error) error { return nil }

// site is a portal on a real socket, with a telephone and a clinic behind it.
type site struct {
	*vault.Vault
	t   *testing.T
	db  *store.DB
	srv *httptest.Server

	mu      sync.Mutex
	now     time.Time
	sms     []string
	answers []string
	refused []string
	replay  *recorded // what /_again shows
	refuse  error     // of the clinic's server
	told    string    // the last mail to the sender
	with    []func(*site) []*openid.Provider
	cut     int      // downloads or answers break off behind so many octets
	ranged  []string // what was asked for of files after that

	opened    func(vault.Blob) vault.Blob // looks at what is read of payloads
	maxAnswer int64
	tls       bool
}

// withProviders gives a site the buttons of what f makes.
func withProviders(f func(*site) []*openid.Provider) func(*site) {
	return func(s *site) { s.with = append(s.with, f) }
}

func (s *site) providers() (out []*openid.Provider) {
	for _, f := range s.with {
		out = append(out, f(s)...)
	}
	return out
}

func (s *site) Send(_ context.Context, _, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sms = append(s.sms, text)
	return nil
}

func (s *site) lastCode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sms) == 0 {
		s.t.Fatal("no SMS was sent")
	}
	return regexp.MustCompile(`\d{6}`).FindString(s.sms[len(s.sms)-1])
}

func (s *site) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func newSite(t *testing.T, change ...func(*site)) *site {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goleak.VerifyNone(t, leaks)
	})
	s := &site{t: t, maxAnswer: 1 << 20, now: time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)}
	for _, c := range change {
		c(s)
	}
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s.db = db
	var h http.Handler
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_again" {
			s.replay.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(s.tunnelled(w, r), r)
	}))
	if s.tls {
		s.srv.StartTLS()
	} else {
		s.srv.Start()
	}
	t.Cleanup(s.srv.Close)
	s.Vault, err = vault.New(t.Context(), db, testBlobs{dir, s.opened}, vault.Config{Key: [32]byte{9}, PublicURL: s.srv.URL, SMS: s,
		ToSender: func(_ context.Context, _ message.Address, b *message.Body) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = string(b.Peek(0))
			return nil
		},
		ToRecipient: func(context.Context, message.Address, *message.Body) error { return nil },
		Clinic:      vault.Clinic{Name: "Clinique des Lilas", Phone: "01 23 45 67 89"}, Now: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	h, err = New(Config{Vault: s.Vault, MaxAnswer: s.maxAnswer, Providers: s.providers(), Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Refused: s.refuses, Resend: s.resends, Complete: s.completes, Answer: func(_ context.Context, a Answer) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuse != nil {
			return s.refuse
		}
		line := a.From.String() + " -> " + a.To.String() + " " + a.MessageID + ": " + a.Text
		for _, f := range a.Files {
			if f.Body.Size() > 1<<20 {
				line += fmt.Sprintf(" [%s %x]", f.Name, sha(f.Body))
				continue
			}
			line += " [" + f.Name + " " + f.Type + " " + string(f.Body.Peek(0)) + "]"
		}
		s.answers = append(s.answers, line)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const evil = `<p>Bonjour <b>Madame</b></p><script>alert(1)</script><img src="https://traceur.test/p.gif"><a href="javascript:x()">a</a><a href="https://ok.test/">lien</a><form action="/x"><input></form><p style="background:url(//traceur.test)">fin</p>`

// report is a PDF of 352 kB with one page.
var report = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n" +
	"4 0 obj<</Length 44>>stream\nBT /F 24 Tf 40 100 Td (Compte rendu) Tj ET  \nendstream endobj\n" +
	strings.Repeat("%compte rendu 123\n", 20_000) + "trailer<</Root 1 0 R>>\n%%EOF\n"

// picture is a small PNG.
func picture() string {
	m := image.NewGray(image.Rect(0, 0, 240, 160))
	for i := range m.Pix {
		m.Pix[i] = byte(i * 7 / 240)
	}
	var b strings.Builder
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}

func file(name, typ, content string) vault.File {
	return vault.File{Name: name, Type: typ, Open: func() io.Reader { return strings.NewReader(content) }}
}

func sha(b *message.Body) []byte {
	h := sha256.New()
	io.Copy(h, b.Section(0, -1))
	return h.Sum(nil)
}

func request(s *site) vault.DepositRequest {
	return vault.DepositRequest{Sender: message.Address{Local: "dr.martin", Domain: "clinique.test"}, Recipient: message.Address{Local: "patient", Domain: "mail.test"},
		Phone: "0612341234", Subject: "Résultats de votre examen", FromLabel: "Dr Claire Martin, service de cardiologie", MessageID: "<1@clinique.test>",
		Date: s.Now(), HTML: evil, Files: []vault.File{
			file("Compte-rendu d'écho – Mme Léa Dupont.pdf", "application/pdf", report),
			file("../../etc/pass\"wd\r\nX: y\u202efdp.html", "text/html; charset=utf-8", "<script>alert(1)</script>"),
			file("Ordonnance.pdf", "application/pdf", "court"), file("Écho.png", "application/octet-stream", picture())},
		Text: "Bonjour Madame Dupont,\n\nVeuillez trouver ci-joint le compte rendu de votre échographie et votre ordonnance.\n\nLe résultat est rassurant. Nous nous reverrons comme prévu dans six mois ; d'ici là, continuez votre traitement et appelez le secrétariat si vous avez une question.\n\nBien à vous,\nDr Claire Martin"}
}

func (s *site) deposit(change ...func(*vault.DepositRequest)) *vault.Deposit {
	s.t.Helper()
	r := request(s)
	for _, c := range change {
		c(&r)
	}
	d, err := s.Deposit(s.t.Context(), r)
	if err == nil {
		err = s.Activate(s.t.Context(), d.ID)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// dump is all that the database holds of deposits and codes.
func (s *site) dump() string {
	s.t.Helper()
	var n, codes int
	var all string
	err := s.db.Read().QueryRow(`SELECT COUNT(*), GROUP_CONCAT(state || changed || wrong || locked || openings || code1_until || HEX(code1)), (SELECT COUNT(*) FROM vault_codes) FROM vault_deposits`).Scan(&n, &all, &codes)
	if err != nil {
		s.t.Fatal(err)
	}
	return all + string(rune('0'+codes))
}

type browser struct {
	s       *site
	cookies []*http.Cookie
}

func (b *browser) do(method, url string, body io.Reader, header ...string) (*http.Response, string) {
	b.s.t.Helper()
	req, err := http.NewRequestWithContext(b.s.t.Context(), method, url, body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	resp, err := b.s.srv.Client().Transport.RoundTrip(req)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	b.cookies = append(b.cookies, resp.Cookies()...)
	return resp, string(p)
}

func (b *browser) post(url, form string) (*http.Response, string) {
	return b.do("POST", url, strings.NewReader(form), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
}

// login walks from the link to a proved code.
func (b *browser) login(d *vault.Deposit) {
	b.s.t.Helper()
	b.post(d.Link+"/code", "")
	if r, page := b.post(d.Link, "code="+b.s.lastCode()); r.StatusCode != http.StatusSeeOther {
		b.s.t.Fatalf("%s %s", r.Status, page)
	}
}
