package vault

import (
	"bytes"
	"context"
	"io"
	"net"
	neturl "net/url"
	"sync/atomic"
	"testing"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// cutter stands before a PostgreSQL server. Once armed it lets one COMMIT through and breaks the connection before the answer.
type cutter struct {
	net.Listener
	to    string
	armed atomic.Bool
}

func (c *cutter) serve() {
	for {
		client, err := c.Accept()
		if err != nil {
			return
		}
		go c.carry(client)
	}
}

func (c *cutter) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer server.Close()
	var cut atomic.Bool
	go func() {
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit\x00")) && c.armed.CompareAndSwap(true, false) {
				cut.Store(true)
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || cut.Load() {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil && err != io.EOF {
			return
		}
	}
}

// A commit that was done and not answered: the deposit stands once, and no code stands that nobody was told.
func TestCommitWithoutAnswer(t *testing.T) {
	if server == nil {
		t.Skip("SQLite answers")
	}
	h := open(t, func(c *Config) { c.SMS = nil })
	url, err := server.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cut := &cutter{Listener: l, to: server.Addr}
	t.Cleanup(func() { l.Close() })
	go cut.serve()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	p, err := store.OpenPostgres(t.Context(), store.SharedConfig{URL: u.String(), Check: []byte("vault")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	told, cfg := 0, h.cfg
	cfg.ToSender = func(context.Context, message.Address, *message.Body) error { told++; return nil }
	v, err := New(t.Context(), p, h.blobs, cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := v.Deposit(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	cut.armed.Store(true)
	if err := v.Activate(t.Context(), d.ID); err != nil || cut.armed.Load() {
		t.Fatalf("activate: %v", err)
	}
	if s, err := v.Status(t.Context(), d.ID); err != nil || s.State != Waiting {
		t.Errorf("%s, %v", s.State, err)
	}
	if err := p.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE vault_deposits SET code1 = NULL, code2 = NULL WHERE id = ?`, d.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	cut.armed.Store(true)
	if _, err := v.Ask(t.Context(), secretOf(d)); err == nil || cut.armed.Load() {
		t.Fatalf("ask: %v", err)
	}
	if w, err := v.Look(t.Context(), secretOf(d)); err != nil || w.CodeSent || told != 0 {
		t.Errorf("a code stands that nobody was told: %v", err)
	}
	if _, err := v.Ask(t.Context(), secretOf(d)); err != nil || told != 1 {
		t.Errorf("asked again: told %d times, %v", told, err)
	}
}
