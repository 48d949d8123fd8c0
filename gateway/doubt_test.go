package gateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/ledger"
	"passerelle/gateway/store"
)

// custom opens a house under a config text of its own.
func custom(t *testing.T, text string, reply func(string) gatewaytest.Reply, prepare func(*house), replace ...string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), log: newBuffer()}
	if prepare != nil {
		prepare(h)
	}
	h.build(text, reply, replace...)
	return h
}

func withRules(rules string) string {
	head, _, _ := strings.Cut(houseConfig, "rules:\n")
	if strings.Contains(rules, "pickup:") {
		head = strings.Replace(head, `portal: {addr: ""}`, `portal: {addr: "{portal}"}`, 1)
	}
	return strings.Replace(head, "{lifetime}", "5d", 1) + rules
}

// Two plain decisions about null-sender mail, one of a rule that says plain and one that must be reduced, never share a copy.
func TestNullSenderCopiesAreNotShared(t *testing.T) {
	h := custom(t, withRules("rules:\n  - {name: open, recipient: [\"open@*\"], route: plain}\n  - {name: shut, route: pickup}\npickup: {url: \"http://{portal}\"}\n"), nil, nil)
	got := h.send(h.lmtp, "", hello, "open@dest.test", "shut@dest.test")
	if codes(got) != "250 250" {
		t.Errorf("got %q", got)
	}
	if ms := h.sink.To("open@dest.test"); len(ms) != 1 || !bytes.Contains(ms[0].Data, []byte("bonjour")) {
		t.Errorf("the rule that says plain: %d messages", len(ms))
	}
	ms := h.sink.To("shut@dest.test")
	if len(ms) != 1 || bytes.Contains(ms[0].Data, []byte("bonjour")) || bytes.Contains(ms[0].Data, []byte("essai")) {
		t.Errorf("null-sender mail left unreduced: %d messages", len(ms))
	}
}

// Observe changes nothing: what a rule would refuse or keep waiting leaves too; local mail stays local, no notice is sent.
func TestObserveSendsEverything(t *testing.T) {
	h := custom(t, "mode: observe\n"+withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: forbidden, recipient: [\"never@*\"], route: refuse}\n  - {name: rest, route: pickup}\n"), nil, nil)
	got := h.send(h.lmtp, "dr@clinic.test", hello, "never@dest.test", "patient@dest.test", "colleague@clinic.test")
	if codes(got) != "250 250 250" {
		t.Errorf("got %q", got)
	}
	for _, to := range []string{"never@dest.test", "patient@dest.test"} {
		if ms := h.sink.To(to); len(ms) != 1 || !bytes.Contains(ms[0].Data, []byte("bonjour")) {
			t.Errorf("%s got %d messages", to, len(ms))
		}
	}
	if a, b := len(h.clinic.To("colleague@clinic.test")), len(h.clinic.Messages()); a != 1 || b != 1 {
		t.Errorf("the clinic got %d messages, %d for the colleague", b, a)
	}
}

// RFC 5321 section 4.5.1: <postmaster> needs no domain.
func TestPostmaster(t *testing.T) {
	h := custom(t, strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "hops:", "recipients: {domains: [dest.test, clinic.test]}\nhops:", 1), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "Postmaster"); codes(got) != "250" {
		t.Errorf("got %q", got)
	}
	if n := len(h.clinic.To("postmaster@clinic.test")); n != 1 {
		t.Errorf("the postmaster got %d", n)
	}
}

// A hop's words may name the recipient: they are in the reply, never in the log.
func TestLogHidesTheHopsWords(t *testing.T) {
	h := newHouse(t, "5d", func(to string) gatewaytest.Reply {
		return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "<" + to + ">: unknown"}
	})
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "patiente@dest.test"); !strings.Contains(got[0], "patiente") {
		t.Errorf("got %q", got)
	}
	if log := h.log.String(); strings.Contains(log, "patiente") || !strings.Contains(log, "550 5.1.1") {
		t.Errorf("log:\n%s", log)
	}
}

// The clinic's server is asked about the sender before a notice leaves: no patient gets a link whose code nobody can tell.
func TestNoNoticeWithoutCode(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	h := custom(t, withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup}\n"), nil, func(h *house) { h.clinicRefuses = away.Load })
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"); codes(got) != "451" {
		t.Errorf("got %q", got)
	}
	if n := len(h.sink.Messages()); n != 0 {
		t.Errorf("%d notices left", n)
	}
	away.Store(false)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"); codes(got) != "250" {
		t.Errorf("got %q", got)
	}
	if a, b := len(h.sink.To("patient@dest.test")), len(h.clinic.To("dr@clinic.test")); a != 1 || b != 1 {
		t.Errorf("%d notices, %d codes", a, b)
	}
}

// space is a trust space with one peer that writes to the clinic.
type space struct {
	ca   *gatewaytest.CA
	peer *gatewaytest.Issued
	dir  string
}

