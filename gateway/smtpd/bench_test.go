package smtpd

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

// BenchmarkReceive compares what a megabyte costs here and with the library's own reader.
func BenchmarkReceive(b *testing.B) {
	msg := strings.Repeat(strings.Repeat("A", 76)+"\r\n", 13443) + ".\r\n"
	send := func(b *testing.B, addr string) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		r := bufio.NewReader(nc)
		cmd := func(s string) {
			io.WriteString(nc, s)
			for {
				line, err := r.ReadString('\n')
				if err != nil || line[0] > '3' {
					b.Fatalf("%.20q: got %q, %v", s, line, err)
				}
				if line[3] == ' ' {
					return
				}
			}
		}
		cmd("")
		cmd("EHLO b\r\n")
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			cmd("MAIL FROM:<a@b.test>\r\n")
			cmd("RCPT TO:<c@d.test>\r\n")
			cmd("DATA\r\n")
			cmd(msg)
		}
	}
	b.Run("ours", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s, err := New(Config{Listener: l, Hostname: "gw.test", Budget: message.NewBudget(64<<20, ""), Handler: taker{}, Log: slog.New(slog.DiscardHandler),
			NewID: func() string { return "id" }})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		send(b, l.Addr().String())
		cancel()
		<-done
	})
	b.Run("bare", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		lib := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return dropper{}, nil }))
		done := make(chan error, 1)
		go func() { done <- lib.Serve(l) }()
		send(b, l.Addr().String())
		lib.Close()
		<-done
	})
}

// taker takes every message.
type taker struct{}

func (taker) Mail(context.Context, Client, *message.Envelope) error                    { return nil }
func (taker) Rcpt(context.Context, Client, *message.Envelope, message.Recipient) error { return nil }
func (taker) Data(context.Context, Client, *message.Envelope, *message.Body) Outcome {
	return Outcome{Whole: accepted}
}

// dropper is the same for the library.
type dropper struct{}

func (dropper) Reset()                               {}
func (dropper) Logout() error                        { return nil }
func (dropper) Mail(string, *smtp.MailOptions) error { return nil }
func (dropper) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (dropper) Data(r io.Reader) error               { _, err := io.Copy(io.Discard, r); return err }
