package gatewaytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFreePortOnce: of 500 ports none is given twice, though nobody listens on any; nor does another process give one of them.
func TestFreePortOnce(t *testing.T) {
	const other = "PASSERELLE_TEST_OTHER"
	seen := map[string]bool{}
	for range 500 {
		p, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprint(p); seen[s] {
			t.Fatalf("port %s was given twice", s)
		} else {
			seen[s] = true
			fmt.Println("port", s)
		}
	}
	if os.Getenv(other) != "" {
		return
	}
	for range 8 { // at random the odds that all are others are one in 10^62
		cmd := exec.Command(os.Args[0], "-test.run", "^TestFreePortOnce$")
		cmd.Env = append(os.Environ(), other+"=1")
		out, err := cmd.Output()
		if err != nil || strings.Count(string(out), "port ") != 500 {
			t.Fatalf("%v: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if p, ok := strings.CutPrefix(strings.TrimSpace(line), "port "); ok && seen[p] {
				t.Fatalf("port %s was given to two processes", p)
			}
		}
	}
}

// TestNameServerPort: it starts though a thousand ports are kept for TCP by connections that have just ended.
func TestNameServerPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { c.Read(make([]byte, 1)); c.Close() }()
		}
	}()
	for range 1000 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for range 200 {
		s, err := StartNameServer()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}
