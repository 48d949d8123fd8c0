package vault

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"

	dto "github.com/prometheus/client_model/go"
)

func TestSamePatient(t *testing.T) {
	given := Identity{BirthName: "Lefèvre-d'Arc", FirstNames: "Jean Pierre", BirthDate: "1962-08-24"}
	for _, c := range []struct {
		birth, first, date string
		same               bool
	}{
		{"LEFEVRE D ARC", "Jean-Pierre", "1962-08-24", true},
		{"LEFÈVRE D’ARC", "JEAN PIERRE ANDRÉ", "1962-08-24", true},
		{"LEFEVREDARC", "Jean, Pierre", "24/08/1962", true},
		{"Lefe\u0300vre-d'Arc", "jean-pierre andré", "1962-08-24", true},
		{"LEFEVRE D ARC", "Jean", "1962-08-24", false},
		{"LEFEVRE D ARC", "Pierre Jean", "1962-08-24", false},
		{"LEFEVRE D ARC", "Jean Pierrette", "1962-08-24", false},
		{"LEFEVRE D ARC", "Jean Pierre", "1962-08-25", false},
		{"LEFEVRE", "Jean Pierre", "1962-08-24", false},
		{"", "", "", false},
		{"LEFEVRE D ARC", "", "1962-08-24", false},
		{"LEFEVRE D ARC", "Jean Pierre", "", false},
	} {
		if got := given.samePatient(Identity{BirthName: c.birth, FirstNames: c.first, BirthDate: c.date}); got != c.same {
			t.Errorf("%q %q %q: %v", c.birth, c.first, c.date, got)
		}
	}
	one := Identity{BirthName: "Œuf", FirstNames: "Anne", BirthDate: "1962-00-00"}
	if !one.samePatient(Identity{BirthName: "OEUF", FirstNames: "Anne Marie", BirthDate: "1962-00-00"}) {
		t.Error("first of two first names, a day that nobody knows")
	}
	if one.samePatient(Identity{BirthName: "OEUF", FirstNames: "Anne-Marie", BirthDate: "1962-00-00"}) {
		t.Error("half of a double first name")
	}
	if (Identity{}).samePatient(Identity{}) || (Identity{}).sameProfessional(Identity{}) || (Identity{RPPS: "8"}).sameProfessional(Identity{RPPS: "8"}) {
		t.Error("nobody is nobody")
	}
	if !(Identity{RPPS: "10000000009"}).sameProfessional(Identity{RPPS: "810000000009"}) || (Identity{RPPS: "10000000009"}).sameProfessional(Identity{RPPS: "810000000017"}) {
		t.Error("RPPS")
	}
}

