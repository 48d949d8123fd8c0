package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/gatewaytest"
)

// reloads is a binary that serves a config file which the test writes anew.
type reloads struct {
	*benchGateway
	t          *testing.T
	ctx        context.Context
	plain      string // the text of the bench file
	tls        string // folder of the listeners' certificate
	ok, failed int
}

func newReloads(t *testing.T) *reloads {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	sink, env := benchSink(t, "plain", gatewaytest.Options{})
	dir := t.TempDir()
	r := &reloads{t: t, ctx: ctx, plain: string(read(t, "bench", "plain.yaml")), tls: dir}
	r.benchGateway = benchNew(t, binary(t), "plain", sink.Addr(), append(env, "TLS_DIR="+dir))
	r.config = filepath.Join(r.root, "passerelle.yaml")
	return r
}

func (r *reloads) put(name, text string) {
	r.t.Helper()
	benchCheck(r.t, os.WriteFile(filepath.Join(r.root, name), []byte(text), 0o600))
}

// hangup sends SIGHUP and waits for the reload's end, which must be as said.
func (r *reloads) hangup(good bool) {
	r.t.Helper()
	if good {
		r.ok++
	} else {
		r.failed++
	}
	benchCheck(r.t, r.cmd.Process.Signal(syscall.SIGHUP))
	var page string
	counts := func(result string) int {
		n := 0
		_, rest, found := strings.Cut(page, `passerelle_gateway_reload_total{result="`+result+`"} `)
		if found {
			fmt.Sscan(rest, &n)
		}
		return n
	}
	benchUntil(r.t, r.ctx, "the reload has ended", func() bool {
		page = r.metrics(r.t)
		return counts("ok")+counts("failed") >= r.ok+r.failed
	})
	if counts("ok") != r.ok || counts("failed") != r.failed {
		r.t.Fatalf("%d reloads went well and %d failed, want %d and %d", counts("ok"), counts("failed"), r.ok, r.failed)
	}
}

// want sends a letter in a session and wants that reply code.
func (r *reloads) want(s benchSession, code int, id string) {
	r.t.Helper()
	got := 250
	var reply *smtp.SMTPError
	if err := s.send(benchLetter(id, "nothing", 2000), "r@dest.test"); errors.As(err, &reply) {
		got = reply.Code
	} else if err != nil {
		r.t.Fatalf("%s: the session ended: %v", id, err)
	}
	if got != code {
		r.t.Fatalf("%s: reply %d, want %d", id, got, code)
	}
}

// shown is the certificate that a new session of the SMTP listener gets.
func (r *reloads) shown() *tls.ConnectionState {
	r.t.Helper()
	c, err := smtp.DialStartTLS(r.smtp, &tls.Config{InsecureSkipVerify: true}) // which one it is, is the question
	benchCheck(r.t, err)
	defer c.Close()
	benchCheck(r.t, c.Noop()) // the handshake waits for the first command
	state, _ := c.TLSConnectionState()
	return &state
}

