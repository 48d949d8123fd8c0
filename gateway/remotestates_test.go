package gateway_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
)

// Which test shows which state of which source, mail going through the whole gateway (gateway) and the source by itself (directory):
//
//	state                extraction                        FHIR                            LDAP
//	down                 TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	slow                 directory.TestFetchStates         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	empty                TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	truncated            TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	garbage              TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	older than the limit TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	half is gone         TestNoDirectoryStateOpens         TestNoFHIRStateOpens (fewer     TestNoLDAPStateOpens (the server
//	                                                       entries than it announces)      stops at its limit)
//	forged redirect      TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens (a referral)
//	unknown CA           TestNoDirectoryStateOpens         TestNoFHIRStateOpens            TestNoLDAPStateOpens
//	no mirror was made   the script directory-refresh.txt  -                               -
//
// A source that is well and says that it lists nobody is believed: nothing tells a region that emptied its LDAP directory from one that never
// listed the person. His mail is then treated as to any listed domain, and never takes an Internet route.

// remoteState is one bad state of a source over the network.
type remoteState struct {
	name, why, result string // result: of the metric
	spoil, heal       func()
}

// changed is a state that a change of the config makes, and its contrary heals.
func (h *remoteHouse) changed(name, why, result, from, to string) remoteState {
	return remoteState{name, why, result, func() { h.reload(h.t, from, to) }, func() { h.reload(h.t, to, from) }}
}

// remoteHouse is a clinic in the trust space that asks one more source while mail waits.
type remoteHouse struct {
	*inSpace
	source string // fhir, ldap
	turned *atomic.Int64
	n      int
}

const remoteRules = "rules:\n  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}\n" +
	"  - {name: strangers, domain: [peer.mssante.test], route: refuse, text: Inconnu}\n  - {name: rest, route: plain}\n"

func newRemoteHouse(t *testing.T, source, keys string) *remoteHouse {
	h := &remoteHouse{source: source, turned: new(atomic.Int64)}
	h.inSpace = newInSpace(t, remoteRules+"#directory: "+source+": "+keys+"\n", nil, func(h2 *house) {
		h2.opts = append(h2.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(h.turned.Load())) }))
	})
	return h
}

