package directory

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"passerelle/gateway/gatewaytest"
)

// tlv writes one BER element.
func tlv(tag byte, parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b.WriteString(p)
		case []byte:
			b.Write(p)
		}
	}
	n := b.Len()
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, b.Bytes()...)
}

func ldapMessage(id byte, op []byte) []byte { return tlv(0x30, tlv(0x02, []byte{id}), op) }

func ldapEntry(mail string) []byte {
	attr := func(name, value string) []byte { return tlv(0x30, tlv(0x04, name), tlv(0x31, tlv(0x04, value))) }
	return ldapMessage(1, tlv(0x64, tlv(0x04, "cn=a"), tlv(0x30, attr("mail", mail), attr("businessCategory", "MSSANTE"))))
}

func ldapDone(id, tag, code byte) []byte {
	return ldapMessage(id, tlv(tag, tlv(0x0a, []byte{code}), tlv(0x04), tlv(0x04, "diagnostic about jean.martin")))
}

// TestLDAPOddServers: whatever a server does short of a whole good answer, it could not be asked.
func TestLDAPOddServers(t *testing.T) {
	entry, done := ldapEntry(jean), ldapDone(1, 0x65, 0)
	flood := bytes.Repeat([]byte("a"), 64<<10)
	for _, c := range []struct {
		name, why string
		startTLS  bool
		say       func(net.Conn)
	}{
		{"silent", late, false, func(net.Conn) {}},
		{"closes", "search", false, func(c net.Conn) { c.Close() }},
		{"web server", "search", false, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() }},
		{"drips", late, false, func(c net.Conn) {
			for _, b := range append(entry, done...) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}},
		{"an entry, then the end", "search", false, func(c net.Conn) { c.Write(entry); c.Close() }},
		{"half an entry", "search", false, func(c net.Conn) { c.Write(entry[:len(entry)-3]); c.Close() }},
		{"answers another question", late, false, func(c net.Conn) { c.Write(ldapDone(9, 0x65, 0)) }},
		{"gives more than asked", "Size Limit Exceeded", false, func(c net.Conn) { c.Write(append(bytes.Repeat(entry, 4), done...)) }},
		{"an entry, then busy", "51 (Busy)", false, func(c net.Conn) { c.Write(append(bytes.Clone(entry), ldapDone(1, 0x65, 51)...)) }},
		{"a code of nobody's", "the server answers 199", false, func(c net.Conn) { c.Write(ldapMessage(1, tlv(0x65, tlv(0x0a, []byte{0, 199}), tlv(0x04), tlv(0x04)))) }},
		{"endless value", "", false, func(c net.Conn) {
			c.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x04, 0x84, 0x7f, 0xff, 0xff, 0xf0})
			for sent := 0; sent < 64<<20; sent += len(flood) {
				if _, err := c.Write(flood); err != nil {
					return
				}
			}
			t.Error("it took 64 MB")
		}},
		{"malformed entry", "search", false, func(c net.Conn) { c.Write(append(ldapMessage(1, tlv(0x64, tlv(0x04, "cn=a"))), done...)) }},
		{"TLS promised, then nothing", late, true, func(c net.Conn) { c.Write(ldapDone(1, 0x78, 0)) }},
		{"TLS promised, answers in clear", "begin TLS", true, func(c net.Conn) {
			c.Write(append(ldapDone(1, 0x78, 0), append(ldapDone(2, 0x61, 0), append(entry, done...)...)...))
			c.Close()
		}},
		{"TLS refused", "begin TLS: the server answers 2 ", true, func(c net.Conn) { c.Write(ldapDone(1, 0x78, 2)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, heard := oddServer(t, c.say)
			cfg := LDAPConfig{URL: "ldap://" + l, Base: "dc=x", Filter: "(mail=%s)", MSS: "businessCategory=MSSANTE", StartTLS: c.startTLS, Clear: true,
				SizeLimit: 3, Timeout: time.Second, Attributes: LDAPAttributes{Address: "mail"}}
			if c.startTLS {
				cfg.BindDN, cfg.Password = "cn=x", gatewaytest.SlapdPassword
			}
			start := time.Now()
			unasked(t, openLDAP(t, cfg), jean, c.why)
			if took := time.Since(start); took > 5*cfg.Timeout {
				t.Errorf("took %v", took)
			}
			if h := heard(); c.startTLS && (bytes.Contains(h, []byte(gatewaytest.SlapdPassword)) || bytes.Contains(h, []byte("medecin"))) {
				t.Errorf("it heard %q in clear", h)
			}
		})
	}
	l, _ := oddServer(t, func(c net.Conn) { c.Write(append(bytes.Clone(entry), done...)) }) // the same tools, a good answer
	found(t, openLDAP(t, LDAPConfig{URL: "ldap://" + l, Base: "dc=x", Filter: "(mail=%s)", MSS: "businessCategory=MSSANTE", Attributes: LDAPAttributes{Address: "mail"}}), jean, 1)
}

