package trust_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"passerelle/gateway/message"
	"passerelle/gateway/relay"
)

// TestAuditSansTLS plays the ANS audit domain sans-tls-audit: a hop of the trust space that offers no STARTTLS gets no MAIL.
func TestAuditSansTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer c.Close()
		fmt.Fprint(c, "220 sans-tls\r\n")
		br := bufio.NewReader(c)
		br.ReadString('\n')
		fmt.Fprint(c, "250-sans-tls\r\n250 PIPELINING\r\n")
		line, _ := br.ReadString('\n')
		heard <- line
	}()
	r := relay.New(relay.Config{})
	defer r.Close()
	to, _ := message.ParseAddress("a@sans-tls.test", false)
	hop := relay.Hop{Name: "trust", Addr: l.Addr().String(), TLS: relay.TLS{Mode: relay.Verify, Config: &tls.Config{}}}
	res := r.Send(context.Background(), hop, relay.Letter{Recipients: []message.Recipient{{Address: to}}, Header: []byte("Subject: x\r\n\r\n")})
	if e := res[0].Err; e == nil || e.Permanent || e.Enhanced != [3]int{4, 7, 4} {
		t.Errorf("got %v", e)
	}
	if line := <-heard; strings.HasPrefix(line, "MAIL") {
		t.Errorf("hop heard %q in clear", line)
	}
}
