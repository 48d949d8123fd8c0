package gateway_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest/idp"
)

// Rules that ask for a proof: what is possible is sent or held, what is not is refused with what is missing. The identity that an application
// gives leaves by no way.
func TestProofsThatRulesAskFor(t *testing.T) {
	op := idp.Start(t, "http://127.0.0.1:1/")
	l := newLife(t, `, email_code: true, oidc: [{name: fc, label: FranceConnect, issuer: "`+op.URL+`", client_id: x, for: patients, claims: {birth_name: family_name, first_name: given_name, birth_date: birthdate}}]`,
		"  - {name: s, recipient: [\"sms@*\"], route: pickup, proof: sms}\n", "  - {name: p, recipient: [\"phrase@*\"], route: pickup, proof: secret}\n",
		"  - {name: i, recipient: [\"id*@*\"], route: pickup, proof: oidc}\n", "  - {name: t, recipient: [\"tell@*\"], route: pickup, proof: sender}\n",
		"  - {name: e, recipient: [\"mail@*\"], route: pickup, proof: email}\n")
	send := func(to, header string) string {
		t.Helper()
		return strings.Join(l.send(l.lmtp, "dr@clinic.test", strings.Replace(toPatient("x", to), "From:", header+"From:", 1), to), " ")
	}
	if got := send("phrase@patient.test", ""); !strings.HasPrefix(got, "550") || !strings.Contains(got, "phrase convenue") {
		t.Errorf("no phrase: %s", got)
	}
	if got := send("id@patient.test", ""); !strings.HasPrefix(got, "550") || !strings.Contains(got, "nom de naissance") {
		t.Errorf("no identity: %s", got)
	}
	if got := send("id@patient.test", "X-Passerelle-Identity: birth_name=Durandmarque; first_name=Anne; birth_date=1962-13-40\n"); !strings.HasPrefix(got, "550") {
		t.Errorf("no birth date: %s", got)
	}
	if got := send("id@patient.test", "X-Passerelle-Identity: =?utf-8?q?birth=5Fname=3DDurandmarqu=C3=A9?=; first_name=Anne; birth_date=24/08/1962\n"); !strings.HasPrefix(got, "250") {
		t.Errorf("identity: %s", got)
	}
	notice := arrived(t, l.sink, "id@patient.test", 1)[0]
	if s := string(notice.Data); strings.Contains(s, "Durandmarqu") || strings.Contains(s, "Identity") || !strings.Contains(s, "FranceConnect") {
		t.Errorf("the notice: %s", s)
	}
	_, page := newBrowser(t).get(linkIn(t, notice.Data))
	if !strings.Contains(page, "/identite/fc") || strings.Contains(page, `name="code"`) {
		t.Errorf("the page: %s", page)
	}
	if got := send("sms@patient.test", ""); !strings.HasPrefix(got, "250") { // held
		t.Errorf("no mobile: %s", got)
	}
	l.later(2 * time.Minute)
	told := arrived(t, l.clinic, "dr@clinic.test", 2) // of the notice before too
	if text := plainText(t, told[0]) + plainText(t, told[1]); !strings.Contains(text, "RETENU") {
		t.Errorf("the question: %s", text)
	}
	if n := len(l.sink.To("sms@patient.test")); n != 0 {
		t.Errorf("%d notices without a number", n)
	}
	if got := send("tell@patient.test", "X-Passerelle-Phone: 0612345678\n"); !strings.HasPrefix(got, "250") {
		t.Errorf("told: %s", got)
	}
	if n := arrived(t, l.sink, "tell@patient.test", 1)[0]; !strings.Contains(string(n.Data), "par t=C3=A9l=C3=A9phone") {
		t.Errorf("told: %s", n.Data)
	}
}

// The weakest proof, where the operator lets it: nothing but the mailbox is known, and the code goes there. Receipt and ledger say so.
func TestCodeInTheMailbox(t *testing.T) {
	l := newLife(t, ", email_code: true")
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	link := linkIn(t, arrived(t, l.sink, "a@patient.test", 1)[0].Data)
	b := newBrowser(t)
	if _, page := b.post(link+"/code", nil); !strings.Contains(page, "par courriel") {
		t.Fatalf("%s", page)
	}
	mail := string(arrived(t, l.sink, "a@patient.test", 2)[1].Data)
	if strings.Contains(mail, link) {
		t.Error("the code's mail has the link")
	}
	code := regexp.MustCompile(`\r\n    (\d{3} \d{3})`).FindStringSubmatch(mail)
	if code == nil {
		t.Fatalf("%s", mail)
	}
	if _, page := b.post(link, url.Values{"code": {code[1]}}); !strings.Contains(page, "MARQUEUR-SANTE") {
		t.Fatalf("%s", page)
	}
	l.later(2 * time.Minute)
	if text := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0]); !strings.Contains(text, "code par courriel") {
		t.Errorf("the receipt: %s", text)
	}
	l.stop()
	if rows := ledgerReasons(t, l.house); !strings.Contains(rows, "deposit opened, proved by email") {
		t.Errorf("the ledger: %s", rows)
	}
}
