package gateway_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// A clinic that is not in the trust space cannot write to Mon espace sante, and no rule sends such mail over the Internet instead.
func TestPatientMailboxNeedsTheTrustSpace(t *testing.T) {
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n"), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "279035121518989@patient.mssante.fr", "279035121518980@patient.mssante.fr", "a@dest.test"); codes(got) != "550 550 250" {
		t.Errorf("got %q", got)
	}
	if n := len(h.sink.Messages()); n != 1 {
		t.Errorf("%d messages left, want the one for dest.test", n)
	}
}

// TestPatientWithoutMailbox: where the patients' operator has no mailbox for a patient, and the rule and the list say so, the message goes by
// pickup to his other address, once, and the sender is told; everything else is refused with a remedy.
func TestPatientWithoutMailbox(t *testing.T) {
	const dr, otherINS, thirdINS = "dr@mss.clinic.test", "146026322000196", "184057512345625"
	list := listFile(t, "adresse;qualified;pickup_at;opposed\n"+patientA+"@patient.test;oui;zoe@dest.test;\n"+patientB+"@patient.test;;;\n"+thirdINS+"@patient.test;oui;non@dest.test;\nnon@dest.test;;;oui\n")
	s := newSpace(t)
	var code atomic.Value
	code.Store("5.1.1")
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true, Rcpt: func(_, to string) gatewaytest.Reply {
		var e [3]int
		fmt.Sscanf(code.Load().(string), "%d.%d.%d", &e[0], &e[1], &e[2])
		if e[0] == 2 {
			return gatewaytest.Reply{}
		}
		return gatewaytest.Reply{Code: e[0]*100 + 50, Enhanced: e, Text: "no such mailbox"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	text := withRules("rules: [{name: patients, patient: true, route: trust, fallback: pickup}, {name: rest, route: plain}]\npickup: {url: \"http://{portal}\", code: sender}\ndirectory: {list: \""+list+"\"}\n") +
		strings.NewReplacer("peer.mssante.test", "patient.test", "127.0.0.1:1", peer.Addr(), "  tls_dir", "  patient_domain: patient.test\n  patients: {header: X-INS-Qualifie}\n  limits: {patient.test: {max_conns: 5}}\n  tls_dir").Replace(trustText)
	h := custom(t, text, nil, nil, "{tls}", s.dir)
	send := func(letter, to string) string { return h.send(h.lmtp, dr, letter, to+"@patient.test")[0] }

	if got := send(hello, patientA); got[:3] != "250" {
		t.Fatal(got)
	}
	notices := h.sink.To("zoe@dest.test")
	if len(notices) != 1 || strings.Contains(string(notices[0].Data), "bonjour") || strings.Contains(string(notices[0].Data), patientA) {
		t.Fatalf("%d notices, or what they must not say", len(notices))
	}
	told := 0
	for _, m := range h.clinic.To(dr) {
		if text := strings.ReplaceAll(string(m.Data), "=\r\n", ""); strings.Contains(text, "Mon espace sant=C3=A9") && strings.Contains(text, "zoe@dest.test") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the sender was told %d times", told)
	}
	for name, c := range map[string]struct{ letter, to, want string }{
		"not qualified":           {hello, patientB, "qualifi"},
		"no other address":        {"X-INS-Qualifie: Oui\n" + hello, patientB, "n'a pas de boite"},
		"opposed there":           {hello, thirdINS, "s'oppose"},
		"nothing to close":        {strings.Replace(hello, "Subject: essai", "Subject: [FIN]", 1), patientA, "n'y a pas d'echange"},
		"the field stands twice":  {"X-INS-Qualifie: oui\nX-INS-Qualifie: oui\n" + hello, patientB, "qualifi"},
		"the number's key is bad": {"X-INS-Qualifie: oui\n" + hello, otherINS[:14] + "0", "matricule INS"},
	} {
		if got := send(c.letter, c.to); got[:3] != "550" || !strings.Contains(got, c.want) || strings.Contains(got, c.to) {
			t.Errorf("%s: %q", name, got)
		}
	}
	code.Store("2.0.0")
	other := patientB + "@patient.test"
	for name, field := range map[string]string{"To": "To: Zoe <" + patientA + "@patient.test>, " + other, "Cc": "Cc: Famille: \"x\" <" + strings.ToUpper(other) + ">;", "encoded": "Cc: =?utf-8?q?" + strings.Replace(other, "@", "=40", 1) + "?= <x@dest.test>"} {
		if got := send(field+"\n"+hello, patientA); got[:3] != "550" || !strings.Contains(got, "un autre patient") || strings.Contains(got, patientB) || len(peer.Messages()) != 0 {
			t.Errorf("another patient in %s: %q", name, got)
		}
	}
	code.Store("5.7.1")
	if got := send(hello, patientA); got[:3] != "550" || len(h.sink.To("zoe@dest.test")) != 1 {
		t.Errorf("another refusal opened the way out: %q", got)
	}
	code.Store("4.2.1")
	if got := send(hello, patientA); got[0] != '4' || len(h.sink.To("zoe@dest.test")) != 1 {
		t.Errorf("a passing refusal opened the way out: %q", got)
	}
	code.Store("2.0.0")
	if got := send(hello+strings.Repeat(strings.Repeat("x", 76)+"\n", 330_000), patientA); got[:3] != "552" {
		t.Errorf("25 MB: %q", got)
	}
	if got := send(strings.Replace(hello, "Subject: essai", "Subject: [FIN]", 1), patientA); got[:3] != "250" || len(peer.Messages()) != 1 {
		t.Errorf("closing: %q", got)
	}
	if log := h.log.String(); strings.Contains(log, patientA) || strings.Contains(log, patientB) {
		t.Error("an INS stands in the log")
	}
}

// TestPatientElsewhere: where the clinic's list leads from a patient's mailbox to his ordinary address, or to that of somebody who answers for
// him, no server and no reader on the way there learns the number; the ledger has whom the sender wrote to.
func TestPatientElsewhere(t *testing.T) {
	const dr, child, patientC = "dr@mss.clinic.test", "enfant@dest.test", "184057512345625"
	list := listFile(t, "adresse;qualified;pickup_at;alias_of\n"+patientA+"@patient.test;;;zoe@dest.test\n"+patientB+"@patient.test;oui;zoe@dest.test;\n"+child+";;;"+patientB+"@patient.test\nzoe@dest.test;;;\n"+patientC+"@patient.test;oui;zoe@patient.test;\n")
	s := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true, Rcpt: func(string, string) gatewaytest.Reply {
		return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such mailbox"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	text := withRules("rules: [{name: patients, patient: true, route: trust, fallback: pickup}, {name: rest, route: pickup}]\npickup: {url: \"http://{portal}\", code: sender}\ndirectory: {list: \""+list+"\"}\n") +
		strings.NewReplacer("peer.mssante.test", "patient.test", "127.0.0.1:1", peer.Addr(), "  tls_dir", "  patient_domain: patient.test\n  tls_dir").Replace(trustText)
	h := custom(t, text, nil, nil, "{tls}", s.dir)
	for _, to := range []string{patientA + "@patient.test", patientB + "@patient.test", child} {
		before := len(h.sink.Messages())
		if got := h.send(h.lmtp, dr, strings.Replace(hello, "<1@", "<"+to[:3]+"@", 1), to+" NOTIFY=FAILURE ORCPT=rfc822;"+to); codes(got) != "250" || len(h.sink.Messages()) != before+1 {
			t.Errorf("%s: %q", to, got)
			continue
		}
		m := h.sink.Messages()[before]
		if seen := m.DSN + string(m.Data); strings.Contains(seen, "@patient.test") || strings.Contains(seen, patientA) || strings.Contains(seen, patientB) {
			t.Errorf("%s: the number left by the Internet: %s\n%s", to, m.DSN, m.Data)
		}
	}
	if got := h.send(h.lmtp, dr, hello, patientC+"@patient.test"); codes(got) != "550" || len(h.sink.Messages()) != 3 {
		t.Errorf("a notice for the trust space by the Internet: %q", got)
	}
	rows := h.rows()
	for _, to := range []string{patientA + "@patient.test", patientB + "@patient.test", child} {
		if rows[to] != "delivered" {
			t.Errorf("no row of whom the sender wrote to, %s: %q", to, rows)
		}
	}
}

// TestPatientWithoutMailboxLate: the patients' operator says so behind the client's reply; the way by pickup goes on there, once, and is what the
// repeat is told.
func TestPatientWithoutMailboxLate(t *testing.T) {
	list := listFile(t, "adresse;qualified;pickup_at\n"+patientA+"@patient.test;oui;zoe@dest.test\n")
	opened := make(chan struct{})
	s := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true, Rcpt: func(string, string) gatewaytest.Reply {
		<-opened
		return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such mailbox"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	text := withRules("relay: {timeout: 1s}\nrules: [{name: patients, patient: true, route: trust, fallback: pickup}, {name: rest, route: plain}]\npickup: {url: \"http://{portal}\", code: sender}\ndirectory: {list: \""+list+"\"}\n") +
		strings.NewReplacer("peer.mssante.test", "patient.test", "127.0.0.1:1", peer.Addr(), "  tls_dir", "  patient_domain: patient.test\n  tls_dir").Replace(trustText)
	h := custom(t, text, nil, nil, "{tls}", s.dir)
	letter, to := withXDM(t, ddm, "", patientA), patientA+"@patient.test"
	if got := h.send(h.lmtp, "dr@mss.clinic.test", letter, to); codes(got) != "451" {
		t.Fatalf("got %q", got)
	}
	close(opened)
	if got := h.send(h.lmtp, "dr@mss.clinic.test", letter, to); codes(got) != "250" || len(h.sink.To("zoe@dest.test")) != 1 {
		t.Errorf("the repeat: %q, %d notices", got, len(h.sink.To("zoe@dest.test")))
	}
	if rows := h.rows(); rows[to] != "delivered" && rows[to] != "deferred delivered" {
		t.Errorf("rows: %q", rows)
	}
}
