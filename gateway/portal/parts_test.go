package portal

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The header of a part of a form is cut at its limit: a stranger who knows no link would have the house hold 10 MB of it for each connection. The parts
// behind a long text and a large file have as much as the first.
func TestPartHeaderIsCut(t *testing.T) {
	s := newSite(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second)) // less than such a form may take
	fmt.Fprintf(c, "POST /r/nothing/reponse HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 4000000\r\n\r\n--b\r\nX-A: ")
	if _, err := c.Write([]byte(strings.Repeat("a", 2*maxPartHead))); err != nil {
		t.Fatal(err)
	}
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != http.StatusNotFound {
		t.Errorf("the house reads on: %v %v", r, err)
	}

	body, ct := form(t, "bonjour", "photo.jpg", strings.Repeat("J", 900<<10))
	d, b := s.deposit(), &browser{s: s}
	b.login(d)
	if r, page := b.do("POST", d.Link+"/reponse", body, "Content-Type", ct, "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("%s %s", r.Status, page)
	}
}

// counted counts what is read of a body.
type counted struct {
	*strings.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// A text that is too long comes back as far as it may go, and the files behind it are read to their end: else the browser would not read the page.
func TestLongTextComesBack(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	form, ct := form(t, strings.Repeat("mot ", maxAnswerText/4)+"de trop", "photo.jpg", strings.Repeat("J", 900<<10))
	body := &counted{Reader: strings.NewReader(fmt.Sprint(form))}
	size := body.Len()
	p, err := New(Config{Vault: s.Vault, MaxAnswer: s.maxAnswer})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", d.Link[len(s.srv.URL):]+"/reponse", body)
	r.Header.Set("Content-Type", ct)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if page := w.Body.String(); w.Code != http.StatusForbidden || !strings.Contains(page, "mot mot") || strings.Contains(page, "de trop") {
		t.Errorf("%d %.200s", w.Code, page)
	}
	if body.n != size {
		t.Errorf("%d of %d octets read", body.n, size)
	}
}
