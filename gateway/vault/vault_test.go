package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"passerelle/crypto/seal"
	"passerelle/gateway/message"
)

func TestDepositToContent(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "06 12 34 12 34")
	link := secretOf(d)
	if d.Mode != BySMS || d.Code != "" || d.MaskedPhone != "06 .. .. 12 34" || !d.Expires.Equal(noon.Add(30*24*time.Hour)) {
		t.Fatalf("%+v", d)
	}
	v, err := h.Look(t.Context(), strings.ToUpper(link)+".")
	if err != nil || v.CodeSent || v.MaskedPhone != "06 .. .. 12 34" {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := h.SendCode(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	if h.sms.phone[0] != "+33612341234" || strings.Contains(h.sms.text[0], link) {
		t.Fatalf("%+v", h.sms)
	}
	s, err := h.Prove(t.Context(), link, " "+h.sms.code()[:3]+" "+h.sms.code()[3:], home)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Open(t.Context(), link, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Subject != "Sujet "+marker || c.Text != "Bonjour, "+marker || len(c.Files) != 3 || c.MessageID != "<1@clinique.test>" {
		t.Fatalf("%+v", c.Manifest)
	}
	for i, w := range []string{strings.Repeat(marker, 5000), "", "fin"} {
		if got, err := io.ReadAll(c.File(i)); err != nil || string(got) != w || c.Files[i].Size != int64(len(w)) {
			t.Errorf("file %d: %d octets, %v", i, len(got), err)
		}
	}
	p := make([]byte, 7)
	if _, err := c.File(0).ReadAt(p, 100_001); err != nil || string(p) != strings.Repeat(marker, 5000)[100_001:100_008] {
		t.Errorf("range: %q, %v", p, err)
	}
}

func TestSessionIsForOneDepositAndEnds(t *testing.T) {
	h := open(t)
	a, b := h.deposit(t, ""), h.deposit(t, "")
	s, err := h.Prove(t.Context(), secretOf(a), a.Code, home)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", ".", "ffffffffff.", "ffffffffff." + s[strings.Index(s, ".")+1:]} {
		_, err = h.Open(t.Context(), secretOf(a), bad)
		want(t, err, NoSession)
	}
	_, err = h.Open(t.Context(), secretOf(b), s)
	want(t, err, NoSession)
	h.now = h.now.Add(sessionLife)
	_, err = h.Open(t.Context(), secretOf(a), s)
	want(t, err, NoSession)
}

func TestPendingOpensForNobody(t *testing.T) {
	h := open(t)
	d, err := h.Deposit(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Look(t.Context(), secretOf(d))
	want(t, err, NotFound)
	_, err = h.Prove(t.Context(), secretOf(d), d.Code, home)
	want(t, err, NotFound)
	h.now = h.now.Add(59 * time.Minute)
	if s, err := h.Sweep(t.Context()); err != nil || s != (Swept{}) {
		t.Fatalf("%+v, %v", s, err)
	}
	h.now = h.now.Add(2 * time.Minute)
	if s, err := h.Sweep(t.Context()); err != nil || s != (Swept{Pending: 1}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if h.Activate(t.Context(), d.ID) == nil {
		t.Fatal("activated after the sweep")
	}
}

func TestExpiryIsCheckedAtAccess(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	s, err := h.Prove(t.Context(), secretOf(d), d.Code, home)
	if err != nil {
		t.Fatal(err)
	}
	h.now = d.Expires
	_, err = h.Look(t.Context(), secretOf(d))
	want(t, err, Gone)
	_, err = h.Open(t.Context(), secretOf(d), s)
	want(t, err, Gone)
	want(t, h.SendCode(t.Context(), secretOf(d)), Gone)
	if sw, err := h.Sweep(t.Context()); err != nil || sw.Expired != 1 || sw.Orphans != 0 {
		t.Fatalf("%+v, %v", sw, err)
	}
	_, err = h.Look(t.Context(), secretOf(d))
	want(t, err, Gone)
	r, err := h.row(t.Context(), "id = ?", d.ID)
	if err != nil || r.header != nil || r.resend != nil || r.phone != nil || r.code1 != nil || r.opened == 0 || r.state != Expired {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestRevokeAndDestroy(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	s, err := h.Prove(t.Context(), secretOf(d), d.Code, home)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.Open(t.Context(), secretOf(d), s)
	want(t, err, Gone)
	if _, err := h.Reissue(t.Context(), d.ID); err == nil {
		t.Fatal("reissued after revocation")
	}
	p, err := h.Deposit(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Destroy(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if ids := h.blobs.names(); len(ids) != 0 {
		t.Fatalf("left: %v", ids)
	}
}

func TestFailedBlobLeavesNothing(t *testing.T) {
	h := open(t)
	h.blobs.fail = errors.New("disk full")
	if _, err := h.Deposit(t.Context(), request("")); !errors.Is(err, h.blobs.fail) {
		t.Fatalf("%v", err)
	}
	var n int
	if err := h.db.Read().QueryRow(`SELECT COUNT(*) FROM vault_deposits`).Scan(&n); err != nil || n != 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

func TestReissueGivesTheSameLinkUnlessStrict(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	again, err := h.Reissue(t.Context(), d.ID)
	if err != nil || again.Link != d.Link {
		t.Fatalf("%v", err)
	}
	h = open(t, func(c *Config) { c.Strict = true })
	if _, err := h.Reissue(t.Context(), h.deposit(t, "").ID); err == nil {
		t.Fatal("strict, and the link came back")
	}
}

// Each case names what was stolen.
func TestThieves(t *testing.T) {
	h := open(t, func(c *Config) { c.Strict = true })
	d := h.deposit(t, "0612341234")
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
		t.Fatal(err)
	}
	r, err := h.row(t.Context(), "id = ?", d.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.blobs.Open(d.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	try := func(key seal.Key, secret string) error {
		l, err := seal.NewLock(key, []byte(secret), d.ID)
		if err == nil {
			_, _, err = seal.Open(l, r.header, b, b.Size())
		}
		return err
	}
	if err := try(seal.Key{7}, secretOf(d)); err != nil {
		t.Fatal(err)
	}
	if try(seal.Key{}, secretOf(d)) == nil {
		t.Error("database, blobs and the mailbox: opened without the server key")
	}
	if try(seal.Key{7}, strings.Repeat("0", 26)) == nil {
		t.Error("database, blobs and the server key under strict: opened without the link")
	}
	if _, err := h.Vault.Open(t.Context(), secretOf(d), ""); Why(err) != NoSession {
		t.Error("the mailbox alone: opened without a code")
	}
}

func TestNothingInClearOnDisk(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "0612341234")
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range h.disks(t) {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			p, err := os.ReadFile(path)
			for _, s := range []string{"MARQUEUR", "tumeur", "compte-rendu", secretOf(d), h.sms.code(), "612341234", "06 12"} {
				if bytes.Contains(p, []byte(s)) {
					t.Errorf("%s is in clear in %s", s, filepath.Base(path))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNotice(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "0612341234")
	b, err := h.Notice(d, NoticeRequest{From: message.Address{Local: "postmaster", Domain: "clinique.test"}, Keep: []byte("X-Check-Id: 42\r\n")})
	if err != nil {
		t.Fatal(err)
	}
	raw := string(b.Peek(0))
	if regexp.MustCompile(`(^|[^\r])\n`).MatchString(raw) || regexp.MustCompile(`[^\r\n\x20-\x7e]`).MatchString(raw) || regexp.MustCompile(`[^\n]{200}`).MatchString(raw) {
		t.Error("not plain CRLF lines")
	}
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for k, w := range map[string]string{"To": "<patient@mail.test>", "X-Check-Id": "42", "Auto-Submitted": "auto-generated",
		"From": "=?utf-8?q?Messagerie_s=C3=A9curis=C3=A9e?= <postmaster@clinique.test>", "Reply-To": "", "Subject": "Un message vous attend / A message is waiting for you"} {
		if got := m.Header.Get(k); got != w {
			t.Errorf("%s: %q", k, got)
		}
	}
	plain := strings.ReplaceAll(raw, "=\r\n", "")
	for _, w := range []string{d.Link, "Clinique des Lilas", "01 23 45 67 89", "23 d=C3=A9cembre 2026 =C3=A0 12 h 00", "23 December 2026, 12:00", "par SMS"} {
		if strings.Count(plain, w) < 2 {
			t.Errorf("%q is missing", w)
		}
	}
	if strings.Contains(plain, "MARQUEUR") || strings.Contains(plain, "Martin") || strings.Contains(plain, "12 34") {
		t.Error("the notice is not neutral")
	}
	if _, err := h.Notice(d, NoticeRequest{From: d.Sender, Keep: []byte("A: b\r\n\r\nbody")}); err == nil {
		t.Error("a kept field ended the header")
	}
	if _, err := h.CodeForSender(d, NoticeRequest{}); err == nil {
		t.Error("a code by SMS was told to the sender")
	}
	s := h.deposit(t, "01 23 45 67 89")
	c, err := h.CodeForSender(s, NoticeRequest{})
	if err != nil || s.Mode != BySender {
		t.Fatal(err)
	}
	raw = string(c.Peek(0))
	if !strings.Contains(raw, s.Code[:3]+" "+s.Code[3:]) || !strings.Contains(raw, "To: <dr.martin@clinique.test>") || strings.Contains(raw, "MARQUEUR") || strings.Contains(raw, secretOf(s)) {
		t.Errorf("%s", raw)
	}
	if !strings.Contains(raw, "Son num=C3=A9ro de t=C3=A9l=C3=A9phone : 01 23 45 67 89\r\n") || !strings.Contains(raw, `telephone number: <strong`) {
		t.Errorf("whom to call is not said: %s", raw)
	}
	unknown := h.deposit(t, "")
	if c, err = h.CodeForSender(unknown, NoticeRequest{}); err != nil || strings.Contains(string(c.Peek(0)), "Son num") {
		t.Errorf("a number that nobody knows: %v", err)
	}
}

// A message whose reading breaks off is no deposit.
func TestCutMessageLeavesNothing(t *testing.T) {
	h := open(t)
	r := request("")
	r.Files = append(r.Files, File{Name: "coupe.pdf", Open: func() io.Reader {
		return io.MultiReader(strings.NewReader(strings.Repeat("x", 300_000)), iotest.ErrReader(errors.New("gone")))
	}})
	if _, err := h.Deposit(t.Context(), r); err == nil {
		t.Fatal("sealed")
	}
	var n int
	if err := h.db.Read().QueryRow(`SELECT COUNT(*) FROM vault_deposits`).Scan(&n); err != nil || n != 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
	if ids := h.blobs.names(); len(ids) != 0 {
		t.Fatalf("left: %v", ids)
	}
}

// Guesses at the same time are counted one by one: none slips past the lock.
func TestGuessesAtTheSameTime(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	bad := h.wrong(d.Code)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			h.Prove(context.WithoutCancel(t.Context()), secretOf(d), bad, netip.AddrFrom4([4]byte{byte(i + 1), 1, 1, 1}))
		})
	}
	wg.Wait()
	r, err := h.row(t.Context(), "id = ?", d.ID)
	if err != nil || r.wrong != codeBurst || r.locked == 0 {
		t.Fatalf("%d wrong, locked %d, %v", r.wrong, r.locked, err)
	}
}
