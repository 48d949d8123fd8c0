package smtpd

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

func chunk(body string, last bool) string {
	end := ""
	if last {
		end = " LAST"
	}
	return fmt.Sprintf("BDAT %d%s\r\n%s", len(body), end, body)
}

func TestBDAT(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	body := "Subject: x\r\n\r\n.\r\n..dots stay\r\n" + strings.Repeat("a", 5000) + "\r"
	c.envelope()
	c.send(chunk(body[:1], false))
	c.expect(250)
	c.send(chunk(body[1:], false)) // ends inside CRLF
	c.expect(250)
	c.send(chunk("\n", false))
	c.expect(250)
	c.send(chunk("", true))
	c.expect(250)
	c.envelope()
	c.send(chunk("Subject: y\r\n\r\nno end of line", true))
	c.expect(250)
	got := s.got()
	if len(got) != 2 || got[0].body != body+"\n" || got[1].body != "Subject: y\r\n\r\nno end of line\r\n" {
		t.Errorf("got %+v", got)
	}
}

// The library's line limit sees a chunk that came with its command as one long line.
func TestPipelinedBDAT(t *testing.T) {
	body := "Subject: x\r\n\r\n" + strings.Repeat("a", 3000) + "\r\n"
	c := hello(t, bare(t, nil).addr)
	c.envelope()
	c.send(chunk(body, true))
	if code, _ := c.reply(); code != 500 {
		t.Errorf("companion: the bare library answers %d now", code)
	}
	s := start(t, nil)
	c = hello(t, s.addr)
	c.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n" + chunk(body, false) + chunk(body, true) + "NOOP\r\n")
	for range 5 {
		c.expect(250)
	}
	if got := s.got(); len(got) != 1 || got[0].body != body+body {
		t.Errorf("got %+v", got)
	}
}

// TLS does not begin amid a transfer: what was taken in clear must neither go on under TLS nor stay in memory.
func TestNoSTARTTLSAmidBDAT(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS = ca.server() })
	c := hello(t, s.addr)
	c.envelope()
	c.send(chunk(strings.Repeat("a", 100_000)+"\r\n", false))
	c.expect(250)
	c.send("STARTTLS\r\n")
	if code, _ := c.reply(); code == 220 { // what it once was: the transfer is lost, and its memory with it
		c.nc = tls.Client(c.nc, ca.client())
		c.r.Reset(c.nc)
		c.want(250, "EHLO client.test")
	} else if code != 503 {
		t.Errorf("got %d", code)
	} else {
		c.send(chunk("b\r\n", true))
		c.expect(250)
	}
	c.nc.Close()
	s.stop()
	if n := s.budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget never came back", n)
	}
	if got := s.got(); len(got) != 1 || len(got[0].body) != 100_005 {
		t.Errorf("%d messages", len(got))
	}
}

// A refused BDAT's chunk is read, never executed (RFC 3030 section 2).
func TestRefusedChunkIsNoCommands(t *testing.T) {
	for name, before := range map[string][]string{"nothing": {}, "no recipient": {"MAIL FROM:<a@b.test>"}, "bad recipient": {"MAIL FROM:<a@b.test>", "RCPT TO:<>"}} {
		t.Run(name, func(t *testing.T) {
			c := hello(t, start(t, nil).addr)
			for _, cmd := range before {
				c.send(cmd + "\r\n")
				c.reply()
			}
			c.send(chunk("VRFY a\r\nVRFY b\r\n", true))
			c.expect(503)
			c.want(250, "NOOP")
		})
	}
	// where the length cannot be read the session ends; the bare library goes on with the chunk
	c := hello(t, bare(t, nil).addr)
	c.envelope()
	c.send("BDAT 0x6\r\nNOOP\r\n")
	c.expect(501)
	c.expect(250) // companion
	for _, args := range []string{"0x6", "-1", "", "6 LAST x", "6 FIRST", "99999999999999999999", "18446744073709551615 LAST", "9223372036854775807 LAST"} {
		c := hello(t, start(t, nil).addr)
		c.envelope()
		c.send("BDAT " + args + "\r\nNOOP\r\n")
		if codes := c.gone(); len(codes) != 1 || codes[0] < 500 {
			t.Errorf("BDAT %s: got %v, want one refusal and the end", args, codes)
		}
	}
}

func TestBDATWithBareEndsIsRefused(t *testing.T) {
	b := bare(t, nil)
	c := hello(t, b.addr)
	c.envelope()
	c.send(chunk("x\n.\ny", true))
	c.expect(250) // companion: passes unseen

	s := start(t, nil)
	for name, end := range bareEnds {
		c := hello(t, s.addr)
		c.envelope()
		c.send(chunk("Subject: x\r\n\r\nx"+end+"y\r\n", true))
		if code, text := c.reply(); code != 554 || !strings.Contains(text, "5.6.0") {
			t.Errorf("%s: got %q", name, text)
		}
		c.envelope()
		c.send(chunk("Subject: x\r\n\r\nx"+end+"y\r\n", false))
		c.expect(554)
		c.send(chunk("rest\r\n", true)) // of the transaction that was refused
		c.expect(503)
		c.want(503, "DATA")
		c.want(250, "NOOP")
	}
	c = hello(t, s.addr)
	c.envelope()
	c.send(chunk("a\r", true))
	c.expect(554)
	c.envelope()
	c.send(chunk("a\r", false) + chunk("b\r\n", true)) // CR at a seam without its LF
	c.expect(250)
	c.expect(554)
	if got := s.got(); len(got) != 0 {
		t.Errorf("delivered %+v", got)
	}
}

func TestBDATInterplay(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.envelope()
	c.send(chunk("Subject: x\r\n", false))
	c.expect(250)
	for _, cmd := range []string{"DATA", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>"} {
		c.want(503, cmd)
	}
	c.want(250, "RSET")
	c.want(503, "DATA")
	c.envelope()
	c.send(chunk("Subject: x\r\n", false))
	c.expect(250)
	c.want(250, "EHLO again.test")
	c.send(chunk("", true))
	c.expect(503)
	c.envelope()
	c.send("BDAT 1000 LAST\r\nSubject: cut short\r\n")
	c.nc.Close()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.got(); len(got) != 0 {
		t.Errorf("delivered %+v", got)
	}
	if s.budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", s.budget.Used())
	}
}