// TestReload: the real binary under SIGHUP, with one session that stays open through all of it.
func TestReload(t *testing.T) {
	r := newReloads(t)
	ca, err := gatewaytest.NewCA("reload")
	benchCheck(t, err)
	issue := func(name string) *gatewaytest.Issued {
		leaf, err := ca.Issue(gatewaytest.Leaf{DNS: []string{name}})
		benchCheck(t, err)
		return leaf
	}
	first, second, third := issue("first.clinic.test"), issue("second.clinic.test"), issue("third.clinic.test")
	benchCheck(t, ca.WriteDir(r.tls, first))
	r.put("passerelle.yaml", r.plain)
	r.start(t)
	s, err := r.dial(false)
	benchCheck(t, err)
	defer s.Close()
	r.want(s, 250, "m0")

	// A message that has begun ends under the rules that it began under; the next one of the same session meets the new ones.
	refusing := strings.Replace(r.plain, `recipient: ["*@dest.test"], route: plain}`, `recipient: ["*@dest.test"], route: refuse, text: "Pas ce jour"}`, 1)
	refusing = strings.Replace(refusing, "route: plain, rule: bench}", "route: refuse, rule: bench}", 1)
	end, err := s.data(benchLetter("m1", "nothing", 2000), "r@dest.test")
	benchCheck(t, err)
	r.put("passerelle.yaml", refusing)
	r.hangup(true)
	if err := end.Close(); err != nil {
		t.Errorf("the message in hand: %v", err)
	}
	r.want(s, 550, "m2")

	// Faulty: an unknown route, and a file that is not there. Both are told with their place, and the former rules hold.
	r.put("passerelle.yaml", r.plain+"  - {from: a@clinic.test, to: b@dest.test, route: nowhere}\n")
	r.hangup(false)
	r.want(s, 550, "m3")
	r.put("passerelle.yaml", strings.Replace(r.plain, "hops:", "hops:\n  other: {addr: \"127.0.0.1:1\", tls: verify, ca: broken.pem}", 1))
	r.put("broken.pem", "nothing")
	r.hangup(false)
	r.want(s, 550, "m4")
	line := fmt.Sprint("passerelle.yaml:", strings.Count(r.plain, "\n")+1, ":")
	if log := string(read(t, r.root, "log")); !strings.Contains(log, line) || !strings.Contains(log, "broken.pem") {
		t.Errorf("no fault at %s, or none of broken.pem, in the log:\n%s", line, log)
	}

	// The list: a rule that reads it, an entry added, then a faulty list.
	list := filepath.Join(r.root, "list.csv")
	listed := strings.Replace(r.plain, `directory: {extraction: "${DIRECTORY:-}"}`, "directory: {list: "+list+"}", 1)
	listed = strings.Replace(listed, "  - {name: bench,", "  - {name: listed, person: [partner], route: refuse, text: \"Inscrit\"}\n  - {name: bench,", 1)
	r.put("list.csv", "adresse;type\nother@dest.test;partenaire\n")
	r.put("passerelle.yaml", listed)
	r.hangup(true)
	r.want(s, 250, "m5")
	r.put("list.csv", "adresse;type\nother@dest.test;partenaire\nr@dest.test;partenaire\n")
	r.hangup(true)
	r.want(s, 550, "m6")
	r.put("list.csv", "adresse;type;opose\nother@dest.test;;\n")
	r.hangup(false)
	r.want(s, 550, "m7")
	r.put("list.csv", "adresse;type\nother@dest.test;partenaire\n")
	r.hangup(true)
	r.want(s, 250, "m8")

	// What takes a restart keeps its value and is named.
	r.put("passerelle.yaml", strings.Replace(strings.Replace(listed, "hostname: ", "limits: {message: 1KiB, spill: 3GiB}\nhostname: ", 1), `"${LMTP_ADDR}"`, freeAddr(t)+", implicit_tls: true", 1))
	r.hangup(true)
	r.want(s, 250, "m9")
	if log := string(read(t, r.root, "log")); !strings.Contains(log, `"keys":["listen.lmtp.addr","listen.lmtp.implicit_tls","limits.message","limits.spill"]`) {
		t.Errorf("the keys that take a restart are not named:\n%s", log)
	}

	// Certificates: renewed without a signal; a pair that does not fit keeps the former one; then mended.
	show := func(want *gatewaytest.Issued, what string) {
		t.Helper()
		if got := r.shown().PeerCertificates[0]; !got.Equal(want.Cert) {
			t.Errorf("%s: the certificate of %v is shown, want %v", what, got.DNSNames, want.Cert.DNSNames)
		}
	}
	show(first, "at the start")
	benchCheck(t, ca.WriteDir(r.tls, second))
	later := time.Now().Add(time.Second)
	benchCheck(t, os.Chtimes(filepath.Join(r.tls, "cert.pem"), later, later))
	show(second, "renewed")
	benchCheck(t, os.WriteFile(filepath.Join(r.tls, "cert.pem"), third.CertPEM(), 0o600))
	show(second, "broken pair")
	r.hangup(false)
	show(second, "broken pair, reloaded")
	r.want(s, 250, "m10")
	benchCheck(t, ca.WriteDir(r.tls, third))
	r.put("passerelle.yaml", strings.Replace(r.plain, "level: warn", "level: info", 1))
	r.hangup(true)
	show(third, "mended")
	r.want(s, 250, "m11")
	if log := string(read(t, r.root, "log")); strings.Count(log, `"msg":"recipient"`) != 1 {
		t.Errorf("want the line of the last message alone, since log.level changed:\n%s", log)
	}
	r.stop(t)
}

