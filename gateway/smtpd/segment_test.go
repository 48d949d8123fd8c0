package smtpd

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// dialogues are byte streams as a client may send them; want is the codes of the replies, bodies what is delivered. At a "|" the client
// reads the replies that stand before the "|" of want.
var dialogues = []struct {
	name, stream, want string
	bodies             []string
}{
	{"ordinary", begun + "DATA\r\n|Subject: x\r\n\r\nhello\r\n.\r\nNOOP\r\n", "250 250 354|250 250", []string{"Subject: x\r\n\r\nhello\r\n"}},
	{"body before the 354", begun + "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nNOOP\r\n", "250 250 354 250 250", []string{"Subject: x\r\n\r\n.dot\r\n"}},
	{"DATA shares a segment with its body", begun + "|DATA\r\na\r\n.\r\n", "250 250|354 250", []string{"a\r\n"}},
	{"two messages at once", begun + "DATA\r\n1\r\n.\r\n" + begun + "DATA\r\n2\r\n.\r\n", "250 250 354 250 250 250 354 250", []string{"1\r\n", "2\r\n"}},
	{"the next MAIL behind the dot", begun + "DATA\r\n|1\r\n.\r\nMAIL FROM:<a@b.test>\r\nRSET\r\n", "250 250 354|250 250 250", []string{"1\r\n"}},
	{"lines that begin like an end", begun + "DATA\r\n..\r\n.x\r\n...\r\n. \r\n\r\n.\r\nNOOP\r\n", "250 250 354 250 250", []string{".\r\nx\r\n..\r\n \r\n\r\n"}},
	{"nothing but the dot", begun + "DATA\r\n.\r\nNOOP\r\n", "250 250 354 250 250", []string{""}},
	{"bare ends", begun + "DATA\r\nx\n.\nMAIL FROM:<e@f.test>\r\n\r.\r\r\n.\r\nNOOP\r\n", "250 250 354 554 250", nil},
	{"CR before the end", begun + "DATA\r\na\r\r\n.\r\nNOOP\r\n", "250 250 354 554 250", nil},
	{"BDAT with its chunks", begun + "BDAT 2\r\na\rBDAT 7 LAST\r\n\n.\r\n.\r\nNOOP\r\n", "250 250 250 250 250", []string{"a\r\n.\r\n.\r\n"}},
	{"BDAT of nothing", begun + "BDAT 0\r\nBDAT 3\r\nb\r\nBDAT 0 LAST\r\nNOOP\r\n", "250 250 250 250 250 250", []string{"b\r\n"}},
	{"RSET amid BDAT", begun + "BDAT 3\r\nxyzRSET\r\nBDAT 6\r\nNOOP\r\n" + begun + "BDAT 3 LAST\r\nc\r\n", "250 250 250 250 503 250 250 250", []string{"c\r\n"}},
	{"BDAT after a refused DATA", "MAIL FROM:<a@b.test>\r\nDATA\r\n|RCPT TO:<c@d.test>\r\nBDAT 3 LAST\r\nd\r\n", "250 503|250 250", []string{"d\r\n"}},
	{"DATA amid BDAT", begun + "BDAT 4\r\na\r\nbDATA\r\n|BDAT 2 LAST\r\n\r\n", "250 250 250 503|250", []string{"a\r\nb\r\n"}},
	{"a dot line in a chunk", begun + "BDAT 12 LAST\r\na\r\n.\r\nNOOP\r\nNOOP\r\n", "250 250 250 250", []string{"a\r\n.\r\nNOOP\r\n"}},
	{"no such length", begun + "BDAT 3x LAST\r\n|NOOP\r\n", "250 250 501|0", nil},
}

const begun = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

// Where the bytes are cut, into writes and so into TLS records, changes neither the replies nor the bodies; the end of the stream does
// not come early either.
func TestSegmentation(t *testing.T) {
	ca := newAuthority(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, way := range []string{"clear", "STARTTLS", "implicit TLS"} {
		s := start(t, func(cfg *Config, _ *recorder) {
			if way != "clear" {
				cfg.TLS, cfg.ImplicitTLS = ca.server(), way == "implicit TLS"
			}
		})
		for _, d := range dialogues {
			t.Run(way+"/"+d.name, func(t *testing.T) {
				cut := func(s string) []string { return []string{s} }
				for round := range 8 {
					switch {
					case round == 1: // each byte by itself
						cut = func(s string) []string { return strings.Split(s, "") }
					case round == 2: // each CR at the end of its record
						cut = func(s string) []string { return strings.SplitAfter(s, "\r") }
					case round == 3:
						cut = func(s string) []string { return strings.SplitAfter(s, ".") }
					case round > 3:
						cut = func(s string) (out []string) {
							for len(s) > 0 {
								n := 1 + r.IntN(min(len(s), 40))
								out, s = append(out, s[:n]), s[n:]
							}
							return out
						}
					}
					talk(t, s, ca, way, d.stream, d.want, cut)
					s.mu.Lock()
					var got []string
					for _, m := range s.mails {
						got = append(got, m.body)
					}
					s.mails = nil
					s.mu.Unlock()
					if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", d.bodies) {
						t.Errorf("round %d: delivered %q, want %q", round, got, d.bodies)
					}
				}
			})
		}
		if s.budget.Used() != 0 {
			if s.stop(); s.budget.Used() != 0 {
				t.Errorf("%s: %d bytes of the budget never came back", way, s.budget.Used())
			}
		}
	}
}

// talk sends a dialogue in the pieces that cut makes and holds its replies against want.
func talk(t *testing.T, s *running, ca *authority, way, stream, want string, cut func(string) []string) {
	t.Helper()
	var c *client
	switch way {
	case "implicit TLS":
		c = dialTLS(t, s.addr, ca)
		c.expect(220)
	default:
		c = hello(t, s.addr)
		if way == "STARTTLS" {
			if err := c.startTLS(ca.client()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if way != "clear" {
		c.want(250, "EHLO client.test")
	}
	parts, wants := strings.Split(stream, "|"), strings.Split(want, "|")
	for i, part := range parts {
		for _, piece := range cut(part) {
			if _, err := io.WriteString(c.nc, piece); err != nil {
				break // where we are to hang up the replies tell
			}
		}
		var got []string
		for range strings.Fields(wants[i]) {
			code, _ := c.reply()
			got = append(got, strconv.Itoa(code))
		}
		if strings.Join(got, " ") != wants[i] {
			t.Fatalf("part %d: got replies %v, want %s", i, got, wants[i])
		}
	}
	c.nc.Close()
}

// A client's words in clear behind STARTTLS are never executed, wherever they are cut.
func TestNothingBehindSTARTTLS(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, r *recorder) {
		cfg.TLS = ca.server()
		r.data = func(context.Context, *message.Envelope, *message.Body) Outcome { return Outcome{Whole: accepted} }
	})
	c := hello(t, s.addr)
	c.send("STARTTLS\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\n")
	if codes := c.gone(); len(codes) > 1 || len(codes) == 1 && codes[0] != 554 && codes[0] != 220 {
		t.Errorf("got %v", codes)
	}
	// in a segment of its own it is a broken handshake
	c = hello(t, s.addr)
	c.want(220, "STARTTLS")
	c.nc.Write([]byte("MAIL FROM:<a@b.test>\r\n"))
	if codes := c.gone(); len(codes) != 0 {
		t.Errorf("got %v", codes)
	}
	if got := s.got(); len(got) != 0 {
		t.Errorf("delivered %+v", got)
	}
}
