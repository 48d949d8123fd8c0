package gateway_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
)

// Each row of docs/operations.md "What Postfix shows and what it means" is brought about by its real cause and compared with what the
// client reads.
func TestEachReplyOfTheTable(t *testing.T) {
	tab := readReplyTable(t)
	for _, s := range []struct {
		name string
		run  func(*testing.T, *replyTable)
	}{{"wire", wireReplies}, {"doors", doorReplies}, {"room", roomReplies}, {"tls", tlsReplies}, {"flow", flowReplies}, {"rules", ruleReplies}, {"directory", directoryReplies},
		{"sealing", sealingReplies}, {"trust", trustReplies}, {"white list", listReplies}, {"hop", hopReplies}, {"hop's tls", hopTLSReplies}, {"abilities", abilityReplies}, {"operator", operatorReplies}, {"protected", protectedReplies}} {
		t.Run(s.name, func(t *testing.T) { s.run(t, tab) })
	}
	for key := range tab.rows {
		if !tab.heard[key] && elsewhere[key] == "" {
			t.Errorf("no client heard: %s", key)
		}
		if tab.heard[key] && elsewhere[key] != "" {
			t.Errorf("heard after all: %s", key)
		}
	}
}

// line is a client that says what it wants.
type line struct {
	t   *testing.T
	tab *replyTable
	c   net.Conn
	in  *bufio.Reader
}

func (tab *replyTable) dial(t *testing.T, addr string) *line {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &line{t, tab, c, bufio.NewReader(c)}
}

func (l *line) reset() { l.in = bufio.NewReader(l.c) }

// read gives the last line of the next reply.
func (l *line) read() string {
	l.t.Helper()
	for {
		s, err := l.in.ReadString('\n')
		if err != nil {
			l.t.Fatalf("read a reply: %v", err)
		}
		if len(s) > 3 && s[3] != '-' {
			return strings.TrimRight(s, "\r\n")
		}
	}
}

func (l *line) say(s string) string {
	l.t.Helper()
	if s != "" {
		io.WriteString(l.c, s+"\r\n")
	}
	return l.read()
}

// want says s and holds the reply against its row.
func (l *line) want(s, words string) {
	l.t.Helper()
	l.tab.hear(l.t, l.say(s), words)
}

func (l *line) hello() *line {
	l.t.Helper()
	l.read()
	l.say("EHLO client.clinic.test")
	return l
}

// hears holds the replies to a message against their rows.
func (tab *replyTable) hears(t *testing.T, got []string, words string) {
	t.Helper()
	for _, g := range got {
		tab.hear(t, g, words)
	}
}

const plainRules = "rules:\n  - {name: rest, route: plain}\n"

func wireReplies(t *testing.T, tab *replyTable) {
	h := custom(t, strings.Replace(withRules(plainRules), "clinic:", "limits: {message: 1MB, recipients: 2}\nclinic:", 1), nil, nil)
	l := tab.dial(t, h.smtp)
	l.read()
	l.want("MAIL FROM:<a@clinic.test>", "hors sequence")
	l.want("EHLO -!-", "Parametre refuse")
	l.say("EHLO client.clinic.test")
	l.want("FOO", "Commande inconnue")
	l.want("NOOP\x01", "Ligne de commande refusee")
	l.want("AUTH PLAIN", "non offerte")
	l.want("VRFY x", "non verifiee")
	l.want("MAIL FROM:<a b@clinic.test>", "")
	l.want("MAIL FROM:<a@-.test>", "l'expediteur refusee")
	l.want("MAIL FROM:<a@clinic.test> XFOO=1", "Parametre non offert")
	l.want("MAIL FROM:<a@clinic.test> SIZE=2000000", "plus grand")
	l.want("MAIL FROM:<a@clinic.test> REQUIRETLS", "REQUIRETLS")
	l.want("MAIL FROM:<\u00e9@clinic.test>", "Adresse non ASCII")
	l.want("MAIL FROM:<a@clinic.test>", "Expediteur accepte")
	l.want("RCPT TO:<a@-.test>", "destinataire refusee")
	l.want("RCPT TO:<a@dest.test>", "Destinataire accepte")
	l.want("RCPT TO:<b@dest.test>", "Destinataire accepte")
	l.want("RCPT TO:<c@dest.test>", "Trop de destinataires")
	l.say("DATA")
	l.want("a\nb\r\n.", "isole")
	l.say("MAIL FROM:<a@clinic.test>")
	l.say("RCPT TO:<a@dest.test>")
	l.want("BDAT 5\r\nabc", "Bien, la suite") // with the line end of say
	l.want("RSET", "Bien")
	l.want("QUIT", "Au revoir")
	l = tab.dial(t, h.smtp).hello()
	for range 20 {
		l.say("FOO")
	}
	l.want("FOO", "trop de commandes")
	l = tab.dial(t, h.smtp).hello()
	h.stop()
	l.want("", "Arret")
}

