package gateway_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// behind is a house whose Internet hop is a script.
func behind(t *testing.T, mode string, s *scriptHop) *house {
	t.Helper()
	addr := "127.0.0.1:1" // nobody
	if s != nil {
		addr = s.serve(t)
	}
	return custom(t, strings.Replace(withRules(plainRules), "internet: {addr: \"{sink}\", tls: none}", "internet: {addr: \""+addr+"\", tls: "+mode+"}", 1), nil, nil)
}

// at gives a script's say: raw or a cut at one verb.
func at(verb, raw string) func(string) (string, bool) {
	return func(v string) (string, bool) {
		if v != verb {
			return "", false
		}
		return raw, raw == ""
	}
}

func hopReplies(t *testing.T, tab *replyTable) {
	for _, c := range []struct {
		s     *scriptHop
		words string
	}{
		{nil, "le relais suivant ne repond pas"},
		{&scriptHop{say: at("RCPT", "")}, "connexion perdue avec le relais suivant"},
		{&scriptHop{say: at(".", "")}, "issue inconnue"},
		{&scriptHop{say: at("RCPT", "bonjour")}, "reponse incomprehensible"},
		{&scriptHop{say: at("RCPT", "421 4.3.2 going down")}, "Relais {}: {}"},
		{&scriptHop{say: at("RCPT", "550 5.1.1 <x@y>: no \xe9")}, "Relais {}: {}"},
	} {
		h := behind(t, "none", c.s)
		got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test")
		tab.hears(t, got, c.words)
		if strings.HasPrefix(got[0], "421") {
			t.Errorf("a hop's 421 was handed through: %q", got)
		}
		h.stop()
	}
	// A kept message that cannot be read back: its nameless temp file is cut short while the hop thinks about RCPT.
	s := &scriptHop{}
	s.say = func(verb string) (string, bool) {
		if verb == "RCPT" {
			cutTempFiles(t)
		}
		return "", false
	}
	text := strings.Replace(withRules(plainRules), "clinic:", "limits: {memory: 64KB}\nclinic:", 1)
	h := custom(t, strings.Replace(text, "{sink}", s.serve(t), 1), nil, nil)
	tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello+strings.Repeat("mot\n", 200000), "ok@dest.test"), "erreur interne")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != 0 {
		t.Error("the hop took half a message for a whole one")
	}
}

// cutTempFiles empties every file without a name that this process has open.
func cutTempFiles(t *testing.T) {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, e := range list {
		path := filepath.Join("/proc/self/fd", e.Name())
		if to, err := os.Readlink(path); err == nil && strings.HasSuffix(to, " (deleted)") && strings.HasPrefix(to, os.TempDir()) {
			os.Truncate(path, 0)
		}
	}
}

