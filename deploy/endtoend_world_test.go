package deploy_test

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway/gatewaytest"
)

// The recipients of five ways, and who writes to them.
const (
	staff   = "staff@clinic.test"
	doctor  = "doctor@mss.test"   // verified: trust
	holder  = "holder@key.test"   // has an OpenPGP key: encrypt
	lab     = "lab@zip.test"      // opens ZIP files: encrypt
	patient = "patient@mail.test" // has nothing: pickup
	shop    = "shop@plain.test"   // a rule says plain
)

// sealedSide are those whom a lost directory does not concern: none of their domains is in the trust space.
var sealedSide = []string{holder, lab, patient, shop}

// world is everybody around the real binary: real Postfix on both sides of it, fake peers at the three ends.
type world struct {
	dir                     string
	peer, internet, mailbox *gatewaytest.NextHop
	sms                     *gatewaytest.SMS
	ca                      *gatewaytest.CA
	peerCert                *gatewaytest.Issued
	key                     *openpgp.Entity
	postfix, border         *gatewaytest.Postfix
	lmtp, smtp, trust       string
	portal, metrics         string
	in, out                 string
	opt                     worldOptions
	config                  string // its path
	gateway                 *process
}

type worldOptions struct {
	snippet string
	sms     bool     // an SMS provider tells the ZIP's passphrase; else the sender does
	border  bool     // what leaves by the Internet goes through a second Postfix
	main    []string // further lines of main.cf
	idle    bool     // the test starts the gateway itself
	// internet answers each recipient at the Internet hop.
	internet func(recipient string) gatewaytest.Reply
}

func newWorld(t *testing.T, opt worldOptions) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), opt: opt}
	w.peers(t)
	for _, a := range []*string{&w.lmtp, &w.smtp, &w.trust, &w.portal, &w.metrics, &w.in, &w.out} {
		*a = freeAddr(t)
	}
	w.startPostfix(t)
	w.writeConfig(t, "enforce")
	w.importDirectory(t, time.Now())
	if !opt.idle {
		w.start(t)
	}
	return w
}

func freeAddr(t *testing.T) string {
	t.Helper()
	p, err := gatewaytest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", p)
}

