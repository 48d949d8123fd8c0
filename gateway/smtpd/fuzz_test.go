package smtpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// FuzzSession: whatever a stranger sends, what is delivered is clean, has a recipient, and gives its memory back.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\nSTARTTLS\r\n"))
	f.Add([]byte("HELO a\r\nMAIL FROM:<\"a>\"@b.c>\r\nRCPT TO:<@x:d@e.f>\r\nDATA\r\nx\n.\r\nMAIL\r\n.\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	budget := message.NewBudget(1<<20, f.TempDir())
	r := &recorder{}
	s, err := New(Config{Listener: l, Hostname: "gw.test", MaxMessage: 10_000, Budget: budget, Handler: r,
		Log: slog.New(slog.DiscardHandler), NewID: func() string { return "id" }})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil || budget.Used() != 0 {
			f.Errorf("stopped with %v, %d bytes kept", err, budget.Used())
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		go func() {
			nc.Write(b)
			nc.(*net.TCPConn).CloseWrite()
		}()
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Fatalf("%q: the session does not end", b)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range r.mails {
			if !isClean([]byte(m.body)) || len(m.env.Recipients) == 0 || len(m.body) > 10_002 {
				t.Fatalf("%q: delivered %q to %d", b, m.body, len(m.env.Recipients))
			}
		}
		r.mails = nil
	})
}