func hopTLSReplies(t *testing.T, tab *replyTable) {
	ca, err := gatewaytest.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.IssueLocal(pkix.Name{CommonName: "script.test", Organization: []string{"OTHER"}, Country: []string{"FR"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode  string
		s     *scriptHop
		words string
	}{
		{"encrypt", &scriptHop{}, "ne propose pas STARTTLS"},
		{"encrypt", &scriptHop{ext: []string{"STARTTLS"}, say: at("STARTTLS", "454 4.7.0 not now")}, "refuse STARTTLS"},
		{"encrypt", &scriptHop{ext: []string{"STARTTLS"}, say: at("STARTTLS", "220 go\r\n250 injected")}, "STARTTLS falsifie"},
		{"verify", &scriptHop{ext: []string{"STARTTLS"}, tls: &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}}, "liaison TLS refusee"},
	} {
		h := behind(t, c.mode, c.s)
		tab.hears(t, h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test"), c.words)
		h.stop()
	}
	// The trust space: a server of the right CA and the wrong name in its certificate.
	h := newInSpace(t, plainRules, nil, nil)
	h.stop()
	h.cfg.Trust.Domains["peer.mssante.test"] = []string{"CN=somebody.else,C=FR"}
	h.start()
	tab.hears(t, h.send(h.lmtp, "dr@mss.clinic.test", hello, "marie.durand@peer.mssante.test"), "certificat du relais suivant refuse")
	if n := len(h.peer.Messages()); n != 0 {
		t.Errorf("%d messages reached a server of another name", n)
	}
	// listed_unverified: refuse
	s := newSpace(t)
	file := filepath.Join(t.TempDir(), "extraction.txt")
	h2 := custom(t, withRules(plainRules)+strings.Replace(trustText, "trust:\n", "trust:\n  listed_unverified: refuse\n", 1)+"directory: {extraction: \""+file+"\"}\n", nil, func(h *house) {
		if err := os.Mkdir(filepath.Join(h.dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := gatewaytest.WriteDirectory(file, gatewaytest.Doctor("a@peer.mssante.test", "A", "B")); err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.ImportDirectory(t.Context(), filepath.Join(h.dir, "state"), file, false, nil); err != nil {
			t.Fatal(err)
		}
	}, "{tls}", s.dir)
	tab.hears(t, h2.send(h2.lmtp, "dr@mss.clinic.test", hello, "nobody@peer.mssante.test"), "absent de l'annuaire de sante")
}

// ability is one thing that a message needs of its hop.
type ability struct {
	ext        string // what a hop offers that has it
	mail, rcpt string // parameters of MAIL; the recipient
	content    string
	words      string
	told       string // what MAIL to the hop says then
}

var abilities = []ability{
	{"8BITMIME", " BODY=8BITMIME", "a@dest.test", strings.Replace(hello, "bonjour", "été", 1), "contenu 8 bits refuse", " BODY=8BITMIME"},
	{"SMTPUTF8", " SMTPUTF8", "zoé@dest.test", hello, "adresse internationale refusee", " SMTPUTF8"},
	{"SMTPUTF8", " SMTPUTF8 BODY=8BITMIME", "a@dest.test", strings.Replace(hello, "essai", "été", 1), "en-tete en UTF-8 refuse", " SMTPUTF8"},
	{"SIZE 100000", "", "a@dest.test", hello + strings.Repeat("mot\n", 10000), "message de", " SIZE="},
}

// speak hands a message in with parameters, as send does; it gives the replies to the dot, or the one that came before.
func (h *house) speak(tab *replyTable, addr, params, content string, to ...string) (got []string) {
	for range 1000 {
		if got = h.speakOnce(tab, addr, params, content, to...); !strings.Contains(got[0], "deja en cours") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return got
}

func (h *house) speakOnce(tab *replyTable, addr, params, content string, to ...string) (got []string) {
	l := tab.dial(h.t, addr)
	l.read()
	greeting, n := "EHLO", 1
	if addr == h.lmtp {
		greeting, n = "LHLO", len(to)
	}
	l.say(greeting + " client.clinic.test")
	if r := l.say("MAIL FROM:<dr@clinic.test>" + params); r[0] != '2' {
		return []string{r}
	}
	for _, r := range to {
		if got := l.say("RCPT TO:<" + r + ">"); got[0] != '2' {
			return []string{got}
		}
	}
	l.say("DATA")
	got = append(got, l.say(strings.ReplaceAll(content, "\n", "\r\n")+"."))
	for len(got) < n {
		got = append(got, l.read())
	}
	return got
}

// What a message needs and its hop has not: the right reply under both protocols, beside a recipient who is served all the same; and a
// hop that has it is told.
func abilityReplies(t *testing.T, tab *replyTable) {
	for _, a := range abilities {
		poor, rich := &scriptHop{ext: []string{"8BITMIME"}}, &scriptHop{ext: []string{"8BITMIME", a.ext, "SIZE 90000000"}}
		if a.ext == "8BITMIME" {
			poor.ext = nil
		}
		if strings.HasPrefix(a.ext, "SIZE") {
			poor.ext = []string{"SIZE 20000"}
		}
		text := strings.Replace(withRules(plainRules), "internet: {addr: \"{sink}\", tls: none}", "internet: {addr: \""+poor.serve(t)+"\", tls: none}\n  rich: {addr: \""+rich.serve(t)+"\", tls: none}", 1)
		text = strings.Replace(text, plainRules, "rules:\n  - {name: rich, recipient: [\"rich@*\"], route: plain, hop: rich}\n  - {name: rest, route: plain}\n", 1)
		h := custom(t, text, nil, nil)
		for _, addr := range []string{h.lmtp, h.smtp} {
			got := h.speak(tab, addr, a.mail, a.content, a.rcpt)
			tab.hears(t, got, a.words)
			if len(got) != 1 || got[0][0] != '5' {
				t.Errorf("%s: alone: %q", a.ext, got)
			}
		}
		tab.hears(t, h.speak(tab, h.lmtp, a.mail, a.content, "rich@other.test", a.rcpt)[1:], a.words)
		if got := h.speak(tab, h.smtp, a.mail, a.content, "rich@other.test", a.rcpt); codes(got) != "250" {
			t.Errorf("%s, mixed under SMTP: %q", a.ext, got)
		}
		if ms := h.clinic.To("dr@clinic.test"); len(ms) != 1 || !strings.Contains(string(ms[0].Data), a.words[:10]) {
			t.Errorf("%s: %d bounces", a.ext, len(ms))
		}
		rich.mu.Lock()
		if len(poor.got) != 0 || len(rich.got) != 2 {
			t.Errorf("%s: the hop that cannot got %d, the other %d", a.ext, len(poor.got), len(rich.got))
		}
		if strings.Contains(a.rcpt, "é") || a.told == "" {
			rich.mail = nil
		}
		for _, m := range rich.mail {
			if !strings.Contains(m, a.told) {
				t.Errorf("the hop was told %q, want%s", m, a.told)
			}
		}
		rich.mu.Unlock()
		h.stop()
	}
	requireTLSReplies(t, tab)
}

// requireTLSReplies: REQUIRETLS (RFC 8689) comes over TLS, and leaves over verified TLS to a hop that promises it, or not at all.
func requireTLSReplies(t *testing.T, tab *replyTable) {
	s := newSpace(t)
	text := strings.Replace(withRules(plainRules), "smtp: {addr: \"{smtp}\"}", "smtp: {addr: \"{smtp}\", tls_dir: \"{tls}\"}", 1)
	h := custom(t, text, nil, nil, "{tls}", s.dir)
	l := tab.dial(t, h.smtp).hello()
	l.say("STARTTLS")
	c := tls.Client(l.c, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "localhost"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	l = &line{t, tab, c, nil}
	l.reset()
	for _, s := range []string{"EHLO client.clinic.test", "MAIL FROM:<dr@clinic.test> REQUIRETLS", "RCPT TO:<a@dest.test>", "DATA"} {
		if got := l.say(s); got[0] > '3' {
			t.Fatal(fmt.Sprint(s, ": ", got))
		}
	}
	l.want(strings.ReplaceAll(hello, "\n", "\r\n")+".", "REQUIRETLS demande mais non garanti")
	if n := len(h.sink.Messages()); n != 0 {
		t.Errorf("%d messages left without the promise", n)
	}
}