// wants sends to one person and looks at the reply.
func (h *remoteHouse) wants(what, to, reply string) {
	h.t.Helper()
	h.n++
	began := time.Now()
	got := h.send(h.lmtp, "dr@mss.clinic.test", strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", h.n), 1), to)
	if !strings.HasPrefix(got[0], reply) {
		h.t.Errorf("%s: %s: got %q, want %s", what, to, got, reply)
	}
	if d := time.Since(began); d > 10*time.Second {
		h.t.Errorf("%s: the reply took %s", what, d)
	}
	if out := len(h.sink.Messages()); out != 0 {
		h.t.Fatalf("%s: %d messages left by the Internet hop", what, out)
	}
}

func (h *remoteHouse) explain(to string) directory.Answer {
	h.t.Helper()
	x, err := h.g.Explain(h.t.Context(), "dr@mss.clinic.test", to, []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
	if err != nil {
		h.t.Fatal(err)
	}
	return x.Answer
}

// asked is how many questions to the source had that result, by the metric.
func (h *remoteHouse) asked(result string) float64 {
	h.t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "passerelle_directory_remote_asked_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["source"] == h.source && labels["result"] == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// noneOpens takes the source through its states: mail to whom it alone may know waits, whether it lists him or not; explain and the metric say
// why; whom it answered about before goes on. When it is well again both are answered.
func (h *remoteHouse) noneOpens(states []remoteState) {
	t := h.t
	h.wants("well", "known.before@peer.mssante.test", "250")
	h.wants("well", "stranger@peer.mssante.test", "550")
	for i, s := range states {
		known, stranger := fmt.Sprintf("known.%d@peer.mssante.test", i), fmt.Sprintf("stranger.%d@peer.mssante.test", i)
		before, delivered := h.asked(s.result), len(h.peer.Messages())
		h.turned.Add(int64(15 * time.Minute)) // behind the pause after the last fault
		s.spoil()
		h.wants(s.name, known, "451 4.4.3 ")
		h.wants(s.name, stranger, "451 4.4.3 ")
		if a := h.explain(known); a.Verdict != directory.CouldNotAsk || !strings.HasPrefix(a.Why, h.source+" could not be asked: ") && !strings.HasPrefix(a.Why, h.source+" cannot be asked about this address: ") || !strings.Contains(a.Why, s.why) {
			t.Errorf("%s: explain says %s: %q, want %q", s.name, a.Verdict, a.Why, s.why)
		}
		if after := h.asked(s.result); after <= before {
			t.Errorf("%s: the metric for %s stays at %g", s.name, s.result, after)
		}
		if n := len(h.peer.Messages()); n != delivered {
			t.Errorf("%s: %d messages went into the trust space", s.name, n-delivered)
		}
		h.wants(s.name+", of the extraction", "d1@peer.mssante.test", "250")
		s.heal()
		h.turned.Add(int64(15 * time.Minute))
		h.wants(s.name+", well again", known, "250")
		h.wants(s.name+", well again", stranger, "550")
	}
	if log := h.log.String(); strings.Contains(log, "known.") || strings.Contains(log, "stranger.") {
		t.Error("the log names who was asked about")
	}
}

// growsOld shows that an answer counts while the source is away, until it is older than its limit of a day.
func (h *remoteHouse) growsOld(down func()) {
	h.turned.Add(int64(15 * time.Minute))
	h.wants("fresh", "known.old@peer.mssante.test", "250")
	down()
	h.turned.Add(int64(2 * time.Hour))
	h.wants("dated, and the source away", "known.old@peer.mssante.test", "250")
	h.turned.Add(int64(2 * time.Hour))
	h.wants("too old", "known.old@peer.mssante.test", "451 4.4.3 derniere reponse de l'annuaire trop ancienne")
	if a := h.explain("known.old@peer.mssante.test"); a.Verdict != directory.CouldNotAsk || !strings.Contains(a.Why, "is older than 3h0m0s") {
		h.t.Errorf("explain says %s: %q", a.Verdict, a.Why)
	}
}

func TestNoFHIRStateOpens(t *testing.T) {
	src, ca := startSource(t)
	well := func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		w.Header().Set("Content-Type", "application/fhir+json")
		if box := r.Form.Get("mailbox-mss"); strings.HasPrefix(box, "known.") && strings.Contains(r.URL.Path, "/Practitioner") && !strings.Contains(r.URL.Path, "Role") {
			fmt.Fprintf(w, bundle, box)
			return
		}
		fmt.Fprint(w, `{"resourceType":"Bundle","type":"searchset","total":0}`)
	}
	src.answers(well)
	wire := startCable(t, src.Listener.Addr().String())
	h := newRemoteHouse(t, "fhir", "{url: \"https://"+wire.addr+"/fhir/v2\", ca: \""+ca+"\", ask: mail, timeout: 3s, every: 1h, max_age: 3h}")
	page := func(kind, body string) func() {
		return func() {
			src.answers(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", kind)
				fmt.Fprint(w, body)
			})
		}
	}
	heal := func() { src.answers(well) }
	const fhirJSON = "application/fhir+json"
	h.noneOpens([]remoteState{
		{"down", "connect", "down", wire.pull, wire.plug},
		{"slow", "deadline", "timeout", func() {
			src.answers(func(_ http.ResponseWriter, r *http.Request) { r.ParseForm(); <-r.Context().Done() })
		}, heal},
		{"empty", "no JSON", "answer", page(fhirJSON, ""), heal},
		{"truncated", "no JSON", "answer", page(fhirJSON, bundle[:300]), heal},
		{"cut by the network", "EOF", "down", func() { wire.spoils(func(b []byte) ([]byte, bool) { return b[:len(b)/2], false }) }, func() { wire.spoils(nil) }},
		{"garbage", "Content-Type", "answer", page("text/html", "<html>maintenance</html>"), heal},
		{"garbage that says it is JSON", "no JSON", "answer", page(fhirJSON, "\x00\xff<html>"), heal},
		{"half is gone", "announced", "answer", page(fhirJSON, `{"resourceType":"Bundle","type":"searchset","total":2}`), heal},
		{"forged redirect", "redirects", "answer", func() {
			src.answers(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://evil.test/fhir/v2/Practitioner", 302)
			})
		}, heal},
		h.changed("unknown CA", "certificate", "tls", "ca: \""+ca, "ca: \""+h.cfg.Trust.CA[0]),
	})
	h.checks(t, "directory.fhir answers, in ")
	h.growsOld(wire.pull)
	h.turned.Store(0)
	h.checks(t, "directory.fhir could not be asked: ")
}

