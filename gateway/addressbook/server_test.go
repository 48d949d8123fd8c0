package addressbook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// searchOp gives a search for all below base, as the hostile client writes it.
func searchOp(base string, filter []byte, attrs ...string) []byte {
	var list []byte
	for _, a := range attrs {
		list = append(list, octets(a)...)
	}
	return tlv(opSearch, octets(base), number(tagEnum, 2), number(tagEnum, 0), number(tagInt, 0), number(tagInt, 0), tlv(tagBool, []byte{0}), filter, tlv(tagSequence, list))
}

func equal(attr, value string) []byte { return tlv(opEqual, octets(attr), octets(value)) }

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// talk sends and reads until the server closes, or says that it is done with id.
func talk(t *testing.T, c net.Conn, id int, send ...[]byte) (codes []int, closed bool) {
	t.Helper()
	c.Write(bytes.Join(send, nil))
	for {
		raw, err := readMessage(c, 1<<20)
		if err != nil {
			return codes, true
		}
		r, err := parseRequest(raw)
		if err != nil {
			t.Fatalf("the server sent nonsense: %v", err)
		}
		if r.op == opSearchEntry {
			continue
		}
		code, err := r.body.number(tagEnum)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
		if r.id == id {
			return codes, false
		}
	}
}

func TestHostile(t *testing.T) {
	b := newBook(t, newShelf())
	conf, _ := certificate(t)
	addr := serve(t, b, func(c *ServerConfig) { c.Step, c.TLS = time.Second, conf })
	nested := equal("sn", "dupont")
	for range 500 {
		nested = tlv(opAnd, nested)
	}
	wide := tlv(opOr, bytes.Repeat(equal("sn", "dupont"), 300))
	long := strings.Repeat("é", 4000)
	bind := func(password string) []byte {
		return tlv(opBind, number(tagInt, 3), octets(""), tlv(0x80, []byte(password)))
	}
	startTLS := tlv(opExtended, tlv(0x80, []byte(oidStartTLS)))
	for _, c := range []struct {
		name   string
		send   []byte
		codes  string
		closed bool
	}{
		{"good", reply(7, searchOp("o=annuaire", equal("sn", "dupont")), nil), "[0]", false},
		{"pipelined", append(reply(1, bind(""), nil), reply(7, searchOp("o=annuaire", equal("sn", "dupont")), nil)...), "[0 0]", false},
		{"abandon", append(reply(1, tlv(opAbandon, []byte{3}), nil), reply(7, bind(""), nil)...), "[0]", false},
		{"deep", reply(7, searchOp("o=annuaire", nested), nil), "[11]", false},
		{"wide", reply(7, searchOp("o=annuaire", wide), nil), "[11]", false},
		{"long", reply(7, searchOp("o=annuaire", equal("sn", long)), nil), "[4]", false},
		{"not UTF-8", reply(7, searchOp("o=annuaire", equal("sn", "dup\xff\x00ont\xc3")), nil), "[0]", false},
		{"SASL", reply(7, tlv(opBind, number(tagInt, 3), octets(""), tlv(0xa3, octets("PLAIN"))), nil), "[7]", false},
		{"password", reply(7, bind("x"), nil), "[53]", false},
		{"size below zero", reply(7, tlv(opSearch, octets(""), number(tagEnum, 2), number(tagEnum, 0), []byte{tagInt, 1, 0xff}, number(tagInt, 0)), nil), "[2]", true},
		{"no LDAP", []byte("GET / HTTP/1.1\r\n\r\n"), "[2]", true},
		{"too large", []byte{tagSequence, 0x84, 0x7f, 0xff, 0xff, 0xff}, "[2]", true},
		{"just too large", append([]byte{tagSequence, 0x82, 0x40, 0x01}, make([]byte, 0x4001)...), "[2]", true},
		{"indefinite", []byte{tagSequence, 0x80, 2, 1, 1, 0, 0}, "[2]", true},
		{"cut short", []byte{tagSequence, 0x20, 2, 1}, "[]", true}, // Step ends it
		{"unknown", reply(7, tlv(0x7e, nil), nil), "[2]", true},
		{"rest behind", []byte{tagSequence, 7, 2, 1, 1, opAbandon, 0, 5, 0}, "[2]", true},
		{"unbind", reply(7, []byte{opUnbind, 0}, nil), "[]", true},
		{"in clear behind StartTLS", append(reply(1, startTLS, nil), reply(7, bind(""), nil)...), "[2]", true},
		{"no handshake", append(reply(1, startTLS, nil), []byte{}...), "[0]", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			codes, closed := talk(t, dial(t, addr), 7, c.send)
			if fmt.Sprint(codes) != c.codes && !(len(codes) == 0 && c.codes == "[]") || closed != c.closed {
				t.Errorf("%v closed %v, want %s %v", codes, closed, c.codes, c.closed)
			}
		})
	}
}

