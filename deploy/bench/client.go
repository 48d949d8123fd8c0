package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/textproto"
	"time"
)

// client is one session of a mail server that hands messages in. Its letters have no line that begins with a dot.
type client struct {
	conn net.Conn
	text *textproto.Conn
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := &client{conn, textproto.NewConn(conn)}
	if _, _, err = c.text.ReadResponse(220); err == nil {
		err = c.command(250, "EHLO client.clinic.test")
	}
	if err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) command(want int, format string, args ...any) error {
	c.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if err := c.text.PrintfLine(format, args...); err != nil {
		return err
	}
	_, _, err := c.text.ReadResponse(want)
	return err
}

// send gives the error of the reply, a *textproto.Error, or what broke the session. before, where set, is called before the dot.
func (c *client) send(to string, letter []byte, before func()) error {
	for _, step := range []struct {
		want int
		line string
	}{{250, "MAIL FROM:<staff@clinic.test>"}, {250, "RCPT TO:<" + to + ">"}, {354, "DATA"}} {
		if err := c.command(step.want, "%s", step.line); err != nil {
			return err
		}
	}
	if _, err := c.conn.Write(letter); err != nil {
		return err
	}
	if before != nil {
		before()
	}
	return c.command(250, ".")
}

func (c *client) close() {
	c.command(221, "QUIT")
	c.conn.Close()
}

// body is a text and one attachment without pattern, about size bytes as written. What stands before it is head's.
func body(size int) []byte {
	raw := make([]byte, max(0, size-700)*57/78)
	rand.Read(raw)
	b := bytes.NewBufferString("--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour,\r\nle compte rendu est joint.\r\n\r\n" +
		"--b1\r\nContent-Type: application/pdf; name=\"cr.pdf\"\r\nContent-Disposition: attachment; filename=\"cr.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(raw) > 0 {
		n := min(57, len(raw))
		b.WriteString(base64.StdEncoding.EncodeToString(raw[:n]) + "\r\n")
		raw = raw[n:]
	}
	b.WriteString("--b1--\r\n")
	return b.Bytes()
}

func head(id, to string) []byte {
	return fmt.Appendf(nil, "From: Service <staff@clinic.test>\r\nTo: <%s>\r\nSubject: compte rendu\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\n"+
		"Message-ID: <%s@clinic.test>\r\nX-Check-Id: %s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n", to, id, id)
}
