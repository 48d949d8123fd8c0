package gateway_test

import (
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

const guardKeys = "pickup: {url: \"http://{portal}\"}\nsms: {url: \"{sms}\"}\n"

// guardedKeys are those, with an SMS service of the test's own.
func guardedKeys(t *testing.T) string {
	t.Helper()
	sms := gatewaytest.StartSMS()
	t.Cleanup(func() { sms.Close() })
	return strings.Replace(guardKeys, "{sms}", sms.URL(), 1)
}

// A peer writes to a guarded mailbox by whatever name it likes, that of the inside or one with a detail: the content is never in what the
// clinic's server gets. An entry for the whole domain is not asked where the holder has one of his own.
func TestInboundVaultByEveryName(t *testing.T) {
	list := listFile(t, "adresse;phone;secret\n@mss.clinic.test;;la phrase de tous\ndr@clinic.test;06 12 34 56 78;\n")
	keys := guardedKeys(t) + "inbound: {mailboxes: {jean.martin@mss.clinic.test: vault}}\n"
	h := newMapped(t, "", func(h *house) {
		edit := h.edit
		h.edit = func(text string) string {
			text = strings.NewReplacer("directory: {", "directory: {list: \""+list+"\", ", `portal: {addr: ""}`, `portal: {addr: "{portal}"}`).Replace(edit(text))
			return keys + text
		}
	})
	for _, to := range []string{"jean.martin@mss.clinic.test", "Dr@clinic.test", "jean.martin+x@mss.clinic.test", "dr+urgent@clinic.test", `"jean.martin"@mss.clinic.test`} {
		before := len(h.clinic.Messages())
		rcpt, dot := h.receive(t, "labo@peer.mssante.test", peerLetter("labo@peer.mssante.test", "GLYCEMIE"), to)
		if !strings.HasPrefix(dot, "250") || len(h.clinic.Messages()) != before+1 {
			t.Errorf("%s: %q %q, %d messages", to, rcpt, dot, len(h.clinic.Messages())-before)
			continue
		}
		if data := h.last(t); strings.Contains(data, "GLYCEMIE") || !strings.Contains(data, "v2; notice;") || strings.Contains(data, "phrase") {
			t.Errorf("%s: the clinic got\n%s", to, data)
		}
	}
	if _, dot := h.receive(t, "labo@peer.mssante.test", peerLetter("labo@peer.mssante.test", "GLYCEMIE"), "cardio@mss.clinic.test"); !strings.HasPrefix(dot, "250") || !strings.Contains(h.last(t), "GLYCEMIE") {
		t.Errorf("another mailbox: %s\n%s", dot, h.last(t))
	}
}

// Who does not exist is refused at once, also where no contact of his could be: his author would wait for days to learn of a typing error.
func TestInboundVaultUnknownMailbox(t *testing.T) {
	h, _ := newGuarded(t, "", func(h *house) {
		h.clinicReply = func(to string) gatewaytest.Reply {
			if strings.HasPrefix(to, "typo@") {
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "unknown"}
			}
			return gatewaytest.Reply{}
		}
	})
	if rcpt, _ := h.receive(t, "labo@peer.mssante.test", "", "typo@mss.clinic.test"); !strings.HasPrefix(rcpt[0], "550 5.1.1") {
		t.Errorf("%q", rcpt)
	}
}

// What a stranger asks of reports about his message says nothing of our notice: where it is lost the postmaster hears of it.
func TestInboundVaultNoticeIsReported(t *testing.T) {
	h, _ := newGuarded(t, "")
	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<labo@peer.mssante.test> RET=HDRS ENVID=x")
	w.want("250", "RCPT TO:<phone@mss.clinic.test> NOTIFY=NEVER ORCPT=rfc822;x@peer.mssante.test")
	if got := w.data(peerLetter("labo@peer.mssante.test", "x")); got[:3] != "250" {
		t.Fatal(got)
	}
	if ms := h.clinic.To("phone@mss.clinic.test"); len(ms) != 1 || strings.Contains(ms[0].DSN, "NOTIFY") || strings.Contains(ms[0].DSN, "ORCPT") {
		t.Errorf("%d notices, asked of the clinic's server: %q", len(ms), ms[0].DSN)
	}
}

// The operator's mailbox that mail is fetched from is a name of the mailbox that it is delivered to.
func TestInboundVaultOfFetchedMailbox(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	list := listFile(t, "adresse;phone\none@op.test;06 12 34 56 78\n")
	put(t, o.imap("one@op.test"), arrival("GLYCEMIE"))
	text := guardedKeys(t) + "inbound: {mailboxes: {one@op.test: vault}}\ndirectory: {list: \"" + list + "\"}\n" + strings.Replace(collectConfig, `portal: {addr: ""}`, `portal: {addr: "{portal}"}`, 1)
	o.build(text, nil, "{more}", "every: 10s", "{imap}", o.d.Addr())
	until(t, "the notice", func() bool { return len(o.clinic.Messages()) == 1 })
	if m := o.clinic.Messages()[0]; strings.Contains(string(m.Data), "GLYCEMIE") || m.Recipients[0] != "accueil@clinic.test" {
		t.Errorf("to %v came\n%s", m.Recipients, m.Data)
	}
}