func doorReplies(t *testing.T, tab *replyTable) {
	h := custom(t, strings.Replace(withRules(plainRules), "clinic:", "recipients: {domains: [dest.test]}\nlimits: {sessions: 1, sessions_per_client: 1, idle: 300ms}\nclinic:", 1), nil, nil)
	var l *line
	for { // the probe of the house's start may still count
		if l = tab.dial(t, h.smtp); strings.HasPrefix(l.read(), "220") {
			break
		}
	}
	waits := tab.dial(t, h.smtp)
	tab.dial(t, h.smtp).want("", "Trop de sessions")
	waits.c.Close()
	l.say("EHLO client.clinic.test")
	l.say("MAIL FROM:<a@clinic.test>")
	l.want("RCPT TO:<a@other.test>", "non desservi")
	l.want("", "delai depasse")
	h = custom(t, strings.Replace(withRules(plainRules), "domains: [clinic.test]", "networks: [192.0.2.0/24], domains: [clinic.test]", 1), nil, nil)
	tab.dial(t, h.smtp).want("", "Reseau non autorise")
}

// no temp folder and no memory.
func roomReplies(t *testing.T, tab *replyTable) {
	h := custom(t, strings.Replace(withRules(plainRules), "clinic:", "limits: {memory: 64KB}\nclinic:", 1), nil, nil)
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "gone"))
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello+strings.Repeat("mot\n", 100000), "ok@dest.test"), "Plus de place")
}

func tlsReplies(t *testing.T, tab *replyTable) {
	s := newSpace(t)
	text := strings.Replace(withRules(plainRules), "smtp: {addr: \"{smtp}\"}", "smtp: {addr: \"{smtp}\", tls_dir: \"{tls}\", require_tls: true}", 1)
	h := custom(t, text, nil, nil, "{tls}", s.dir)
	l := tab.dial(t, h.smtp).hello()
	l.want("MAIL FROM:<a@clinic.test>", "Utilisez d'abord STARTTLS")
	l.want("STARTTLS", "Pret pour TLS")
	l = tab.dial(t, h.smtp).hello()
	l.want("STARTTLS\r\nNOOP", "Donnees en clair")
}

