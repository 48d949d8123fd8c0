package vault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
)

// told is a vault with what its owner told again.
type told struct {
	*house
	told []Phrase
	err  error
}

func openTold(t *testing.T) *told {
	h := &told{}
	h.house = open(t, func(c *Config) {
		c.TellPhrase = func(_ context.Context, p Phrase) error {
			if h.err == nil {
				h.told = append(h.told, p)
			}
			return h.err
		}
	})
	return h
}

const words = "corail-menthe-sillon-moulin-citron-verger-tulipe-cabane"

func phraseFor(phone string) Phrase {
	return Phrase{Sender: message.Address{Local: "dr", Domain: "clinique.test"}, Recipient: message.Address{Local: "labo", Domain: "mail.test"}, Words: words, Phone: phone}
}

func (h *told) keep(t *testing.T, p Phrase) (link string) {
	t.Helper()
	link = token.NewLink()
	if err := h.KeepPhrase(t.Context(), link, p); err != nil {
		t.Fatal(err)
	}
	return link
}

// TestPhraseTold: by SMS and by the sender, in the limits of codes by link and by number, and until the end.
func TestPhraseTold(t *testing.T) {
	h := openTold(t)
	link, other := h.keep(t, phraseFor("+33612345678")), h.keep(t, phraseFor("+33612345678"))
	v, err := h.LookPhrase(t.Context(), link)
	if err != nil || v.Mode != BySMS || v.MaskedPhone != "06 .. .. 56 78" || !v.AskSender || !v.Expires.Equal(noon.Add(30*day)) {
		t.Fatalf("%+v %v", v, err)
	}
	h.err = errors.New("away")
	for range 5 { // what was not handed over does not count
		want(t, h.TellPhrase(t.Context(), link, BySMS), NotSent)
		h.now = h.now.Add(time.Second)
	}
	h.err = nil
	for i := range 3 {
		if err := h.TellPhrase(t.Context(), []string{link, other, link}[i], BySMS); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(time.Second)
	}
	if len(h.told) != 3 || h.told[0].Words != words || h.told[0].Phone != "+33612345678" {
		t.Fatalf("%+v", h.told)
	}
	want(t, h.TellPhrase(t.Context(), other, BySMS), Limited) // the number has had three
	d := h.deposit(t, "06 12 34 56 78")
	want(t, h.SendCode(t.Context(), secretOf(d)), Limited) // codes count with them
	if err := h.TellPhrase(t.Context(), other, BySender); err != nil || h.told[3].Phone != "" {
		t.Fatalf("%v", err) // nothing goes to the number
	}
	day0 := h.now
	for n := 3; n < perDay; n++ {
		h.now = h.now.Add(quick)
		if err := h.TellPhrase(t.Context(), link, BySMS); err != nil {
			t.Fatalf("%d in %s: %v", n, h.now.Sub(day0), err)
		}
	}
	h.now = h.now.Add(quick)
	want(t, h.TellPhrase(t.Context(), link, BySMS), Limited)

	h.now = noon.Add(30 * day)
	want(t, h.TellPhrase(t.Context(), link, BySMS), Gone)
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, h.TellPhrase(t.Context(), link, BySMS), NotFound)
	want(t, h.TellPhrase(t.Context(), "x", BySMS), NotFound)
}

// TestPhraseModes: what there is nobody to tell is not told.
func TestPhraseModes(t *testing.T) {
	h := openTold(t)
	agreed, alone := phraseFor("+33612345678"), phraseFor("")
	agreed.Words, alone.Sender = "", message.Address{}
	for name, c := range map[string]struct {
		p         Phrase
		mode      Mode
		ask       bool
		sms, mail Reason
	}{
		"by the sender": {phraseFor(""), BySender, true, NotSent, ""}, "agreed": {agreed, BySecret, false, NotSent, NotSent}, "no sender": {alone, BySender, false, NotSent, NotSent},
	} {
		link := h.keep(t, c.p)
		v, err := h.LookPhrase(t.Context(), link)
		if err != nil || v.Mode != c.mode || v.AskSender != c.ask || v.MaskedPhone != "" {
			t.Errorf("%s: %+v %v", name, v, err)
		}
		if got := Why(h.TellPhrase(t.Context(), link, BySMS)); got != c.sms {
			t.Errorf("%s: by SMS %q", name, got)
		}
		if got := Why(h.TellPhrase(t.Context(), link, BySender)); got != c.mail {
			t.Errorf("%s: by the sender %q", name, got)
		}
		want(t, h.TellPhrase(t.Context(), link, BySecret), NotSent)
	}
	if len(h.told) != 1 {
		t.Errorf("%d were told", len(h.told))
	}
}

// TestPhraseSealed: on the disk nothing is in clear, and neither server key nor link opens the words alone. A repeated attempt changes the phone.
func TestPhraseSealed(t *testing.T) {
	h := openTold(t)
	link := h.keep(t, phraseFor("+33612345678"))
	if err := h.KeepPhrase(t.Context(), link, phraseFor("+33612349999")); err != nil {
		t.Fatal(err)
	}
	if v, err := h.LookPhrase(t.Context(), link); err != nil || v.MaskedPhone != "06 .. .. 99 99" {
		t.Errorf("%+v %v", v, err)
	}
	r, err := h.phrase(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	open := func(k seal.Key) error { _, err := seal.OpenValue(k, "phrase", r.id, r.words); return err }
	stranger := *h.Vault
	stranger.cfg.Key = seal.Key{8}
	if err := open(h.phraseKey(link)); err != nil {
		t.Fatal(err)
	}
	if open(seal.Key{7}) == nil || open(h.phraseKey(token.NewLink())) == nil || open(stranger.phraseKey(link)) == nil {
		t.Error("half of the keys opened the words")
	}
	for _, dir := range h.disks(t) {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			p, err := os.ReadFile(path)
			for _, s := range []string{words, "menthe-sillon", "612345678", "612349999", link} {
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
	if h.KeepPhrase(t.Context(), "short", phraseFor("")) == nil {
		t.Error("kept under no secret")
	}
}