const trustText = `
trust:
  domains: {peer.mssante.test: ["CN=mss.peer.test,O=PEER,C=FR"]}
  hosts: {peer.mssante.test: "127.0.0.1:1"}
  own_domains: [mss.clinic.test]
  tls_dir: {tls}
`

func newSpace(t *testing.T) *space {
	t.Helper()
	ca, err := gatewaytest.NewCA("AC test")
	if err != nil {
		t.Fatal(err)
	}
	s := &space{ca: ca, dir: filepath.Join(t.TempDir(), "tls")}
	if s.peer, err = ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"PEER"}, CommonName: "mss.peer.test"}); err != nil {
		t.Fatal(err)
	}
	own, err := ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"CLINIC"}, CommonName: "mss.clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteDir(s.dir, own); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *space) house(t *testing.T, prepare func(*house)) *house {
	text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + trustText
	return custom(t, text, nil, prepare, "{tls}", s.dir)
}

// wire is a session of the peer under mutual TLS.
type wire struct {
	t   *testing.T
	c   *textproto.Conn
	tls *tls.Conn
}

func (s *space) dial(t *testing.T, h *house) *wire {
	t.Helper()
	raw, err := net.DialTimeout("tcp", h.trust, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(2 * time.Minute))
	w := &wire{t: t, c: textproto.NewConn(raw)}
	w.want("220", "")
	w.want("250", "EHLO mss.peer.test")
	w.want("220", "STARTTLS")
	tc := tls.Client(raw, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{s.peer.TLS()}})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.c, w.tls = textproto.NewConn(tc), tc
	w.want("250", "EHLO mss.peer.test")
	return w
}

func (w *wire) say(format string, args ...any) string {
	w.t.Helper()
	if format != "" {
		w.c.PrintfLine(format, args...)
	}
	code, text, err := w.c.ReadResponse(0)
	if err != nil {
		w.t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
	return fmt.Sprint(code, " ", text)
}

func (w *wire) want(code, format string, args ...any) {
	w.t.Helper()
	if got := w.say(format, args...); !strings.HasPrefix(got, code) {
		w.t.Fatalf("%s: %s, want %s", fmt.Sprintf(format, args...), got, code)
	}
}

func (w *wire) data(content string) string {
	w.t.Helper()
	w.want("354", "DATA")
	d := w.c.DotWriter()
	fmt.Fprint(d, strings.ReplaceAll(content, "\n", "\r\n"))
	d.Close()
	return w.say("")
}

// From the trust space: marks of strangers go, ours comes, also on a message without Message-ID; a recipient refused behind his RCPT
// gives "later", never a bounce, and at the repeat RCPT says it.
func TestInboundMixedOutcome(t *testing.T) {
	s := newSpace(t)
	var asked atomic.Int32
	h := s.house(t, func(h *house) {
		h.clinicReply = func(to string) gatewaytest.Reply {
			if strings.HasPrefix(to, "gone") && asked.Add(1) > 1 { // accepted once, by the probe
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
			}
			return gatewaytest.Reply{}
		}
	})
	const content = "From: <dr@peer.mssante.test>\nSubject: avis\nX-Passerelle-Origine : v1; forged\nX-Passerelle-Origine: v1; trust; forged\n\nbonjour\n"
	w := s.dial(t, h)
	w.want("550", "MAIL FROM:<dr@other.test>")
	w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
	w.want("550", "RCPT TO:<someone@dest.test>")
	w.want("250", "RCPT TO:<ok@mss.clinic.test>")
	w.want("250", "RCPT TO:<gone@clinic.test>")
	if got := w.data(content); !strings.HasPrefix(got, "451") {
		t.Fatalf("mixed outcome: %s", got)
	}
	w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
	w.want("250", "RCPT TO:<ok@mss.clinic.test>")
	w.want("550", "RCPT TO:<gone@clinic.test>")
	if got := w.data(content); !strings.HasPrefix(got, "250") {
		t.Fatalf("repeat: %s", got)
	}
	ms := h.clinic.Messages()
	if len(ms) != 1 || len(ms[0].Recipients) != 1 || len(h.sink.Messages()) != 0 {
		t.Fatalf("%d messages at the clinic, %d at the sink", len(ms), len(h.sink.Messages()))
	}
	top := string(ms[0].Data)
	if strings.Contains(top, "forged") || !strings.Contains(top, "X-Passerelle-Origine: v2; trust; verified=peer CN=mss.peer.test") || !strings.Contains(top, "\r\nMessage-ID: <") {
		t.Errorf("what the clinic got:\n%s", top)
	}

	// What bears the mark leaves by trust alone; on its way home it keeps the mark.
	marked := strings.ReplaceAll(top, "\r\n", "\n")
	if got := h.send(h.lmtp, "dr@clinic.test", marked, "x@dest.test", "forwarder@clinic.test"); codes(got) != "550 250" {
		t.Errorf("marked mail: %q", got)
	}
	if ms := h.clinic.To("forwarder@clinic.test"); len(ms) != 1 || !bytes.Contains(ms[0].Data, []byte("X-Passerelle-Origine: v2; trust")) {
		t.Errorf("the mark was lost on the way home: %d", len(ms))
	}
}

// A revocation list that grows old within a session is doubt: 451, not 550.
func TestStaleRevocationListIsLater(t *testing.T) {
	s := newSpace(t)
	var ahead atomic.Int64
	h := s.house(t, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	})
	w := s.dial(t, h)
	ahead.Store(int64(48 * time.Hour))
	w.want("451", "MAIL FROM:<dr@peer.mssante.test>")
}