func TestIdentityIsSealedAndErased(t *testing.T) {
	h := open(t)
	r := request("")
	r.Identity = Identity{BirthName: "Durandmarque", FirstNames: "Anne", BirthDate: "1962-08-24"}
	d, err := h.Deposit(t.Context(), r)
	if err == nil {
		err = h.Activate(t.Context(), d.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	look := func() {
		if err := h.db.Read().QueryRow(`SELECT identity FROM vault_deposits WHERE id = ?`, d.ID).Scan(&sealed); err != nil {
			t.Fatal(err)
		}
	}
	if look(); len(sealed) == 0 || strings.Contains(string(sealed), "Durandmarque") {
		t.Errorf("%q", sealed)
	}
	if err := h.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if look(); sealed != nil {
		t.Error("the identity outlives the content")
	}
	_, err = h.Identify(t.Context(), secretOf(d), Shown{Identity: r.Identity, Provider: "fc"}, home)
	want(t, err, Gone)
}

// What a guesser with every network, the link, and every code request that the limits leave him gets to compare in a month, against each code:
// the budget in docs/security.md.
func TestGuessingBudgetOfAMonth(t *testing.T) {
	if testing.Short() {
		t.Skip("a month of guesses")
	}
	h := open(t)
	d := h.deposit(t, "0612341234")
	link := secretOf(d)
	compared := 0.0
	var asked string
	for i, end := 0, h.now.Add(30*day); h.now.Before(end); i++ { // as fast as locks and limits let him
		if a, err := h.Ask(t.Context(), link); err == nil {
			asked = a
		}
		for j := range 8 {
			before := wrongCodes(t)
			from := netip.AddrFrom4([4]byte{byte(i % 200), byte(j), byte(i), 1})
			bad := h.wrong(h.sms.code())
			if _, err := h.Vault.Prove(t.Context(), link, bad, asked, from); err == nil {
				t.Fatal("opened")
			}
			h.Vault.Prove(t.Context(), link, bad, "", from)
			compared += wrongCodes(t) - before
		}
		step := 5 * time.Minute // the first lock
		if i > 12*24 {
			step = time.Hour // by then they last a day
		}
		h.now = h.now.Add(step)
	}
	t.Logf("compared %v in 30 days, %d codes sent", compared, len(h.sms.text))
	if compared > 400 || len(h.sms.text) > maxAsked {
		t.Errorf("compared %v, %d codes sent", compared, len(h.sms.text))
	}
	if st, err := h.Status(t.Context(), d.ID); err != nil || st.State != Waiting && st.State != Expired {
		t.Errorf("%+v %v", st, err)
	}
}

func wrongCodes(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	if err := codesTotal.WithLabelValues("wrong").Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// The sender whom a locked-out patient calls sends the notice again, and all limits begin anew.
func TestUnlock(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "0612341234")
	for range perQuick {
		if _, err := h.Ask(t.Context(), secretOf(d)); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(time.Second)
	}
	for range wrongPerLock {
		h.now = h.now.Add(20 * time.Second)
		h.Prove(t.Context(), secretOf(d), h.wrong(h.sms.code()), home)
	}
	want(t, h.SendCode(t.Context(), secretOf(d)), Limited)
	_, err := h.Prove(t.Context(), secretOf(d), h.sms.code(), home)
	want(t, err, Locked)
	if err := h.Unlock(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(20 * time.Second)
	if _, err := h.Prove(t.Context(), secretOf(d), h.sms.code(), home); err != nil {
		t.Fatal(err)
	}
}

func TestCodeByEmail(t *testing.T) {
	var to, mail string
	h := open(t, func(c *Config) {
		c.ToRecipient = func(_ context.Context, a message.Address, b *message.Body) error {
			to, mail = a.String(), string(b.Peek(0))
			return nil
		}
	})
	r := request("0612341234")
	r.Mode = ByEmail
	d, err := h.Deposit(t.Context(), r)
	if err == nil {
		err = h.Activate(t.Context(), d.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
		t.Fatal(err)
	}
	if to != "patient@mail.test" || strings.Contains(mail, secretOf(d)) || len(h.sms.text) != 0 {
		t.Errorf("to %s: %s", to, mail)
	}
	i := strings.Index(mail, "\r\n    ")
	if i < 0 {
		t.Fatalf("%s", mail)
	}
	if _, err := h.Prove(t.Context(), secretOf(d), mail[i+6:i+13], home); err != nil {
		t.Fatal(err)
	}
	st, err := h.Status(t.Context(), d.ID)
	if err != nil || st.Level != "email" || !strings.Contains(h.Stands(st, "fr"), "code par courriel") {
		t.Errorf("%+v %v", st, err)
	}
	bare := open(t)
	if _, err := bare.Deposit(t.Context(), r); err == nil {
		t.Error("a code by e-mail where none goes")
	}
	r.Mode, r.Proof = "", BySMS
	r.Phone = "0123456789"
	if _, err := bare.Deposit(t.Context(), r); err == nil {
		t.Error("a landline where a rule asks for an SMS")
	}
}

// With strict nothing of 80 bits leads to a deposit: database and server key give nothing that could be tried at home.
func TestStrictHasNoShortForm(t *testing.T) {
	h := open(t, func(c *Config) { c.Strict = true })
	d := h.deposit(t, "")
	var short, sealed []byte
	if err := h.db.Read().QueryRow(`SELECT short, short_link FROM vault_deposits WHERE id = ?`, d.ID).Scan(&short, &sealed); err != nil || short != nil || sealed != nil {
		t.Errorf("%x %x %v", short, sealed, err)
	}
	link, err := h.Typed(t.Context(), strings.ToUpper(d.Short[:4]+" "+d.Short[4:]), home)
	if err != nil || link != secretOf(d) {
		t.Errorf("%q %v", link, err)
	}
	_, err = h.Typed(t.Context(), strings.Repeat("7", 26), home)
	want(t, err, NotFound)
}
