package gateway_test

import (
	"bytes"
	"crypto/x509/pkix"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
)

// What lies there and what comes later arrives once each, marked, from who sent it, for whom the config says; IDLE brings it at once.
func TestCollectBringsMail(t *testing.T) {
	o := newOperator(t, "every: 25m")
	c := o.imap("one@op.test")
	put(t, c, arrival(1))
	until(t, "the first letter", func() bool { return len(o.clinic.Messages()) == 1 })
	var slowest time.Duration
	for n := 2; n < 8; n++ {
		put(t, c, arrival(n))
		began := time.Now()
		until(t, "a letter behind IDLE", func() bool { return len(o.clinic.Messages()) == n })
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("behind IDLE: %s at most", slowest)
	if slowest > 15*time.Second { // nothing polls before 25 minutes
		t.Errorf("a letter took %s", slowest)
	}
	m := o.clinic.Messages()[0]
	if m.Sender != "dr.martin@medecin.mssante.test" || len(m.Recipients) != 1 || m.Recipients[0] != "accueil@clinic.test" {
		t.Errorf("from %s to %v", m.Sender, m.Recipients)
	}
	if !bytes.HasSuffix(m.Data, []byte(arrival(1)[strings.Index(arrival(1), "From:"):])) || !bytes.Contains(m.Data, []byte("\r\nX-Passerelle-")) || !bytes.Contains(m.Data, []byte("operator 127.0.0.1")) {
		t.Errorf("arrived:\n%s", m.Data)
	}
	until(t, "flags", func() bool {
		f := flags(t, c, "INBOX")
		return len(f) == 7 && !slices.ContainsFunc(f, func(s string) bool { return s != `$passerellecollected \seen` })
	})
	o.stop()
	o.start()
	put(t, c, arrival(8))
	until(t, "a letter behind a restart", func() bool { return len(o.clinic.Messages()) >= 8 })
	if n := len(o.clinic.Messages()); n != 8 {
		t.Errorf("%d letters arrived, want 8", n)
	}
	until(t, "it is counted", func() bool { // a stopped box is forgotten
		return counter(t, "passerelle_collect_messages_total", "box", "one", "result", "taken") == 1
	})
	until(t, "success is told", func() bool {
		return time.Now().Unix()-int64(counter(t, "passerelle_collect_last_success_seconds", "box", "one")) < 60
	})
	if l := o.log.String(); strings.Contains(l, "one@") || strings.Contains(l, "accueil@") || strings.Contains(l, "martin") {
		t.Errorf("the log names people:\n%s", l)
	}
}

// What cannot be handed over stays, flagged, and the postmaster hears of it once; what is too large is not even fetched. Mail behind it is not
// held up.
func TestCollectLeavesPoison(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	c := o.imap("one@op.test")
	put(t, c, arrival(1)+strings.Repeat("x\r\n", 400<<10)) // 1.2 MB
	put(t, c, strings.Repeat("Received: by x; y\r\n", 101)+arrival(2))
	put(t, c, arrival(3))
	o.build(collectConfig, nil, "{more}", "after: delete", "{imap}", o.d.Addr())
	poison := `$passerellerefused \flagged`
	settled := func() bool { return slices.Equal(flags(t, c, "INBOX"), []string{poison, poison}) }
	until(t, "all is settled", settled)
	o.stop()
	o.start()
	put(t, c, arrival(4))
	until(t, "mail behind it", func() bool { return len(o.clinic.To("accueil@clinic.test")) >= 2 })
	until(t, "it is deleted", settled)
	if n := len(o.clinic.To("postmaster@clinic.test")); n != 2 {
		t.Errorf("the postmaster has %d letters, want one for each that stayed", n)
	}
	if n := len(o.clinic.Messages()); n != 4 {
		t.Errorf("%d letters arrived, want 2 and 2 for the postmaster: nothing goes to a sender", n)
	}
}

// A clinic's server that is away, or says later, costs nothing but time; a mailbox that the server numbers anew brings nothing twice, and what
// came meanwhile once.
func TestCollectWaitsAndRemembers(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	var later atomic.Bool
	later.Store(true)
	o.clinicRefuses = later.Load
	c := o.imap("one@op.test")
	for n := range 5 {
		put(t, c, arrival(n))
	}
	put(t, c, arrival(4)) // the same bytes in two messages
	o.build(collectConfig, nil, "{more}", "every: 10s", "{imap}", o.d.Addr())
	until(t, "later", func() bool {
		return counter(t, "passerelle_collect_messages_total", "box", "one", "result", "later") >= 3
	})
	if n := len(o.clinic.Messages()); n != 0 {
		t.Fatalf("%d letters", n)
	}
	later.Store(false)
	until(t, "all of them", func() bool { return len(o.clinic.Messages()) >= 6 })
	until(t, "flags", func() bool { return strings.Count(fmt.Sprint(flags(t, c, "INBOX")), "seen") == 6 })
	o.stop()
	c.Close()
	if err := o.d.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := o.d.NewValidity("one@op.test"); err != nil {
		t.Fatal(err)
	}
	if err := o.d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = o.imap("one@op.test")
	put(t, c, arrival(9))
	put(t, c, arrival(4)) // old bytes, a new message
	o.start()
	until(t, "the new ones", func() bool { return len(o.clinic.Messages()) >= 8 })
	until(t, "the others are known", func() bool {
		return counter(t, "passerelle_collect_messages_total", "box", "one", "result", "known") == 6
	})
	if n := len(o.clinic.Messages()); n != 8 {
		t.Errorf("%d letters, want 8", n)
	}
}

// MOVE, and without it COPY and UID EXPUNGE: what others marked as deleted stays.
func TestCollectMoves(t *testing.T) {
	for name, capability := range map[string]string{"MOVE": "", "COPY": "IMAP4rev1 UIDPLUS IDLE", "no IDLE": "IMAP4rev1 UIDPLUS MOVE"} {
		t.Run(name, func(t *testing.T) {
			o := prepareOperator(t, gatewaytest.DovecotOptions{Capability: capability})
			c := o.imap("one@op.test")
			put(t, c, arrival(1))
			put(t, c, arrival(2))
			o.build(collectConfig, nil, "{more}", "after: move, move_to: Repris, tls: implicit, every: 10s", "{imap}", o.d.TLSAddr())
			until(t, "an empty inbox", func() bool { return len(flags(t, c, "INBOX")) == 0 })
			if f := flags(t, c, "Repris"); len(f) != 2 {
				t.Errorf("moved: %q", f)
			}
			if n := len(o.clinic.Messages()); n != 2 {
				t.Errorf("%d letters arrived", n)
			}
			c.Select("INBOX", nil).Wait()
			if name == "no IDLE" {
				put(t, c, arrival(3))
				until(t, "the next look", func() bool { return len(o.clinic.Messages()) == 3 })
			}
		})
	}
}

// A token that the server refuses is asked for anew once, at once; then the mailbox waits, and is there again with a good one. Neither token is ever
// in the log.
func TestCollectTokens(t *testing.T) {
	for _, auth := range []string{"xoauth2", "oauthbearer"} {
		t.Run(auth, func(t *testing.T) {
			o := prepareOperator(t, gatewaytest.DovecotOptions{})
			file := filepath.Join(o.dir, "token")
			if err := os.WriteFile(file, []byte("jeton-perime"), 0o600); err != nil {
				t.Fatal(err)
			}
			put(t, o.imap("one@op.test"), arrival(1))
			o.build(collectConfig, nil, "{more}", fmt.Sprintf("auth: %s, token_command: [/bin/cat, %q]", auth, file), "{imap}", o.d.Addr())
			until(t, "two refusals", func() bool { return o.d.Asked() >= 2 })
			until(t, "the fault is counted", func() bool {
				return counter(t, "passerelle_collect_failures_total", "box", "one", "step", "login") == 1
			})
			if n := o.d.Asked(); n != 2 {
				t.Errorf("asked %d times at once, want 2", n)
			}
			o.d.Grant("jeton-bon", "one@op.test")
			if err := os.WriteFile(file, []byte("jeton-bon"), 0o600); err != nil {
				t.Fatal(err)
			}
			until(t, "the letter", func() bool { return len(o.clinic.Messages()) == 1 })
			if l := o.log.String(); strings.Contains(l, "jeton") {
				t.Errorf("the log tells a token:\n%s", l)
			}
		})
	}
}

// A reload starts what is new, stops what has gone and leaves the others alone; a server whose certificate is not of the trust space is never told
// anything.
func TestCollectReloads(t *testing.T) {
	o := newOperator(t, "every: 10s")
	put(t, o.imap("one@op.test"), arrival(1))
	until(t, "the first letter", func() bool { return len(o.clinic.Messages()) == 1 })
	load := func(entry string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(o.dir, "passerelle.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		begin, rest, _ := strings.Cut(string(text), "collect:\n")
		_, end, _ := strings.Cut(rest, "rules:")
		path := filepath.Join(o.dir, "next.yaml")
		if err := os.WriteFile(path, []byte(begin+"collect:\n"+entry+"\nrules:"+end), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := o.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := o.ca.IssueLocal(pkix.Name{CommonName: "two@op.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ca.WriteDir(filepath.Join(o.dir, "two"), cert); err != nil {
		t.Fatal(err)
	}
	put(t, o.imap("two@op.test"), arrival(2))
	load(fmt.Sprintf("  - {name: two, mailbox: two@op.test, addr: %q, cert: %q, key: %q}", o.d.Addr(), filepath.Join(o.dir, "two/cert.pem"), filepath.Join(o.dir, "two/key.pem")))
	until(t, "the other mailbox", func() bool { return len(o.clinic.To("two@op.test")) == 1 })
	put(t, o.imap("one@op.test"), arrival(3))
	until(t, "the first box is forgotten", func() bool { return counter(t, "passerelle_collect_last_success_seconds", "box", "one") == 0 })
	strange, err := gatewaytest.NewCA("another")
	if err != nil {
		t.Fatal(err)
	}
	if err := strange.WriteDir(filepath.Join(o.dir, "strange"), cert); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(o.dir, "strange/ca.pem"), filepath.Join(o.dir, "tls/ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(o.dir, "strange/crl.pem"), filepath.Join(o.dir, "tls/crl.pem")); err != nil {
		t.Fatal(err)
	}
	load(fmt.Sprintf("  - {name: three, mailbox: one@op.test, addr: %q}", o.d.Addr()))
	until(t, "a fault", func() bool {
		return counter(t, "passerelle_collect_failures_total", "box", "three", "step", "connect") > 0
	})
	if n := len(o.clinic.Messages()); n != 2 {
		t.Errorf("%d letters arrived", n)
	}
}

// Without deliver_to mail goes to whom the mailbox belongs by trust.identities.
func TestCollectGoesHome(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	table := filepath.Join(o.dir, "identities.csv")
	head, _, _ := strings.Cut(identityTable, "\n")
	if err := os.WriteFile(table, []byte(head+"\ndedans@clinic.test;one@op.test;ORG;;;;Accueil;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, o.imap("one@op.test"), arrival(1))
	text := strings.Replace(collectConfig, "deliver_to: accueil@clinic.test, ", "", 1)
	text = strings.Replace(text, `tls_dir: "{dir}/tls"`, `tls_dir: "{dir}/tls", own_domains: [op.test], identities: {table: "`+table+`"}`, 1)
	o.build(text, nil, "{more}", "every: 10s", "{imap}", o.d.Addr())
	until(t, "the letter", func() bool { return len(o.clinic.Messages()) == 1 })
	if m := o.clinic.Messages()[0]; len(m.Recipients) != 1 || m.Recipients[0] != "dedans@clinic.test" {
		t.Errorf("went to %v", m.Recipients)
	}
}

// A disk that takes no note of what Postfix has keeps the letter unflagged, and costs no second one: the next look finds it in the ledger.
func TestCollectCannotNote(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	o.build(collectConfig, nil, "{more}", "every: 10s", "{imap}", o.d.Addr())
	db, err := sql.Open("sqlite", "file:"+filepath.Join(o.dir, "state", "passerelle.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER full BEFORE INSERT ON collect_messages BEGIN SELECT RAISE(ABORT, 'full'); END`); err != nil {
		t.Fatal(err)
	}
	c := o.imap("one@op.test")
	put(t, c, arrival(1))
	until(t, "it cannot be noted", func() bool { return strings.Contains(o.log.String(), "settle a collected message") })
	if f := flags(t, c, "INBOX"); len(f) != 1 || f[0] != "" {
		t.Errorf("flags %q", f)
	}
	if _, err := db.Exec(`DROP TRIGGER full`); err != nil {
		t.Fatal(err)
	}
	until(t, "the flag", func() bool { return strings.Contains(fmt.Sprint(flags(t, c, "INBOX")), "seen") })
	if n := len(o.clinic.Messages()); n != 1 {
		t.Errorf("%d letters arrived", n)
	}
}
