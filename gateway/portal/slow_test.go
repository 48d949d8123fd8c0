package portal

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// Who sends the body of a form drop by drop does not hold a connection for the half hour of a large answer.
func TestSlowFormsAreCut(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	p, err := New(Config{Vault: s.Vault})
	if err != nil {
		t.Fatal(err)
	}
	p.formTime = 50 * time.Millisecond
	srv := httptest.NewServer(p)
	defer srv.Close()
	link := d.Link[len(s.srv.URL):]
	for _, path := range []string{link, link + "/code", link + "/reponse", link + "/fermer", "/r/nothing", "/"} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nco", path)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: the connection is still open: %v", path, err)
		}
		c.Close()
	}
}
