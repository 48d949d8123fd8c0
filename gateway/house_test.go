package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// house is a gateway that serves between real sockets.
type house struct {
	t             *testing.T
	key           string // of a correspondent, a file
	dir           string
	lmtp, smtp    string
	trust, portal string
	clinic, sink  *gatewaytest.NextHop
	cfg           *config.Config
	stop          func() // ends the gateway as SIGTERM would
	log           *lockedBuffer
	clinicRefuses func() bool
	clinicReply   func(recipient string) gatewaytest.Reply
	opts          []gateway.Option
	edit          func(config string) string // of the config file before it is read
	g             *gateway.Gateway
}

type lockedBuffer struct{ ch chan []byte }

func newBuffer() *lockedBuffer {
	b := &lockedBuffer{ch: make(chan []byte, 1)}
	b.ch <- nil
	return b
}
func (b *lockedBuffer) Write(p []byte) (int, error) { b.ch <- append(<-b.ch, p...); return len(p), nil }
func (b *lockedBuffer) String() string              { p := <-b.ch; b.ch <- p; return string(p) }

const houseConfig = `
hostname: gw.clinic.test
state_dir: {dir}/state
clinic: {name: Clinique Test, phone: "+33 1 00 00 00 00", domains: [clinic.test], queue_lifetime: {lifetime}}
listen:
  lmtp: {addr: "{lmtp}"}
  smtp: {addr: "{smtp}"}
  portal: {addr: ""}
  metrics: {addr: ""}
hops:
  clinic: {addr: "{clinic}", tls: none}
  internet: {addr: "{sink}", tls: none}
rules:
  - {name: forbidden, recipient: ["never@*"], route: refuse, text: "Interdit par la clinique"}
  - {name: rest, route: plain}
`

// newHouse opens the doors. reply answers each recipient at the Internet hop.
func newHouse(t *testing.T, lifetime string, reply func(recipient string) gatewaytest.Reply, opts ...gateway.Option) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), log: newBuffer(), opts: opts}
	h.build(houseConfig, reply, "{lifetime}", lifetime)
	return h
}

// build starts the hops around h and serves under the config text.
func (h *house) build(text string, reply func(recipient string) gatewaytest.Reply, replace ...string) {
	t := h.t
	t.Helper()
	if h.edit != nil {
		text = h.edit(text)
	}
	var err error
	if h.sink, err = gatewaytest.StartNextHop(gatewaytest.Options{Rcpt: func(_, to string) gatewaytest.Reply {
		if reply != nil {
			return reply(to)
		}
		return gatewaytest.Reply{}
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.sink.Close() })
	if h.clinic, err = gatewaytest.StartNextHop(gatewaytest.Options{Rcpt: func(_, to string) gatewaytest.Reply {
		if h.clinicRefuses != nil && h.clinicRefuses() {
			return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "pas maintenant"}
		}
		if h.clinicReply != nil {
			return h.clinicReply(to)
		}
		return gatewaytest.Reply{}
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.clinic.Close() })
	h.lmtp, h.smtp, h.trust, h.portal = freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	text = strings.NewReplacer(append([]string{"{dir}", h.dir, "{lmtp}", h.lmtp, "{smtp}", h.smtp, "{trust}", h.trust, "{portal}", h.portal, "{key}", h.key,
		"{clinic}", h.clinic.Addr(), "{sink}", h.sink.Addr()}, replace...)...).Replace(text)
	path := filepath.Join(h.dir, "passerelle.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if h.cfg, err = config.Load(path, os.LookupEnv); err != nil {
		t.Fatal(err)
	}
	h.start()
	t.Cleanup(func() { h.stop() })
}

func (h *house) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	g, err := gateway.Open(ctx, h.cfg, slog.New(slog.NewJSONHandler(h.log, nil)), append(slices.Clone(h.opts), gateway.OnReady(func() { close(ready) }))...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.g = g
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, h.cfg, "test") }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
		if err := g.Close(); err != nil {
			h.t.Errorf("close: %v", err)
		}
	}
	select {
	case err := <-done:
		h.t.Fatalf("the gateway stopped: %v", err)
	case <-ready:
	}
}

// reload changes words of the config file, in pairs of old and new, and puts it in force.
func (h *house) reload(t *testing.T, change ...string) {
	t.Helper()
	path := filepath.Join(h.dir, "passerelle.yaml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(change...).Replace(string(old))
	if text == string(old) {
		t.Fatalf("the config has none of %q", change)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	p, err := gatewaytest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", p)
}

// send hands one message in, again while the copy before it is still in hand (its reply is on the wire, the memory not yet settled).
func (h *house) send(addr, from, content string, to ...string) []string {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got := h.once(addr, from, content, to...)
		if !strings.Contains(got[0], "deja en cours") {
			return got
		}
	}
	h.t.Fatal("the message stays in hand for ever")
	return nil
}

// once the replies to the dot.
func (h *house) once(addr, from, content string, to ...string) []string {
	h.t.Helper()
	return h.upToDot(addr, from, content, to...)()
}

// upToDot hands one message in but for its final dot, and gives what says that and reads the replies.
func (h *house) upToDot(addr, from, content string, to ...string) (dot func() []string) {
	h.t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := textproto.NewConn(conn)
	line := func(want int, format string, args ...any) {
		h.t.Helper()
		if format != "" {
			c.PrintfLine(format, args...)
		}
		if _, msg, err := c.ReadResponse(want); err != nil {
			h.t.Fatalf("%s: %v %s", fmt.Sprintf(format, args...), err, msg)
		}
	}
	line(220, "")
	hello, replies := "EHLO", 1
	if addr == h.lmtp {
		hello, replies = "LHLO", len(to)
	}
	line(250, "%s client.clinic.test", hello)
	path := func(s string) string { // parameters stand behind a blank
		addr, params, _ := strings.Cut(s, " ")
		return strings.TrimSpace("<" + addr + "> " + params)
	}
	line(250, "MAIL FROM:%s", path(from))
	for _, r := range to {
		line(250, "RCPT TO:%s", path(r))
	}
	line(354, "DATA")
	w := c.DotWriter()
	fmt.Fprint(w, strings.ReplaceAll(content, "\n", "\r\n"))
	return func() (out []string) {
		h.t.Helper()
		defer conn.Close()
		w.Close()
		for range replies {
			code, msg, err := c.ReadResponse(0)
			if err != nil {
				h.t.Fatal(err)
			}
			out = append(out, fmt.Sprint(code, " ", msg))
		}
		return out
	}
}

const hello = "From: <dr@clinic.test>\nTo: <a@dest.test>\nSubject: essai\nMessage-ID: <1@clinic.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n\nbonjour\n"

func codes(replies []string) string {
	var out []string
	for _, r := range replies {
		out = append(out, r[:3])
	}
	return strings.Join(out, " ")
}

func later(to string) gatewaytest.Reply {
	switch {
	case strings.HasPrefix(to, "later"):
		return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "try again"}
	case strings.HasPrefix(to, "bad"):
		return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
	}
	return gatewaytest.Reply{}
}
