package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestSnippets attaches each shipped snippet to a real private Postfix, with a fake gateway behind it, and watches who gets what.
func TestSnippets(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	for _, s := range []struct {
		name         string
		lmtp         bool
		internalSees bool // the gateway sees internal recipients of a submitted message
	}{{"lmtp", true, false}, {"smtp-relayhost", false, false}, {"content_filter", true, true}} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, s.name, s.lmtp)
			t.Run("each recipient has a reply of its own", func(t *testing.T) { b.ownReplies(t, s.internalSees) })
			t.Run("incoming mail never passes and loses forged marks", b.incoming)
			t.Run("hand-back inward takes the clinic's own mail alone", b.inward)
			t.Run("hand-back outward goes past the gateway", b.outward)
			t.Run("out leaves nothing behind", b.detach)
		})
	}
}

type bench struct {
	name                       string
	gateway, mailbox, internet *gatewaytest.NextHop
	postfix                    *gatewaytest.Postfix
	in, out                    string
}

func newBench(t *testing.T, name string, lmtp bool) *bench {
	t.Helper()
	b := &bench{name: name}
	hop := func(o gatewaytest.Options) *gatewaytest.NextHop {
		h, err := gatewaytest.StartNextHop(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h
	}
	b.gateway = hop(gatewaytest.Options{LMTP: lmtp, Data: func(_ int, _, to string) gatewaytest.Reply {
		switch {
		case strings.HasPrefix(to, "later"):
			return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "Annuaire injoignable, nouvel essai plus tard"}
		case strings.HasPrefix(to, "never"):
			return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Aucune voie sure, telephonez au destinataire"}
		}
		return gatewaytest.Reply{}
	}})
	b.mailbox, b.internet = hop(gatewaytest.Options{}), hop(gatewaytest.Options{})
	port := func() string {
		p, err := gatewaytest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("127.0.0.1:%d", p)
	}
	b.in, b.out = port(), port()
	w := gatewaytest.Wiring{LMTP: b.gateway.Addr(), SMTP: b.gateway.Addr(), In: b.in, Out: b.out, Internet: b.internet.Addr()}
	opt := gatewaytest.PostfixOptions{Name: name, Domains: []string{"clinic.test"}, LocalHop: b.mailbox.Addr(),
		Users: []string{"staff@clinic.test", "person@clinic.test"}, Snippet: filepath.Join("postfix", name), Replace: w.Replace()}
	if name == "content_filter" { // its hand-back outward leaves by the clinic's own way out
		host, p, _ := strings.Cut(b.internet.Addr(), ":")
		opt.Main = []string{"relayhost = [" + host + "]:" + p}
	}
	p, err := gatewaytest.StartPostfix(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.LogText())
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	b.postfix = p
	return b
}

func letter(headers string) []byte {
	return []byte("From: staff@clinic.test\r\nTo: someone@dest.test\r\nSubject: essai\r\nMessage-ID: <1@clinic.test>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\n" + headers +
		"\r\nBonjour,  \r\n.une ligne avec point\r\n\tet une tabulation \r\n")
}

