package vault

import (
	"strings"
	"testing"
	"time"
)

// A phrase agreed with the recipient opens for as long as the deposit lives; no code is ever sent in its place, and who guesses is locked out
// for a day, again and again, while the deposit stays.
func TestPhrase(t *testing.T) {
	h := open(t)
	r := request("06 12 34 56 78")
	r.Mode, r.Secret = BySecret, "  Le chat\tnoir 7"
	d, err := h.Deposit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Activate(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if d.Code != "" || d.Mode != BySecret {
		t.Errorf("%+v", d)
	}
	prove := func(s string) error {
		h.now = h.now.Add(20 * time.Second)
		_, err := h.Prove(t.Context(), secretOf(d), s, home)
		return err
	}
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil || len(h.sms.text) != 0 {
		t.Errorf("a code was sent: %v", err)
	}
	want(t, prove(""), WrongCode)
	want(t, prove(strings.Repeat("x", 600)), WrongCode)
	want(t, prove("Le chat noir"), WrongCode)
	want(t, prove("le chat noir 7"), WrongCode)
	if err := prove("Le chat noir  7 "); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		err := prove("123 456")
		if n%5 == 4 {
			want(t, err, Locked)
			v, lerr := h.Look(t.Context(), secretOf(d))
			if lerr != nil {
				t.Fatal(lerr)
			}
			if d := v.LockedUntil.Sub(h.now); d != lockStep<<(n/5) {
				t.Errorf("after %d wrong ones locked for %s", n+1, d)
			}
			h.now = v.LockedUntil
		} else {
			want(t, err, WrongCode)
		}
	}
	if err := prove("Le chat noir 7"); err != nil {
		t.Errorf("the deposit is lost: %v", err)
	}
	r.Secret = "e\u0301te\u0301 2026" // as some systems write "été"
	if d, err = h.Deposit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := h.Activate(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if err := prove("été 2026"); err != nil {
		t.Errorf("letters composed otherwise: %v", err)
	}
	r.Secret = " \n"
	if _, err := h.Deposit(t.Context(), r); err == nil {
		t.Error("an empty phrase was taken")
	}
}
