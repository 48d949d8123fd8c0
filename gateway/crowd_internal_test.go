package gateway

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// TestCrowd: who comes when the door is full is turned away at once, and the next one is let in when somebody went.
func TestCrowd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newCrowd(l, slog.New(slog.DiscardHandler))
	c.most = 2
	in := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := c.Accept()
			if err != nil {
				return
			}
			in <- conn
		}
	}()
	knock := func() (client net.Conn, admitted net.Conn) {
		t.Helper()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		shut := make(chan struct{})
		client.SetReadDeadline(time.Now().Add(5 * time.Second))
		go func() {
			defer close(shut)
			if _, err := client.Read(make([]byte, 1)); err == io.EOF {
				return
			}
		}()
		select {
		case admitted = <-in:
			t.Cleanup(func() { admitted.Close() })
		case <-shut:
		}
		return client, admitted
	}
	_, first := knock()
	_, second := knock()
	if first == nil || second == nil {
		t.Fatal("not let in")
	}
	if _, third := knock(); third != nil {
		t.Error("the third was let in")
	}
	first.Close()
	first.Close() // counts once
	if _, next := knock(); next == nil {
		t.Error("a place that is free is not given")
	}
	if _, more := knock(); more != nil {
		t.Error("a place was given twice")
	}
}

// TestCrowdOfOneRange: one network does not take the places of all, and a proxy of this machine is no network.
func TestCrowdOfOneRange(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newCrowd(l, slog.New(slog.DiscardHandler))
	c.mostOf = 1
	for i, want := range []bool{true, false} {
		if got := c.enter("192.0.2.0/24", false); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if !c.enter("198.51.100.0/24", false) || !c.enter("127.0.0.0/24", true) || !c.enter("127.0.0.0/24", true) {
		t.Error("others wait")
	}
	if c.leave("192.0.2.0/24"); !c.enter("192.0.2.0/24", false) || c.open != 4 {
		t.Error("a place that is free is not given")
	}
}