func send(t *testing.T, addr, from string, headers string, to ...string) {
	t.Helper()
	if err := smtp.SendMail(addr, nil, from, to, letter(headers)); err != nil {
		t.Fatalf("send to %s by %s: %v", to, addr, err)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func has(recipient string) func([]gatewaytest.Message) bool {
	return func(all []gatewaytest.Message) bool {
		for _, m := range all {
			for _, r := range m.Recipients {
				if r == recipient {
					return true
				}
			}
		}
		return false
	}
}

func (b *bench) ownReplies(t *testing.T, internalSees bool) {
	ctx := within(t)
	send(t, b.postfix.SubmissionAddr(), "staff@clinic.test", "", "ok@dest.test", "later@dest.test", "never@dest.test", "person@clinic.test")
	if _, err := b.gateway.WaitFor(ctx, has("ok@dest.test")); err != nil {
		t.Fatal(err)
	}
	if n := len(b.gateway.To("ok@dest.test")); n != 1 {
		t.Errorf("ok@dest.test got %d copies, want 1", n)
	}
	q, err := b.postfix.WaitQueue(ctx, func(q []gatewaytest.Queued) bool {
		return len(q) == 1 && len(q[0].Recipients) == 1 && strings.Contains(q[0].Recipients[0].Reason, "Annuaire injoignable")
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, q)
	}
	if got := q[0].Recipients[0].Address; got != "later@dest.test" {
		t.Errorf("the queue keeps %s, want later@dest.test", got)
	}
	all, err := b.mailbox.WaitFor(ctx, has("staff@clinic.test"))
	if err != nil {
		t.Fatalf("bounce: %v", err)
	}
	for _, m := range all {
		if has("staff@clinic.test")([]gatewaytest.Message{m}) {
			for _, want := range []string{"Subject: Votre message n'est pas parti", "Aucune voie sure"} {
				if !bytes.Contains(m.Data, []byte(want)) {
					t.Errorf("the bounce lacks %q:\n%s", want, m.Data)
				}
			}
		}
	}
	if internalSees { // the gateway's `local` route hands them back
		if _, err := b.gateway.WaitFor(ctx, has("person@clinic.test")); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := b.mailbox.WaitFor(ctx, has("person@clinic.test")); err != nil {
		t.Fatal(err)
	}
	if len(b.gateway.To("person@clinic.test")) != 0 {
		t.Error("internal mail passed the gateway")
	}
}

func (b *bench) incoming(t *testing.T) {
	b.mailbox.Reset()
	b.gateway.Reset()
	send(t, b.postfix.Addr(), "stranger@dest.test", "X-Passerelle-Source: forged\r\nX-passerelle-mark: v=1; forged\r\n folded\r\n", "person@clinic.test")
	got, err := b.mailbox.WaitFor(within(t), has("person@clinic.test"))
	if err != nil {
		t.Fatal(err)
	}
	data := got[len(got)-1].Data
	if bytes.Contains(bytes.ToLower(data), []byte("x-passerelle")) || bytes.Contains(data, []byte("folded")) {
		t.Errorf("a forged mark came through:\n%s", data)
	}
	if want := letter(""); !bytes.HasSuffix(data, want) {
		t.Errorf("changed on the way:\n%s\nwant at the end:\n%s", data, want)
	}
	if n := len(b.gateway.To("person@clinic.test")); n != 0 {
		t.Error("incoming mail passed the gateway")
	}
}

func (b *bench) inward(t *testing.T) {
	b.mailbox.Reset()
	const mark = "X-Passerelle-Mark: v=1; kept\r\n"
	send(t, b.in, "doctor@trust.test", mark, "person@clinic.test")
	got, err := b.mailbox.WaitFor(within(t), has("person@clinic.test"))
	if err != nil {
		t.Fatal(err)
	}
	if want := letter(mark); !bytes.HasSuffix(got[0].Data, want) {
		t.Errorf("changed on the way:\n%s\nwant at the end:\n%s", got[0].Data, want)
	}
	for _, to := range []string{"x@dest.test", "nobody@clinic.test"} {
		err := smtp.SendMail(b.in, nil, "doctor@trust.test", []string{to}, letter(""))
		if err == nil || !strings.HasPrefix(err.Error(), "55") {
			t.Errorf("RCPT of %s was answered %v, want 55x", to, err)
		}
	}
}

func (b *bench) outward(t *testing.T) {
	const mark = "X-Passerelle-Mark: v=1; kept\r\n"
	send(t, b.out, "staff@clinic.test", mark, "notice@dest.test")
	got, err := b.internet.WaitFor(within(t), has("notice@dest.test"))
	if err != nil {
		t.Fatal(err)
	}
	if want := letter(mark); !bytes.HasSuffix(got[0].Data, want) {
		t.Errorf("changed on the way:\n%s\nwant at the end:\n%s", got[0].Data, want)
	}
	if len(b.gateway.To("notice@dest.test")) != 0 {
		t.Error("mail handed back came to the gateway again: a circle")
	}
}

func (b *bench) detach(t *testing.T) {
	if err := b.postfix.Detach(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"main.cf", "master.cf"} {
		path := filepath.Join(b.postfix.Config(), f)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path + ".before-passerelle")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(fields(got), fields(before)) {
			t.Errorf("%s after out:\n%s\nwant:\n%s", f, got, before)
		}
		if bytes.Contains(got, []byte("asserelle")) {
			t.Errorf("%s still names the gateway:\n%s", f, got)
		}
	}
}

// fields makes two files equal that differ in white space alone: postconf aligns the lines that it touches.
func fields(b []byte) []byte { return bytes.Join(bytes.Fields(b), []byte(" ")) }

// TestBounceTemplate: Postfix itself must accept every text, and show numbers where the template has parameters.
func TestBounceTemplate(t *testing.T) {
	if _, err := exec.LookPath("postconf"); err != nil {
		t.Fatal("install the Debian package postfix")
	}
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "postconf", "-b", "postfix/bounce.fr.cf")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("postconf -b: %v: %s", err, errs.Bytes())
	}
	for _, want := range []string{"expanded_failure_text", "expanded_delay_text", "expanded_success_text", "expanded_verify_text", "5 jour(s)"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("postconf -b lacks %q:\n%s", want, out)
		}
	}
}