// TestStrangers: who is not in the networks, comes too often, too slowly or too many at once, is turned away; the next one is answered.
func TestStrangers(t *testing.T) {
	s := newShelf()
	ask := reply(7, searchOp("o=annuaire", equal("sn", "dupont")), nil)
	t.Run("network", func(t *testing.T) {
		addr := serve(t, newBook(t, s, func(c *Config) { c.LDAPNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }))
		if codes, closed := talk(t, dial(t, addr), 7, ask); len(codes) > 0 || !closed {
			t.Errorf("%v", codes)
		}
	})
	t.Run("idle", func(t *testing.T) {
		addr := serve(t, newBook(t, s), func(c *ServerConfig) { c.Idle = 50 * time.Millisecond })
		c := dial(t, addr)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d %v", n, err)
		}
	})
	t.Run("dripping", func(t *testing.T) {
		addr := serve(t, newBook(t, s), func(c *ServerConfig) { c.Step = 100 * time.Millisecond })
		c := dial(t, addr)
		begin := time.Now()
		for _, octet := range ask {
			if _, err := c.Write([]byte{octet}); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if codes, _ := talk(t, c, 7); len(codes) > 0 {
			t.Errorf("answered after %s", time.Since(begin))
		}
	})
	t.Run("many", func(t *testing.T) {
		addr := serve(t, newBook(t, s), func(c *ServerConfig) { c.MaxPerClient = 3 })
		var held []net.Conn
		for range 3 {
			c := dial(t, addr)
			if codes, _ := talk(t, c, 7, ask); fmt.Sprint(codes) != "[0]" {
				t.Fatal(codes)
			}
			held = append(held, c)
		}
		if codes, closed := talk(t, dial(t, addr), 7, ask); len(codes) > 0 || !closed {
			t.Errorf("the fourth: %v", codes)
		}
		held[0].Close()
		for codes := []int(nil); len(codes) == 0; { // until the server saw it go
			codes, _ = talk(t, dial(t, addr), 7, ask)
		}
	})
	t.Run("busy", func(t *testing.T) {
		left := 2
		var clients []netip.Addr
		b := newBook(t, s, func(c *Config) {
			c.Allow = func(a netip.Addr, now time.Time) bool {
				clients = append(clients, a)
				left--
				return left >= 0 && now.Equal(today)
			}
		})
		c := dial(t, serve(t, b))
		for i, want := range []string{"[0]", "[0]", "[51]"} {
			if codes, _ := talk(t, c, 7, ask); fmt.Sprint(codes) != want {
				t.Errorf("%d: %v, want %s", i, codes, want)
			}
		}
		if clients[0] != netip.MustParseAddr("127.0.0.1") {
			t.Error(clients)
		}
	})
}

func TestDirectoryAway(t *testing.T) {
	s := newShelf()
	b := newBook(t, s)
	c := dial(t, serve(t, b))
	ask := reply(7, searchOp("o=annuaire", equal("sn", "dupont")), nil)
	s.away.Store(true)
	if codes, _ := talk(t, c, 7, ask); fmt.Sprint(codes) != "[52]" {
		t.Errorf("away: %v", codes)
	}
	s.away.Store(false)
	if codes, _ := talk(t, c, 7, ask); fmt.Sprint(codes) != "[0]" {
		t.Errorf("back: %v", codes)
	}
	slow := newShelf()
	slow.hang = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	f := equal("sn", "dupont")
	req, err := parseSearch(searchOp("o=annuaire", f)[2:])
	if err != nil {
		t.Fatal(err)
	}
	if _, code, _ := newBook(t, slow).directory(ctx, netip.Addr{}, req, 20, false); code != timeLimitExceeded {
		t.Errorf("slow: %d", code)
	}
}

