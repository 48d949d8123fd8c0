package vault

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/crypto/seal"
	"passerelle/gateway/message"
)

// testBlobs is a folder that can fail.
type testBlobs struct {
	dir  string
	fail error
	away error // of Delete
}

type testBlob struct{ *os.File }

func (b testBlob) Size() int64 {
	s, err := b.Stat()
	if err != nil {
		return -1
	}
	return s.Size()
}

func (b *testBlobs) Put(ctx context.Context, id string, r io.Reader) error {
	p, err := io.ReadAll(r)
	if err = errors.Join(err, b.fail); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, id), p, 0o600)
}
func (b *testBlobs) Open(id string) (Blob, error) {
	f, err := os.Open(filepath.Join(b.dir, id))
	return testBlob{f}, err
}
func (b *testBlobs) Delete(ctx context.Context, ids ...string) error {
	if b.away != nil {
		return b.away
	}
	for _, id := range ids {
		if err := os.Remove(filepath.Join(b.dir, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
func (b *testBlobs) List(ctx context.Context, f func([]string) error) error { return f(b.names()) }

func (b *testBlobs) names() (ids []string) {
	es, _ := os.ReadDir(b.dir)
	for _, e := range es {
		ids = append(ids, e.Name())
	}
	return ids
}

type sentSMS struct {
	phone, text []string
	err         error
}

func (s *sentSMS) Send(_ context.Context, phone, text string) error {
	if s.err != nil {
		return s.err
	}
	s.phone, s.text = append(s.phone, phone), append(s.text, text)
	return nil
}

func (s *sentSMS) code() string {
	return regexp.MustCompile(`\d{6}`).FindString(s.text[len(s.text)-1])
}

type house struct {
	*Vault
	dir   string
	db    Database
	blobs *testBlobs
	sms   *sentSMS
	now   time.Time
}

var noon = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)

func open(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), sms: &sentSMS{}, now: noon}
	h.db, h.blobs = database(t, h.dir), &testBlobs{dir: filepath.Join(h.dir, "blobs")}
	if err := os.Mkdir(h.blobs.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Key: seal.Key{7}, PublicURL: "https://portail.clinique.test", Clinic: Clinic{"Clinique des Lilas", "01 23 45 67 89"},
		SMS: h.sms, Now: func() time.Time { return h.now }}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if h.Vault, err = New(t.Context(), h.db, h.blobs, cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

const marker = "la tumeur est benigne MARQUEUR-7731"

func request(phone string) DepositRequest {
	return DepositRequest{Sender: message.Address{Local: "dr.martin", Domain: "clinique.test"}, Recipient: message.Address{Local: "patient", Domain: "mail.test"},
		Phone: phone, Subject: "Sujet " + marker, FromLabel: "Dr Martin", MessageID: "<1@clinique.test>", Date: noon, Text: "Bonjour, " + marker,
		Files: []File{
			{Name: "compte-rendu " + marker + ".pdf", Type: "application/pdf", Open: func() io.Reader { return strings.NewReader(strings.Repeat(marker, 5000)) }},
			{Name: "vide.txt", Type: "text/plain", Open: func() io.Reader { return strings.NewReader("") }},
			{Name: "b.txt", Type: "text/plain", Open: func() io.Reader { return strings.NewReader("fin") }},
		}}
}

func (h *house) deposit(t *testing.T, phone string) *Deposit {
	t.Helper()
	d, err := h.Deposit(t.Context(), request(phone))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Activate(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	return d
}

func secretOf(d *Deposit) string { return d.Link[strings.LastIndex(d.Link, "/")+1:] }

var home = netip.MustParseAddr("198.51.100.7")

func want(t *testing.T, err error, r Reason) {
	t.Helper()
	if Why(err) != r {
		t.Fatalf("got %v, want %q", err, r)
	}
}

// SendCode and Prove are what a browser without a cookie does.
func (h *house) SendCode(ctx context.Context, link string) error {
	_, err := h.Ask(ctx, link)
	return err
}

func (h *house) Prove(ctx context.Context, link, code string, from netip.Addr) (string, error) {
	return h.Vault.Prove(ctx, link, code, "", from)
}
