package gateway_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// trustReplies: the door to the trust space, and the way there.
func trustReplies(t *testing.T, tab *replyTable) {
	s := newSpace(t)
	var asked atomic.Int32
	var ahead atomic.Int64
	text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) +
		strings.Replace(strings.Replace(trustText, "domains: {", "domains: {nowhere.mssante.test: [\"CN=x,C=FR\"], ", 1), "127.0.0.1:1", "{peer}", 1)
	h := custom(t, text, nil, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
		h.clinicReply = func(to string) gatewaytest.Reply {
			if strings.HasPrefix(to, "gone") && asked.Add(1) > 1 {
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
			}
			return gatewaytest.Reply{}
		}
	}, "{tls}", s.dir, "{peer}", freeAddr(t))
	w := s.dial(t, h)
	hear := func(got, words string) { t.Helper(); tab.hear(t, got, words) }
	hear(w.say("MAIL FROM:<dr@other.test>"), "Certificat ou domaine")
	w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
	hear(w.say("RCPT TO:<someone@dest.test>"), "Aucun relais")
	w.want("250", "RCPT TO:<ok@mss.clinic.test>")
	w.want("250", "RCPT TO:<gone@clinic.test>")
	hear(w.data(hello), "refuse apres coup")
	ms := h.clinic.Messages()
	marked := strings.ReplaceAll(string(ms[len(ms)-1].Data), "\r\n", "\n")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", marked, "x@dest.test"), "a transferer seulement")
	ahead.Store(int64(48 * time.Hour))
	hear(w.say("MAIL FROM:<dr@peer.mssante.test>"), "Revocation")
	ahead.Store(0)
	guarded, _ := newGuarded(t, "")
	rcpt, _ := guarded.receive(t, "dr@peer.mssante.test", "", "landline@mss.clinic.test")
	hear(rcpt[0], "Boite protegee")
	dns, err := gatewaytest.StartNameServer()
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	dns.MX("null.mssante.test", gatewaytest.MX{Host: "."})
	h2 := newInSpace(t, plainRules, nil, func(h *house) { h.opts = append(h.opts, gateway.Resolver(dns.Resolver())) })
	h2.stop()
	h2.cfg.Trust.Domains["null.mssante.test"] = []string{"CN=x,C=FR"}
	h2.cfg.Trust.Domains["away.mssante.test"] = []string{"CN=x,C=FR"}
	h2.cfg.Trust.Limits["peer.mssante.test"] = config.TrustLimit{Size: 10}
	h2.start()
	for to, want := range map[string]string{"x@null.mssante.test": "MX nul", "x@peer.mssante.test": "envoyez les pieces jointes"} {
		tab.hears(t, h2.send(h2.lmtp, "dr@mss.clinic.test", hello, to), want)
	}
	h3 := newInSpace(t, "rules: [{name: all, route: trust, qualified: true}]\n", nil, func(h *house) {
		h.edit = func(text string) string {
			return strings.Replace(text, "  domains: {peer", "  documents: {check: refuse}\n  patient_domain: peer.mssante.test\n  domains: {peer", 1)
		}
	})
	tab.hears(t, h3.send(h3.lmtp, "dr@mss.clinic.test", withXDM(t, ddm, "", patientA), patientB+"@peer.mssante.test"), "autre patient")
	tab.hears(t, h3.send(h3.lmtp, "dr@mss.clinic.test", strings.Replace(withXDM(t, ddm, "", patientA), "UEsDB", "UE*DB", 1), patientA+"@peer.mssante.test"), "illisibles")
	tab.hears(t, h3.send(h3.lmtp, "dr@mss.clinic.test", "Cc: "+patientB+"@peer.mssante.test\n"+hello, patientA+"@peer.mssante.test"), "un autre patient est nomme")
	tab.hears(t, h3.send(h3.lmtp, "dr@mss.clinic.test", withXDM(t, "Bilan", "", patientA), patientA+"@peer.mssante.test"), "regles MSSante")
	h4 := newMapped(t, ", pattern: \"{local}@mss.clinic.test\", verify: pattern", nil)
	for words, c := range map[string][2]string{"pas de boite MSSante": {"root@clinic.test", letter("root@clinic.test", "")}, "pas autorisee": {"rh@clinic.test", letter("rh@clinic.test", "")},
		"au nom de cet expediteur": {"zoe@clinic.test", letter("dr@clinic.test", "")}, "au lieu de le rediriger": {"dr@clinic.test", letter("x@elsewhere.test", "")},
		"un seul auteur": {"dr@clinic.test", letter("dr@clinic.test, zoe@clinic.test", "")}, "boite MSSante est absente": {"luc@clinic.test", letter("luc@clinic.test", "")},
		"Rapport de remise": {"", strings.Replace(mdn, "disposition-notification\n\nReporting", "x-other\n\nReporting", 1)}} {
		tab.hears(t, h4.send(h4.lmtp, c[0], c[1], "x@peer.mssante.test"), words)
	}
	dns.Away(true)
	tab.hears(t, h2.send(h2.lmtp, "dr@mss.clinic.test", hello, "x@away.mssante.test"), "introuvable (DNS)")
}