func flowReplies(t *testing.T, tab *replyTable) {
	var clock, clinicAway atomic.Int64
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h := &house{t: t, dir: t.TempDir(), log: newBuffer(), clinicRefuses: func() bool { return clinicAway.Load() != 0 },
		opts: []gateway.Option{gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(clock.Load())) })}}
	h.build(strings.Replace(withRules("rules:\n  - {name: mine, recipient: [\"mine@*\"], route: refuse, text: \"Pas ici\"}\n  - {name: rest, route: plain}\n"), "5d", "1h", 1), func(to string) gatewaytest.Reply {
		if strings.HasPrefix(to, "held") {
			once.Do(func() { close(held); <-hold })
		}
		return later(to)
	})
	go func() { h.once(h.lmtp, "dr@clinic.test", hello, "held@dest.test"); held <- struct{}{} }()
	<-held
	held = make(chan struct{}, 1)
	time.Sleep(1100 * time.Millisecond) // before that it is a message of its own
	tab.hears(t, h.once(h.lmtp, "dr@clinic.test", hello, "held@dest.test"), "deja en cours")
	close(hold)
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "ok@dest.test"), "Ok")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "later@dest.test", "bad@dest.test"), "Relais {}: {}")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "mine@dest.test"), "550 5.7.1 {}")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\n", 300)+hello, "ok@dest.test"), "En-tete")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", strings.Repeat("Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0100\n", 120)+hello, "ok@dest.test"), "Boucle")
	deafHouse, _ := deaf(t, func(h *house) { h.clinicRefuses = func() bool { return true } })
	tab.hears(t, deafHouse.send(deafHouse.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"), "compte rendu demande")
	clinicAway.Store(1)
	tab.hears(t, h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"), "Avis de non-remise")
	h.send(h.smtp, "dr@clinic.test", hello+"x\n", "later@dest.test", "bad@dest.test")
	clock.Store(int64(58 * time.Minute))
	tab.hears(t, h.send(h.smtp, "dr@clinic.test", hello+"x\n", "later@dest.test", "bad@dest.test"), "Abandon apres")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "state", "passerelle.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("ALTER TABLE ledger_entries RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello+"y\n", "ok@dest.test"), "Registre")
	l := tab.dial(t, h.lmtp)
	l.read()
	l.say("LHLO client.clinic.test")
	l.want("MAIL FROM:<a@clinic.test>", "Registre")
	if _, err := db.Exec("ALTER TABLE away RENAME TO ledger_entries"); err != nil {
		t.Fatal(err)
	}
}

const spaceRules = `rules:
  - {name: broken, recipient: ["broken@*"], when: 'int(header["X-N"][0]) > 1', route: plain}
  - {name: forbidden, recipient: ["never@*"], route: refuse}
  - {name: astray, recipient: ["astray@*"], route: trust}
  - {name: qualified, recipient: ["270*@patient.mssante.fr"], qualified: true, route: trust}
  - {name: sealed, recipient: ["sealed@*"], route: pickup}
  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}
  - {name: rest, route: plain}
pickup: {url: "http://{portal}"}
`

func ruleReplies(t *testing.T, tab *replyTable) {
	h := newInSpace(t, spaceRules, nil, nil)
	from := "dr@mss.clinic.test"
	tab.hears(t, h.send(h.lmtp, from, hello, "never@dest.test"), "Envoi refuse par une regle")
	tab.hears(t, h.send(h.lmtp, from, "X-Passerelle-Opposition: oui\n"+hello, "a@dest.test"), "s'oppose")
	tab.hears(t, h.send(h.lmtp, from, "Auto-Submitted: auto-replied\n"+hello, "sealed@dest.test"), "Envoi automatique")
	tab.hears(t, h.send(h.lmtp, from, hello, "astray@dest.test"), "n'est pas dans l'espace")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "marie.durand@peer.mssante.test"), "ecrivez depuis votre adresse")
	tab.hears(t, h.send(h.lmtp, from, hello, "123@patient.mssante.fr"), "matricule INS")
	tab.hears(t, h.send(h.lmtp, from, hello, "255081416802538@patient.mssante.fr", "a@dest.test")[:1], "un seul patient")
	tab.hears(t, h.send(h.lmtp, from, hello, "255081416802538@patient.mssante.fr"), "qualifiee")
	tab.hears(t, h.send(h.lmtp, from, hello, "broken@dest.test"), "inapplicable")
	h = newInSpace(t, "rules:\n  - {name: elsewhere, known_as: true, route: refuse}\n  - {name: rest, route: plain}\n#directory: known_as: suggest, list: \""+
		listFile(t, "adresse;mss\nmarie@dest.test;marie.durand@peer.mssante.test\n")+"\"\n", nil, nil)
	tab.hears(t, h.send(h.lmtp, from, hello, "marie@dest.test"), "ecrivez-lui a ")
	if strings.Contains(h.log.String(), "marie") {
		t.Error("the log names who was written to")
	}
}