// must gives v, or ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) peers(t *testing.T) {
	t.Helper()
	w.ca = must(gatewaytest.NewCA("AC de test"))(t)
	name := func(o, cn string) pkix.Name {
		return pkix.Name{Country: []string{"FR"}, Organization: []string{o}, CommonName: cn}
	}
	w.peerCert = must(w.ca.IssueLocal(name("PEER", "mss.peer.test"), "mss.peer.test"))(t)
	own := must(w.ca.IssueLocal(name("CLINIC", "mss.clinic.test"), "mss.clinic.test"))(t)
	hop := func(o gatewaytest.Options) *gatewaytest.NextHop {
		h := must(gatewaytest.StartNextHop(o))(t)
		t.Cleanup(func() { h.Close() })
		return h
	}
	w.peer = hop(gatewaytest.Options{Hostname: "mss.peer.test", TLS: w.ca.ServerTLS(w.peerCert, true), RequireTLS: true, RequireClientCert: true})
	var answer func(_, to string) gatewaytest.Reply
	if w.opt.internet != nil {
		answer = func(_, to string) gatewaytest.Reply { return w.opt.internet(to) }
	}
	w.internet, w.mailbox = hop(gatewaytest.Options{Rcpt: answer}), hop(gatewaytest.Options{})
	w.sms = gatewaytest.StartSMS()
	t.Cleanup(func() { w.sms.Close() })
	w.key = must(openpgp.NewEntity("Key Holder", "", holder, nil))(t)
	var key bytes.Buffer
	a := must(armor.Encode(&key, "PGP PUBLIC KEY BLOCK", nil))(t)
	list := fmt.Sprintf("- {address: %s, person: professional, openpgp: holder.asc}\n- {address: %s, person: professional, form: zip, prefer: encrypt, phone: \"06 12 34 56 78\"}\n", holder, lab)
	for _, err := range []error{w.ca.WriteDir(filepath.Join(w.dir, "tls"), own), w.key.Serialize(a), a.Close(),
		os.WriteFile(filepath.Join(w.dir, "holder.asc"), key.Bytes(), 0o600), os.WriteFile(filepath.Join(w.dir, "list.yaml"), []byte(list), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) startPostfix(t *testing.T) {
	t.Helper()
	run := func(o gatewaytest.PostfixOptions) *gatewaytest.Postfix {
		p := must(gatewaytest.StartPostfix(t.Context(), o))(t)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(p.LogText())
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	relay := func(addr string) string {
		host, port, _ := strings.Cut(addr, ":")
		return "relayhost = [" + host + "]:" + port
	}
	opt := gatewaytest.PostfixOptions{Name: "e2e-" + w.opt.snippet, Domains: []string{"clinic.test"}, LocalHop: w.mailbox.Addr(),
		Users: []string{staff, "person@clinic.test"}, Snippet: filepath.Join("postfix", w.opt.snippet), Main: w.opt.main,
		Replace: gatewaytest.Wiring{LMTP: w.lmtp, SMTP: w.smtp, In: w.in, Out: w.out, Internet: w.internet.Addr()}.Replace()}
	if w.opt.snippet == "content_filter" { // its hand-back outward leaves by the clinic's own way out
		opt.Main = append(opt.Main, relay(w.internet.Addr()))
	}
	w.postfix = run(opt)
	if w.opt.internet != nil { // the gateway's own hop, so that its answers are the gateway's to tell
		w.out = w.internet.Addr()
	}
	if w.opt.border {
		w.border = run(gatewaytest.PostfixOptions{Name: "e2e-border", LocalHop: w.mailbox.Addr(), Main: []string{relay(w.internet.Addr())}})
		w.out = w.border.Addr()
	}
}

const worldConfig = `mode: {mode}
hostname: passerelle.clinic.test
state_dir: {dir}/state
clinic: {name: Clinique de test, phone: "+33 1 00 00 00 00", domains: [clinic.test], postmaster: postmaster@clinic.test, queue_lifetime: 1h}
listen:
  lmtp: {addr: "{lmtp}"}
  smtp: {addr: "{smtp}"}
  trust: {addr: "{trust}"}
  portal: {addr: "{portal}"}
  metrics: {addr: "{metrics}"}
hops:
  clinic: {addr: "{in}", tls: none}
  internet: {addr: "{out}", tls: none}
trust:
  domains: {mss.test: ["CN=mss.peer.test,O=PEER,C=FR"]}
  hosts: {mss.test: "{peer}"}
  own_domains: [clinic.test]
  tls_dir: {dir}/tls
directory: {list: "{dir}/list.yaml", max_age: 21d}
pickup: {url: "http://{portal}", code: sender}
sms: {url: "{sms}"}
rules:
  - {name: professionals, verdict: [verified], trust_domain: true, route: trust}
  - {name: closed, domain: [closed.test], route: refuse, text: "Envoi ferme, telephonez"}
  - {name: suppliers, domain: [plain.test], route: plain}
  - {name: keys, has: [openpgp], route: encrypt, form: openpgp}
  - {name: preference, has: [preferred], route: pickup, preferred: true}
  - {name: others, route: pickup}
`

func (w *world) writeConfig(t *testing.T, mode string) {
	t.Helper()
	sms := ""
	if w.opt.sms {
		sms = w.sms.URL()
	}
	text := strings.NewReplacer("{mode}", mode, "{dir}", w.dir, "{lmtp}", w.lmtp, "{smtp}", w.smtp, "{trust}", w.trust, "{portal}", w.portal,
		"{metrics}", w.metrics, "{in}", w.in, "{out}", w.out, "{peer}", w.peer.Addr(), "{sms}", sms).Replace(worldConfig)
	w.config = filepath.Join(w.dir, "passerelle.yaml")
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// importDirectory does what an operator does, beside the gateway that runs. The file's name bears its date, as the national one's.
func (w *world) importDirectory(t *testing.T, asOf time.Time) {
	t.Helper()
	file := filepath.Join(w.dir, "Extraction_Correspondance_MSSante_"+asOf.UTC().Format("200601021504")+".txt")
	if err := gatewaytest.WriteDirectory(file, gatewaytest.Doctor(doctor, "Anne", "Durand")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary(t), "directory", "import", "--quiet", "--state-dir", filepath.Join(w.dir, "state"), file).CombinedOutput()
	if err != nil {
		t.Fatalf("directory import: %v\n%s", err, out)
	}
}

func (w *world) mirror() string { return filepath.Join(w.dir, "state", "directory.db") }

// process is the gateway as a child.
type process struct {
	cmd  *exec.Cmd
	log  string // path
	done chan error
}

// launch starts the binary.
func (w *world) launch(t *testing.T) {
	t.Helper()
	p := &process{log: filepath.Join(w.dir, "gateway.log"), done: make(chan error, 1)}
	f := must(os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600))(t)
	defer f.Close()
	p.cmd = exec.Command(binary(t), "serve", "--config", w.config)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	w.gateway = p
}

// start runs the binary until the test ends or stop is called.
func (w *world) start(t *testing.T) {
	t.Helper()
	w.launch(t)
	t.Cleanup(func() {
		w.stop(t)
		if t.Failed() {
			t.Log(w.logText(t))
		}
	})
	w.ready(t)
}

// ready waits for /readyz.
func (w *world) ready(t *testing.T) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.metrics+"/readyz", nil))(t)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-w.gateway.done:
			w.gateway.done <- err
			t.Fatalf("the gateway ended: %v\n%s", err, w.logText(t))
		case <-ctx.Done():
			t.Fatalf("the gateway did not become ready\n%s", w.logText(t))
		case <-tick.C:
		}
	}
}

func (w *world) stop(t *testing.T) {
	t.Helper()
	if w.gateway == nil {
		return
	}
	p := w.gateway
	w.gateway = nil
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("the gateway ended: %v", err)
		}
	case <-time.After(40 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		t.Error("the gateway did not stop in 40 s")
	}
}

// kill ends the gateway as a power cut does.
func (w *world) kill(t *testing.T) {
	t.Helper()
	p := w.gateway
	w.gateway = nil
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
}

func (w *world) logText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "gateway.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary is the real command, built once for all tests of this package; TestMain removes it.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "passerelle-e2e-"); built.err != nil {
			return
		}
		out, err := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(built.dir, "passerelle"), "passerelle/cmd/passerelle").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "passerelle")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}
