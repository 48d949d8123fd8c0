package clamd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/clamd"
	"passerelle/gateway/gatewaytest"
)

// The Debian package's daemon finds what its signatures name, in the first octets, across our chunks and inside a ZIP; takes what they do not;
// and says no verdict of what is longer than it reads.
func TestClamd(t *testing.T) {
	if testing.Short() {
		t.Skip("needs clamd")
	}
	d, err := gatewaytest.StartClamd(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("clamd was ready after %v", d.Took)
	for _, addr := range []string{d.Socket, d.Addr} {
		c := &clamd.Client{Addr: addr, Timeout: 10 * time.Second}
		for name, f := range map[string]struct{ content, virus string }{
			"nothing":    {"", ""},
			"clean":      {strings.Repeat("rien à dire ", 20_000), ""},
			"at once":    {gatewaytest.Eicar, "Passerelle.Test.UNOFFICIAL"},
			"late":       {strings.Repeat("x", 64<<10-10) + gatewaytest.Eicar, "Passerelle.Test.UNOFFICIAL"},
			"no command": {"nSHUTDOWN\n", ""},
		} {
			virus, err := c.Scan(t.Context(), strings.NewReader(f.content))
			if err != nil || virus != f.virus {
				t.Errorf("%s at %s: %q %v, want %q", name, addr, virus, err, f.virus)
			}
		}
		if v, err := c.Scan(t.Context(), io.LimitReader(zeros{}, gatewaytest.ClamdStream+1<<20)); err == nil {
			t.Errorf("more than clamd reads: %q", v)
		}
		c.Limit = 100
		if v, err := c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", 101))); !errors.Is(err, clamd.ErrTooLarge) {
			t.Errorf("more than may be sent: %q %v", v, err)
		}
		if _, err := c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", 100))); err != nil {
			t.Errorf("as much as may be sent: %v", err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// What does not answer, answers nothing of sense, or breaks off, has not searched.
func TestNoVerdict(t *testing.T) {
	said := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			reply := <-said
			if reply == "silent" {
				io.Copy(io.Discard, conn)
			}
			for got := []byte{}; !bytes.HasSuffix(got, make([]byte, 4)); { // the piece of no octets is the last
				piece := make([]byte, 100)
				n, err := conn.Read(piece)
				if got = append(got, piece[:n]...); err != nil {
					break
				}
			}
			io.WriteString(conn, reply)
			conn.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	c := &clamd.Client{Addr: l.Addr().String(), Timeout: 2 * time.Second}
	for _, reply := range []string{"silent", "", "stream: OK", "stream: \x00", "stream:  FOUND\x00", "INSTREAM size limit exceeded. ERROR\x00", "OK\x00", "stream: OKAY\x00", strings.Repeat("x", 10_000)} {
		said <- reply
		if v, err := c.Scan(t.Context(), strings.NewReader("x")); err == nil {
			t.Errorf("%.20q: %q is a verdict", reply, v)
		}
	}
	said <- "stream: OK\x00"
	if v, err := c.Scan(t.Context(), strings.NewReader("x")); err != nil || v != "" {
		t.Errorf("%q %v", v, err)
	}
	if _, err := (&clamd.Client{Addr: "/nowhere/clamd.ctl"}).Scan(t.Context(), strings.NewReader("x")); err == nil {
		t.Error("nobody has a verdict")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Scan(ended, strings.NewReader("x")); err == nil {
		t.Error("a verdict after the end")
	}
}
