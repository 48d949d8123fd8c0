package gateway_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// scriptHop is a next hop that offers what it is told and misbehaves where it is told. NextHop is a real library and cannot.
type scriptHop struct {
	ext []string // of EHLO
	tls *tls.Config
	// say gives the raw answer to a verb ("" is the usual one; "." is the end of the message, "banner" the greeting); cut closes.
	say func(verb string) (raw string, cut bool)

	mu   sync.Mutex
	mail []string // the MAIL commands
	got  []string // the messages
}

func (h *scriptHop) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go h.session(c)
		}
	}()
	return l.Addr().String()
}

func (h *scriptHop) session(c net.Conn) {
	defer func() { c.Close() }()
	ext := slices.Clone(h.ext)
	in := bufio.NewReader(c)
	answer := func(verb, usual string) bool {
		if h.say != nil {
			raw, cut := h.say(verb)
			if cut {
				return false
			}
			if raw != "" {
				usual = raw
			}
		}
		_, err := c.Write([]byte(usual + "\r\n"))
		return err == nil
	}
	ok := answer("banner", "220 script.test ESMTP")
	for ok {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb = strings.ToUpper(verb); verb {
		case "EHLO":
			lines := append([]string{"script.test"}, ext...)
			ok = answer(verb, "250-"+strings.Join(lines[:len(lines)-1], "\r\n250-")+"\r\n250 "+lines[len(lines)-1])
			if len(lines) == 1 {
				continue
			}
		case "STARTTLS":
			if ok = answer(verb, "220 go ahead"); ok && h.tls != nil {
				c = tls.Server(c, h.tls)
				in = bufio.NewReader(c)
				ext = slices.DeleteFunc(ext, func(s string) bool { return s == "STARTTLS" })
			}
		case "DATA":
			if ok = answer(verb, "354 go ahead"); !ok {
				return
			}
			var text strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(line)
			}
			h.mu.Lock()
			h.got = append(h.got, text.String())
			h.mu.Unlock()
			ok = answer(".", "250 2.0.0 taken")
		default:
			if verb == "MAIL" {
				h.mu.Lock()
				h.mail = append(h.mail, strings.TrimSpace(line))
				h.mu.Unlock()
			}
			ok = answer(verb, "250 2.0.0 fine")
		}
	}
}