// TestLDAPDeadConnection: a connection that was lost without a word is replaced once, and the question put again; a server that always
// hangs up is asked no third time.
func TestLDAPDeadConnection(t *testing.T) {
	var conns, hangUp atomic.Int32
	addr, _ := oddServer(t, func(c net.Conn) {
		conns.Add(1)
		if hangUp.Load() == 0 {
			c.Write(append(ldapEntry(jean), ldapDone(1, 0x65, 0)...))
			c.Read(make([]byte, 4096)) // the next question
		}
		c.Close()
	})
	l := openLDAP(t, LDAPConfig{URL: "ldap://" + addr, Base: "dc=x", Filter: "(mail=%s)", MSS: "businessCategory=MSSANTE", Attributes: LDAPAttributes{Address: "mail"}})
	for range 3 {
		found(t, l, jean, 1)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	hangUp.Store(1)
	unasked(t, l, jean, "search")
	if n := conns.Load(); n != 4 {
		t.Errorf("%d connections, want one more for a question on a dead and a fresh one", n-3)
	}
}

// oddServer says its piece to the first words of each client; heard gives all that came.
func oddServer(t *testing.T, say func(net.Conn)) (addr string, heard func() []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for first := true; ; first = false {
					n, err := c.Read(buf)
					mu.Lock()
					got.Write(buf[:n])
					mu.Unlock()
					if err != nil {
						return
					}
					if first {
						say(c)
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(got.Bytes())
	}
}

// A mark that the directory spells in its own way is no "still there".
func TestLDAPInactive(t *testing.T) {
	src := &ldapSource{now: fixed, cfg: LDAPConfig{Attributes: LDAPAttributes{Address: "mail", Inactive: "left"}}}
	for value, want := range map[string]string{"": Verified, "FALSE": Verified, "false": Verified, "0": Verified, "TRUE": Inactive, "1": Inactive,
		"oui": Inactive, "yes": Inactive, "20260131000000Z": Inactive, "parti": Inactive} {
		recs, err := src.records(jean, []*ldap.Entry{ldap.NewEntry("cn=a", map[string][]string{"mail": {jean}, "left": {value}})})
		if got := verdictBy(recs); err != nil || got != want {
			t.Errorf("%q: got %s (%v), want %s", value, got, err, want)
		}
	}
}

// A server, or who speaks in its place on a connection in clear, cannot take the memory: the library keeps each element of an answer, and in
// each element a copy of all that is in it.
func TestLDAPMemory(t *testing.T) {
	value := func(n int) []byte {
		return append([]byte{0x04, 0x84, 0, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	for name, op := range map[string][]byte{"many": bytes.Repeat([]byte{0x04, 0x00}, ldapMaxRead/2-8), "deep": nested(900, value(ldapMaxRead-6000)), "long": nested(900, value(3<<20))} {
		l, _ := oddServer(t, func(c net.Conn) { c.Write(nested(1, op)) })
		src := openLDAP(t, LDAPConfig{URL: "ldap://" + l, Base: "dc=x", Filter: "(mail=%s)", MSS: "*", Timeout: time.Second, Attributes: LDAPAttributes{Address: "mail"}})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		unasked(t, src, jean, "")
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 300 { // twice what it is without -race
			t.Errorf("%s: %d MiB for an answer", name, took)
		}
	}
}

// nested puts content into so many sequences.
func nested(deep int, content []byte) []byte {
	heads := make([][]byte, deep)
	n := len(content)
	for i := range heads {
		heads[deep-1-i] = []byte{0x30, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
		n += 6
	}
	return append(bytes.Join(heads, nil), content...)
}