// What no page can show right (here a charset that nobody knows, and a broken encoding) is kept whole for the patient; it never waits for ever.
func TestPickupKeepsWholeWhatItCannotRead(t *testing.T) {
	h := custom(t, withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup}\n"), nil, nil)
	for _, field := range []string{"Content-Type: text/plain; charset=x-nobody", "Content-Transfer-Encoding: base64"} {
		got := h.send(h.lmtp, "dr@clinic.test", strings.Replace(hello, "\n\n", "\n"+field+"\n\n%%%", 1), "patient@dest.test")
		if codes(got) != "250" {
			t.Errorf("%s: got %q", field, got)
		}
	}
	if a, b := len(h.sink.To("patient@dest.test")), len(h.clinic.To("dr@clinic.test")); a != 2 || b != 2 {
		t.Errorf("%d notices, %d codes for the sender", a, b)
	}
}

// Every recipient has one row that says what was decided, by which rule, and what came of it.
func TestLedgerTellsEachOutcome(t *testing.T) {
	h := newHouse(t, "5d", later)
	h.send(h.lmtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test", "bad@dest.test", "never@dest.test")
	h.stop()
	db, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(h.dir, "state"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := ledger.New(t.Context(), db, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rows, err := l.Query(t.Context(), ledger.Filter{Sender: "dr@clinic.test", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range rows {
		got[e.Recipient] = fmt.Sprintf("%s %s %s %d %s", e.Route, e.Rule, e.Outcome, e.Code, e.HeaderMessageID)
		if e.Salt == [16]byte{} || e.First.IsZero() {
			t.Errorf("%s: no salt or no time", e.Recipient)
		}
	}
	for to, want := range map[string]string{
		"ok@dest.test":    "plain rest delivered 250 <1@clinic.test>",
		"later@dest.test": "plain rest deferred 451 <1@clinic.test>",
		"bad@dest.test":   "plain rest failed 550 <1@clinic.test>",
		"never@dest.test": "refuse forbidden refused 550 <1@clinic.test>",
	} {
		if got[to] != want {
			t.Errorf("%s: got %q, want %q", to, got[to], want)
		}
	}
}

// A hop that answers under our own name would send mail round in a circle.
func TestCheckSeesAHopThatLeadsBack(t *testing.T) {
	h := newHouse(t, "5d", nil)
	g, err := gateway.OpenReadOnly(t.Context(), h.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.CheckHops(t.Context(), h.cfg); err != nil {
		t.Errorf("good hops: %v", err)
	}
	internet := h.cfg.Hops["internet"]
	internet.Addr = h.smtp
	h.cfg.Hops["internet"] = internet
	if err := g.CheckHops(t.Context(), h.cfg); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("a hop that leads back: %v", err)
	}
}

// A key that ran out seals nothing: the message waits, and the reply says what is to be done about it.
func TestExpiredKeyWaitsAndSaysSo(t *testing.T) {
	born := time.Now().Add(-48 * time.Hour)
	e, err := openpgp.NewEntity("P. Leroy", "", "leroy@dest.test", &packet.Config{KeyLifetimeSecs: 3600, Time: func() time.Time { return born }})
	if err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("encrypt: {keys: {leroy@dest.test: \"{key}\"}}\npickup: {url: \"http://{portal}\"}\nrules:\n  - {name: keys, has: [openpgp], route: encrypt, form: openpgp}\n  - {name: rest, route: refuse}\n"), nil,
		func(h *house) {
			var key bytes.Buffer
			if err := e.Serialize(&key); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(h.dir, "leroy.pgp"), key.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			h.key = filepath.Join(h.dir, "leroy.pgp")
		})
	got := h.send(h.lmtp, "dr@clinic.test", hello, "leroy@dest.test")
	if codes(got) != "451" || !strings.Contains(got[0], "Cle de chiffrement") {
		t.Errorf("got %q", got)
	}
	if n := len(h.sink.Messages()); n != 0 {
		t.Errorf("%d messages left", n)
	}
}