// TestReloadClientCA: the CA that clients must come from changes with a reload; what a session in clear does is not its business.
func TestReloadClientCA(t *testing.T) {
	r := newReloads(t)
	var cas [2]*gatewaytest.CA
	var clients [2]tls.Certificate
	for i := range cas {
		ca, err := gatewaytest.NewCA(fmt.Sprint("ca", i))
		benchCheck(t, err)
		leaf, err := ca.Issue(gatewaytest.Leaf{DNS: []string{"client.clinic.test"}})
		benchCheck(t, err)
		cas[i], clients[i] = ca, leaf.TLS()
		benchCheck(t, ca.WriteDir(r.tls, leaf))
	}
	r.put("clients.pem", string(cas[0].CertPEM()))
	r.put("passerelle.yaml", strings.Replace(r.plain, `smtp: {addr: "${SMTP_ADDR}",`, `smtp: {addr: "${SMTP_ADDR}", client_ca: "`+filepath.Join(r.root, "clients.pem")+`",`, 1))
	r.start(t)
	admitted := func(i int) error {
		c, err := smtp.DialStartTLS(r.smtp, &tls.Config{InsecureSkipVerify: true, Certificates: clients[i : i+1]})
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Mail("staff@clinic.test", nil)
	}
	if a, b := admitted(0), admitted(1); a != nil || b == nil {
		t.Fatalf("before: %v; the other CA's client: %v", a, b)
	}
	r.put("clients.pem", string(cas[1].CertPEM()))
	r.hangup(true)
	if a, b := admitted(0), admitted(1); a == nil || b != nil {
		t.Fatalf("behind the reload the former CA's client: %v; the new one's: %v", a, b)
	}
	r.stop(t)
}

// TestStop: at SIGTERM what is in DATA is finished and delivered, nobody new is served, and the exit is clean. A second SIGTERM ends at once.
func TestStop(t *testing.T) {
	bin := binary(t)
	refused := func(b *benchGateway, ctx context.Context) {
		t.Helper()
		benchUntil(t, ctx, "connections are refused", func() bool {
			c, err := b.dial(false)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	}
	for _, lmtp := range []bool{true, false} {
		t.Run(fmt.Sprint("in DATA/lmtp=", lmtp), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			sink, goOn := heldSink(t)
			b := benchStart(t, bin, "plain", sink.Addr(), nil)
			letter := benchLetter("m0", "nothing", 200<<10)
			half, err := b.dial(lmtp) // in the midst of its body
			benchCheck(t, err)
			end, err := half.data(letter[:100<<10], "half@dest.test")
			benchCheck(t, err)
			held := make(chan error, 1) // at the hop
			go func() { held <- b.send(lmtp, letter, "held@dest.test") }()
			benchUntil(t, ctx, "the hop has a message", func() bool { return sink.Held() > 0 })
			benchCheck(t, b.cmd.Process.Signal(syscall.SIGTERM))
			refused(b, ctx)
			_, err = half.conn.Write(bytes.TrimSuffix(letter[100<<10:], []byte("\r\n")))
			benchCheck(t, err)
			goOn()
			if err := errors.Join(end.Close(), <-held); err != nil {
				t.Errorf("a message in hand was not taken: %v", err)
			}
			select {
			case <-b.ended:
			case <-ctx.Done():
				t.Fatal("it does not stop")
			}
			if !b.cmd.ProcessState.Success() {
				t.Errorf("it stopped with %v", b.cmd.ProcessState)
			}
			for _, to := range []string{"half@dest.test", "held@dest.test"} {
				if n := len(sink.To(to)); n != 1 {
					t.Errorf("%s has %d messages", to, n)
				}
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		sink, _ := heldSink(t)
		b := benchStart(t, bin, "plain", sink.Addr(), nil)
		go b.send(true, benchLetter("m0", "nothing", 2000), "held@dest.test")
		benchUntil(t, ctx, "the hop has the message", func() bool { return sink.Held() > 0 })
		benchCheck(t, b.cmd.Process.Signal(syscall.SIGTERM))
		refused(b, ctx)
		select {
		case <-b.ended:
			t.Fatal("it left a message in hand")
		default:
		}
		benchCheck(t, b.cmd.Process.Signal(syscall.SIGTERM))
		select {
		case <-b.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the second signal did not end it")
		}
		if ws := b.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
			t.Errorf("it ended with %v, want by the signal", b.cmd.ProcessState)
		}
	})
}
