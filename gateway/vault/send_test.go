package vault

import (
	"context"
	"errors"
	"net/mail"
	"strings"
	"testing"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// leaving is a browser that goes away while the code is on its way.
type leaving struct {
	*sentSMS
	leave func()
}

func (l *leaving) Send(ctx context.Context, phone, text string) error {
	l.leave()
	return errors.Join(l.sentSMS.Send(ctx, phone, text), ctx.Err())
}

func TestLeavingDoesNotPassTheSMSLimit(t *testing.T) {
	sms := &leaving{sentSMS: &sentSMS{}}
	h := open(t, func(c *Config) { c.SMS = sms })
	d := h.deposit(t, "0612341234")
	for range perQuick + 2 {
		ctx, leave := context.WithCancel(t.Context())
		sms.leave = leave
		h.SendCode(ctx, secretOf(d))
		leave()
	}
	if len(sms.text) != perQuick {
		t.Errorf("%d SMS left, want %d", len(sms.text), perQuick)
	}
}

func TestCodeThatNeverReachedTheSenderIsMadeAgain(t *testing.T) {
	var away error
	told := 0
	h := open(t, func(c *Config) {
		c.ToSender = func(context.Context, message.Address, *message.Body) error {
			if away == nil {
				told++
			}
			return away
		}
	})
	d := h.deposit(t, "")
	if err := h.db.Write(t.Context(), func(tx store.Tx) error { _, err := tx.Exec(`UPDATE vault_deposits SET code1 = NULL`); return err }); err != nil { // as after 20 wrong ones
		t.Fatal(err)
	}
	away = errors.New("clinic's server away")
	want(t, h.SendCode(t.Context(), secretOf(d)), NotSent)
	if w, err := h.Look(t.Context(), secretOf(d)); err != nil || w.CodeSent {
		t.Fatalf("the page asks for a code that nobody knows: %+v, %v", w, err)
	}
	away = nil
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil || told != 1 {
		t.Fatalf("told %d times, %v", told, err)
	}
}

func TestLabelIsNoPartOfTheAddress(t *testing.T) {
	h := open(t, func(c *Config) { c.NoticeLabel = "Clinique St. Jean (Lyon), <urgences@x.test>\r\nBcc: y@x.test" })
	d := h.deposit(t, "")
	b, err := h.Notice(d, NoticeRequest{From: message.Address{Local: "avis", Domain: "clinique.test"}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(string(b.Peek(0))))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := m.Header.AddressList("From"); err != nil || len(a) != 1 || a[0].Address != "avis@clinique.test" || m.Header.Get("Bcc") != "" {
		t.Errorf("%q: %v, %v", m.Header.Get("From"), a, err)
	}
}