// TestStop: a search that waits for the directory does not hold the end of the gateway.
func TestStop(t *testing.T) {
	s := newShelf()
	s.hang = true
	b := newBook(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Listener: l, Book: func() *Book { return b }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	dial(t, l.Addr().String()).Write(reply(7, searchOp("o=annuaire", equal("sn", "dupont")), nil))
	for s.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Error("still serving")
	}
}

func TestManyAtOnce(t *testing.T) {
	conf, _ := certificate(t)
	addr := serve(t, newBook(t, newShelf()), func(c *ServerConfig) { c.TLS, c.ImplicitTLS = conf, true })
	var wg sync.WaitGroup
	for range 15 {
		wg.Go(func() {
			c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for range 20 {
				if codes, _ := talk(t, c, 7, reply(7, searchOp("o=annuaire", equal("sn", "martin"), "mail"), nil)); fmt.Sprint(codes) != "[4]" {
					t.Errorf("%v", codes)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzSession feeds the octets of a whole session: no panic, no answer that is no LDAP, and nothing more than the limit.
func FuzzSession(f *testing.F) {
	f.Add(reply(1, searchOp("o=annuaire", tlv(opAnd, equal("sn", "martin"), tlv(opPresent, []byte("mail"))), "mail"), nil))
	f.Add(reply(1, searchOp("o=annuaire", tlv(opSubstrings, octets("cn"), tlv(tagSequence, tlv(subInitial, []byte("mar")), tlv(subAny, []byte("e")), tlv(subFinal, []byte("n"))))), nil))
	f.Add(reply(1, searchOp("", tlv(opOr, tlv(opNot, equal("sn", "x")), tlv(opExtensible, tlv(0x82, []byte("cn"))))), tlv(tagSequence, octets(oidPaged), tlv(tagOctets, tlv(tagSequence, number(tagInt, 3), octets(""))))))
	f.Add(append(reply(1, tlv(opBind, number(tagInt, 3), octets(""), tlv(0x80)), nil), reply(2, []byte{opUnbind, 0}, nil)...))
	f.Add(reply(9, searchOp(`mail=jean.dupont\40medecin.mssante.fr,o=annuaire`, tlv(opPresent, []byte("objectClass"))), nil))
	shelf := newShelf()
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	b, err := New(Config{Finder: shelf, Allow: func(netip.Addr, time.Time) bool { return true }, LDAPNetworks: all})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Server{cfg: ServerConfig{Book: func() *Book { return b }, Idle: time.Second, Step: time.Second}}
		conn := &tape{in: bytes.NewReader(in)}
		s.session(t.Context(), conn, netip.Addr{})
		entries := 0
		for out := bytes.NewReader(conn.out.Bytes()); ; {
			raw, err := readMessage(out, 1<<20)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("answered nonsense: %v", err)
			}
			r, err := parseRequest(raw)
			if err != nil {
				t.Fatalf("answered nonsense: %v", err)
			}
			if entries++; r.op != opSearchEntry {
				entries = 0
			}
			if entries > MaxFound {
				t.Fatal("more entries than the limit")
			}
		}
	})
}

// tape is a connection whose client has said all it says.
type tape struct {
	net.Conn // nil: nothing else is called
	in       *bytes.Reader
	out      bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// A connection that was let in keeps nothing from it: behind a reload that shuts its network out it is answered no more.
func TestNetworksOnOpenConnections(t *testing.T) {
	var inForce atomic.Pointer[Book]
	inForce.Store(newBook(t, newShelf()))
	addr := serve(t, nil, func(c *ServerConfig) { c.Book = inForce.Load })
	request := func(id int) []byte { return reply(id, searchOp("o=annuaire", equal("sn", "dupont")), nil) }
	c := dial(t, addr)
	if codes, closed := talk(t, c, 1, request(1)); closed || len(codes) != 1 || codes[0] != success {
		t.Fatalf("%v, closed %t", codes, closed)
	}
	wider := newBook(t, newShelf(), func(c *Config) { c.LDAPNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	inForce.Store(wider)
	if codes, closed := talk(t, c, 2, request(2)); closed || len(codes) != 1 || codes[0] != success {
		t.Fatalf("a reload that lets it in: %v, closed %t", codes, closed)
	}
	inForce.Store(newBook(t, newShelf(), func(c *Config) { c.LDAPNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }))
	if codes, closed := talk(t, c, 3, request(3)); !closed || len(codes) != 0 {
		t.Errorf("its network is shut out: %v, closed %t", codes, closed)
	}
}
