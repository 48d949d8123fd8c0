package collect

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an IMAP server that does as it is told. It knows the few commands that the room sends; on answers one of them in its own way.
type script struct {
	t    *testing.T
	l    net.Listener
	tls  *tls.Config
	pool *tls.Config

	implicit bool
	greeting string
	mail     []string // by UID from 1
	on       func(c *line, tag, command string) bool

	mu    sync.Mutex
	said  []string // by the client
	flags []string
	wg    sync.WaitGroup
	open  map[net.Conn]bool
}

// line is one connection of it.
type line struct {
	net.Conn
	r *bufio.Reader
}

func (c *line) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c, format+"\r\n", args...)
	return err
}

func newScript(t *testing.T) *script {
	t.Helper()
	ca, err := gatewaytest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.IssueLocal(pkix.Name{CommonName: "imap"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, l: l, tls: ca.ServerTLS(cert, false), pool: &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, implicit: true,
		greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=EXTERNAL IDLE UIDPLUS MOVE SASL-IR] hello", open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *script) serve() {
	for {
		raw, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[raw] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer raw.Close()
			c := &line{Conn: raw, r: bufio.NewReader(raw)}
			if s.implicit {
				c = s.secure(raw)
			}
			if c.say("%s", s.greeting) == nil {
				s.talk(c)
			}
		})
	}
}

func (s *script) secure(raw net.Conn) *line {
	t := tls.Server(raw, s.tls)
	return &line{Conn: t, r: bufio.NewReader(t)}
}

func (s *script) talk(c *line) {
	for {
		text, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		text = strings.TrimRight(text, "\r\n")
		s.mu.Lock()
		s.said = append(s.said, text)
		s.mu.Unlock()
		tag, command, _ := strings.Cut(text, " ")
		if s.on != nil && s.on(c, tag, command) {
			continue
		}
		switch verb := strings.ToUpper(command); {
		case verb == "STARTTLS":
			c.say("%s OK begin", tag)
			c = s.secure(c.Conn)
		case strings.HasPrefix(verb, "SELECT"):
			c.say("* %d EXISTS\r\n* OK [PERMANENTFLAGS (\\*)] x\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT %d] x\r\n%s OK done", len(s.mail), len(s.mail)+1, tag)
		case strings.HasPrefix(verb, "UID SEARCH"):
			from, _ := strconv.Atoi(strings.TrimSuffix(verb[strings.LastIndexByte(verb, ' ')+1:], ":*"))
			out := "* SEARCH"
			for u := from; u <= len(s.mail); u++ {
				out += fmt.Sprint(" ", u)
			}
			c.say("%s\r\n%s OK done", out, tag)
		case strings.HasPrefix(verb, "UID FETCH") && strings.Contains(verb, "HEADER.FIELDS"):
			for u, m := range s.mail {
				head := fmt.Sprintf("Message-ID: <%d>\r\n\r\n", u+1)
				c.say("* %d FETCH (UID %d RFC822.SIZE %d BODY[HEADER.FIELDS (RECEIVED MESSAGE-ID DATE)] {%d}\r\n%s)", u+1, u+1, len(m), len(head), head)
			}
			c.say("%s OK done", tag)
		case strings.HasPrefix(verb, "UID FETCH"):
			var u, off, n int
			fmt.Sscanf(verb, "UID FETCH %d", &u)
			fmt.Sscanf(verb[strings.Index(verb, "<"):], "<%d.%d>", &off, &n)
			m := s.mail[u-1]
			p := m[min(off, len(m)):min(off+n, len(m))]
			c.say("* %d FETCH (UID %d BODY[]<%d> {%d}\r\n%s)\r\n%s OK done", u, u, off, len(p), p, tag)
		case strings.HasPrefix(verb, "UID STORE"):
			s.mu.Lock()
			s.flags = append(s.flags, command)
			s.mu.Unlock()
			c.say("%s OK done", tag)
		case verb == "IDLE":
			c.say("+ idling")
			c.r.ReadString('\n')
			c.say("%s OK done", tag)
		case verb == "CAPABILITY":
			c.say("* CAPABILITY IMAP4rev1 AUTH=EXTERNAL IDLE UIDPLUS MOVE SASL-IR\r\n%s OK done", tag)
		default:
			c.say("%s OK done", tag)
		}
	}
}

// heard tells how often the client said something with these words in it.
func (s *script) heard(words string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.said {
		if strings.Contains(l, words) {
			n++
		}
	}
	return n
}

// memory is a State that forgets.
type memory struct {
	mu    sync.Mutex
	fates map[ID]Fate
	done  map[ID]bool
	floor uint32
}

func (m *memory) Open(context.Context, string, uint32, uint32) (Place, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := Place{Floor: m.floor}
	for id, f := range m.fates {
		if !m.done[id] {
			p.Owed = append(p.Owed, Owed{id.UID, f})
		}
	}
	return p, nil
}

func (m *memory) Known(_ context.Context, box string, validity uint32, uids []uint32) (map[uint32]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := map[uint32]bool{}
	for _, u := range uids {
		known[u] = m.fates[ID{box, validity, u}] != ""
	}
	return known, nil
}

func (m *memory) Adopt(context.Context, ID, Print) (Fate, error) { return "", nil }

func (m *memory) Settle(_ context.Context, id ID, _ Print, f Fate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fates[id] = f
	return nil
}

func (m *memory) Done(_ context.Context, id ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[id] = true
	return nil
}

func (m *memory) Reach(_ context.Context, _ string, _, floor uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.floor = floor
	return nil
}

func (m *memory) Sweep(_ context.Context, box string, validity uint32, held func([]uint32) (map[uint32]bool, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.done {
		there, err := held([]uint32{id.UID})
		if err != nil {
			return err
		}
		if !there[id.UID] {
			delete(m.fates, id)
		}
	}
	return nil
}

// fate of a UID.
func (m *memory) fate(uid uint32) Fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fates[ID{"a@op.test/INBOX", 7, uid}]
}

// room runs one box against a script.
type room struct {
	*memory
	budget *message.Budget
	set    *Set
	log    strings.Builder
	taken  chan int64 // sizes
}

// collect begins; change may alter the box and the settings.
func (s *script) collect(change ...func(*Box, *Config)) *room {
	s.t.Helper()
	s.wg.Go(s.serve)
	r := &room{memory: &memory{fates: map[ID]Fate{}, done: map[ID]bool{}}, budget: message.NewBudget(4<<20, s.t.TempDir()), taken: make(chan int64, 100)}
	b := Box{Name: "box", Mailbox: "a@op.test", Folder: "INBOX", Addr: s.l.Addr().String(), Implicit: s.implicit, Auth: External, After: Flag, Every: time.Hour,
		TLS: func() (*tls.Config, error) { return s.pool.Clone(), nil }}
	cfg := Config{State: r.memory, Budget: r.budget, Max: 60 << 20, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Patience: 2 * time.Second, BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		Take: func(_ context.Context, _ *Box, _ ID, body *message.Body) Verdict {
			r.taken <- body.Size()
			return Verdict{Code: 250}
		},
		Tell: func(context.Context, *Box, ID) error { return nil }}
	for _, f := range change {
		f(&b, &cfg)
	}
	r.set = New(cfg)
	r.set.Apply([]Box{b})
	s.t.Cleanup(r.set.Stop)
	return r
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (m *memory) floorNow() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.floor
}