func directoryReplies(t *testing.T, tab *replyTable) {
	var clock atomic.Int64
	h := newInSpace(t, "rules:\n  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}\n  - {name: rest, route: plain}\n", nil, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }))
	})
	mirror := filepath.Join(h.dir, "state", directory.MirrorName)
	ask := func(words string) {
		t.Helper()
		tab.hears(t, h.send(h.lmtp, "dr@mss.clinic.test", hello, "marie.durand@peer.mssante.test"), words)
	}
	ask("Ok")
	clock.Store(int64(22 * 24 * time.Hour))
	ask("trop ancien")
	clock.Store(int64(-5 * 24 * time.Hour))
	ask("incoherente")
	clock.Store(0)
	h.mirror(false)
	ask("absent")
	h.mirror(true)
	if err := os.Chmod(mirror, 0); err != nil {
		t.Fatal(err)
	}
	ask("illisible")
	os.Chmod(mirror, 0o600)
	b, err := os.ReadFile(mirror)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	os.Remove(mirror)
	if err := os.WriteFile(mirror, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ask("endommage")
}

// sealingReplies: a key that ran out, an SMS provider that is away, a vault that cannot write.
func sealingReplies(t *testing.T, tab *replyTable) {
	born := time.Now().Add(-48 * time.Hour)
	e, err := openpgp.NewEntity("P. Leroy", "", "leroy@dest.test", &packet.Config{KeyLifetimeSecs: 3600, Time: func() time.Time { return born }})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(list, []byte("- {address: zip@dest.test, phone: \"+33612345678\", form: zip}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("encrypt: {limits: {zip: 16KiB}, keys: {leroy@dest.test: \"{key}\"}}\ndirectory: {list: \"{list}\"}\nsms: {url: \"http://127.0.0.1:1/\"}\npickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: must, tag: [must], route: encrypt, form: zip, fallback: refuse}\n  - {name: pdf, tag: [pdf], route: encrypt, form: pdf, fallback: refuse}\n"+
		"  - {name: keys, has: [openpgp], route: encrypt, form: openpgp}\n  - {name: zip, recipient: [\"zip@*\"], route: encrypt, form: zip}\n  - {name: rest, route: pickup}\n"), nil,
		func(h *house) {
			var key bytes.Buffer
			if err := e.Serialize(&key); err != nil {
				t.Fatal(err)
			}
			h.key = filepath.Join(h.dir, "leroy.pgp")
			if err := os.WriteFile(h.key, key.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "{list}", list)
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "leroy@dest.test"), "Cle de chiffrement")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "zip@dest.test"), "mot de passe par SMS")
	must := strings.Replace(hello, "Subject: ", "Subject: [must] ", 1)
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", must, "patient@dest.test"), "ni certificat ni cle")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", must+strings.Repeat("bonjour\n", 5000), "zip@dest.test"), "trop volumineux")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", strings.Replace(strings.Replace(formsLetter(100), "application/dicom", "application/zip", 1), "Subject: ", "Subject: [pdf] ", 1), "zip@dest.test"), "sous la forme prevue")
	deposits := filepath.Join(h.dir, "state", "deposits")
	if err := os.RemoveAll(deposits); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(deposits, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"), "Incident interne")
	h.stop() // what config.Load refuses
	h.cfg.Pickup.URL, h.cfg.Listen.Portal.Addr, h.cfg.Encrypt.Unclear = "", "", "refuse"
	h.start()
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "other@dest.test"), "pickup.url")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", strings.Replace(hello, "Subject", "Content-Type: multipart/mixed; boundary=a; boundary=b\nSubject", 1), "other@dest.test"), "ambigue")
	h.stop()
	h.cfg.Hops["clinic"] = config.Hop{}
	h.alterKeys("ALTER TABLE keyring_keys RENAME TO gone")
	h.start()
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "colleague@clinic.test"), "a completer dans hops")
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "other@dest.test"), "Cles des correspondants")
}