func TestNoLDAPStateOpens(t *testing.T) {
	if testing.Short() {
		t.Skip("needs slapd")
	}
	region, err := gatewaytest.NewCA("region")
	if err != nil {
		t.Fatal(err)
	}
	person := func(cn, local, kind string) string {
		return gatewaytest.Entry("cn="+cn+",ou=annuaire,dc=region,dc=test", "objectClass", "inetOrgPerson", "sn", "Roux", "givenName", "Anne",
			"mail", local+"@peer.mssante.test", "businessCategory", kind)
	}
	var ldif strings.Builder
	ldif.WriteString(gatewaytest.Entry("ou=annuaire,dc=region,dc=test", "objectClass", "organizationalUnit", "ou", "annuaire"))
	ldif.WriteString(gatewaytest.Entry("ou=loin,dc=region,dc=test", "objectClass", "referral", "objectClass", "extensibleObject", "ou", "loin", "ref", "ldap://127.0.0.1:1/ou=loin,dc=region,dc=test"))
	for _, who := range strings.Fields("0 1 2 3 4 5 6 7 8 9 before old") {
		ldif.WriteString(person(who, "known."+who, "MSSANTE"))
	}
	const limited = "8" // who has two entries each, of which a server that stops at one gives half
	ldif.WriteString(person("second", "known."+limited, "MSSANTE") + person("third", "stranger."+limited, "AUTRE") + person("fourth", "stranger."+limited, "AUTRE"))
	s, err := gatewaytest.StartSlapd(t.Context(), gatewaytest.SlapdOptions{CA: region, LDIF: ldif.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	wire := startCable(t, s.Addr())
	h := newRemoteHouse(t, "ldap", "{url: \"ldap://"+wire.addr+"\", base: \"ou=annuaire,dc=region,dc=test\", mss: businessCategory=mssante, start_tls: false, ca: \"\", "+
		"ask: mail, timeout: 3s, every: 1h, max_age: 3h, verifies: true}")
	plain := func() { wire.spoils(nil) }
	h.noneOpens([]remoteState{
		{"down", "connect", "down", wire.pull, wire.plug},
		{"slow", "deadline", "timeout", func() { must(t, s.Pause()) }, func() { must(t, s.Resume()) }},
		h.changed("empty: its base is gone", "32 (No Such Object)", "answer", "ou=annuaire,", "ou=vide,"),
		{"truncated", "EOF", "answer", func() { wire.spoils(func(b []byte) ([]byte, bool) { return b[:len(b)/2], false }) }, plain},
		{"garbage", "unable to read LDAP response", "answer", func() {
			wire.spoils(func(b []byte) ([]byte, bool) { return bytes.Repeat([]byte("\x00\xff<html>"), 50), true })
		}, plain},
		h.changed("forged redirect: a referral", "10 (Referral)", "answer", "ou=annuaire,", "ou=loin,"),
		h.changed("unknown CA", "certificate", "tls", "start_tls: false, ca: \"\"", "start_tls: true, ca: \""+h.cfg.Trust.CA[0]+"\""),
		h.changed("TLS that the server does not end", "begin TLS", "tls", "url: \"ldap://"+wire.addr, "url: \"ldaps://"+wire.addr),
		h.changed("half is gone: the server stops at its limit", "4 (Size Limit Exceeded)", "answer", "timeout: 3s", "size_limit: 1, timeout: 3s"),
	})
	h.reload(t, "start_tls: false, ca: \"\"", "start_tls: true, ca: \""+s.CAFile()+"\"")
	h.turned.Add(int64(15 * time.Minute))
	h.wants("over TLS", "known.9@peer.mssante.test", "250")
	h.checks(t, "directory.ldap answers, in ")
	h.growsOld(wire.pull)
	h.turned.Store(0)
	h.checks(t, "directory.ldap could not be asked: ask ldap: connect: ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checks runs what `passerelle check` asks of the source, beside the gateway.
func (h *remoteHouse) checks(t *testing.T, want string) {
	t.Helper()
	cfg, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
	must(t, err)
	g, err := gateway.OpenReadOnly(t.Context(), cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	defer g.Close()
	answers, warnings := g.CheckSources(t.Context(), cfg)
	if got := strings.Join(append(answers, warnings...), "\n"); !strings.HasPrefix(got, want) {
		t.Errorf("check says %q, want %q", got, want)
	}
}
