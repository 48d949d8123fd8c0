package collect

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func count(c prometheus.Counter) float64 {
	var m dto.Metric
	c.Write(&m)
	return m.GetCounter().GetValue()
}

// heap watches the most that is in use while f runs.
func heap(f func()) (most uint64) {
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // garbage must not pass for what is held
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, done := m.HeapAlloc, make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	for {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc-min(m.HeapAlloc, before))
		select {
		case <-done:
			return most
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// A letter of 50 MB goes through to the temp file without ever being in memory, and arrives whole.
func TestLargeLetterStreams(t *testing.T) {
	s := newScript(t)
	s.mail = []string{strings.Repeat("0123456789abcde\n", 50<<20/16), "small\r\n", ""}
	most := heap(func() {
		r := s.collect()
		for _, want := range []int64{50 << 20, 7} {
			select {
			case got := <-r.taken:
				if got != want {
					t.Errorf("got %d octets, want %d", got, want)
				}
			case <-time.After(60 * time.Second):
				t.Error("nothing came")
			}
		}
		until(t, "flags", func() bool { return s.heard("UID STORE") == 3 })
		if r.fate(3) != Refused {
			t.Error("a letter without an octet is not left where it is")
		}
	})
	t.Logf("heap: %d KiB more at most", most>>10)
	if most > 16<<20 { // the budget is 4 MiB, a piece of the library's half a MiB
		t.Errorf("heap grew by %d MiB", most>>20)
	}
}

// What a server says that nobody asked for ends the session, and is never held: the house lives on, and asks again later.
func TestFloods(t *testing.T) {
	flood := func(c *line, what string) {
		for c.say("%s", strings.Repeat(what, 64<<10/len(what))) == nil {
		}
	}
	for name, on := range map[string]func(c *line, tag, command string) bool{
		"a line without end": func(c *line, tag, command string) bool {
			if !strings.HasPrefix(command, "UID SEARCH") {
				return false
			}
			for {
				if _, err := c.Write([]byte(strings.Repeat("A", 64<<10))); err != nil {
					return true
				}
			}
		},
		"numbers without end": func(c *line, tag, command string) bool {
			if !strings.HasPrefix(command, "UID SEARCH") {
				return false
			}
			fmt.Fprint(c, "* SEARCH")
			for n := 1; ; n++ {
				if _, err := fmt.Fprint(c, " ", n*2); err != nil {
					return true
				}
			}
		},
		"a literal of 8 EiB": func(c *line, tag, command string) bool {
			if !strings.Contains(command, "BODY.PEEK[]") {
				return false
			}
			c.say("* 1 FETCH (UID 1 BODY[]<0> {9223372036854775807}")
			flood(c, "x")
			return true
		},
		"a buffered literal": func(c *line, tag, command string) bool {
			if !strings.HasPrefix(command, "SELECT") {
				return false
			}
			c.say("* LIST () {4294967295}")
			flood(c, "x")
			return true
		},
		"answers to another question": func(c *line, tag, command string) bool {
			if !strings.Contains(command, "BODY.PEEK[]") {
				return false
			}
			flood(c, "* 9 FETCH (UID 9 BODY[] {4}\r\nabcd)\r\n")
			return true
		},
		"lists in lists": func(c *line, tag, command string) bool {
			if !strings.HasPrefix(command, "SELECT") {
				return false
			}
			fmt.Fprint(c, "* FLAGS ")
			flood(c, "(")
			return true
		},
		"words while nothing is asked": func(c *line, tag, command string) bool {
			if command == "IDLE" {
				c.say("+ idling")
				flood(c, "* OK still here\r\n")
				return true
			}
			return false
		},
		"zero numbers": func(c *line, tag, command string) bool {
			if strings.HasPrefix(command, "UID STORE") {
				flood(c, "* 0 EXPUNGE\r\n* 1 EXPUNGE\r\n")
				return true
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.mail = []string{"Subject: x\r\n\r\nx\r\n"}
			s.on = on
			most := heap(func() {
				s.collect()
				until(t, "three tries", func() bool { return s.heard("SELECT") >= 3 })
			})
			if most > 24<<20 {
				t.Errorf("heap grew by %d MiB", most>>20)
			}
		})
	}
}

// A server that names all numbers at once, and mail that grows beyond the limit while it is fetched.
func TestNumbersAndSizesThatLie(t *testing.T) {
	s := newScript(t)
	s.mail = []string{"Subject: x\r\n\r\nx\r\n"}
	var pieces atomic.Int64
	s.on = func(c *line, tag, command string) bool {
		switch {
		case strings.HasPrefix(command, "UID SEARCH UID 1:*"):
			c.say("* ESEARCH (TAG \"%s\") UID ALL 1:4294967295\r\n%s OK done", tag, tag)
		case strings.HasPrefix(command, "UID SEARCH"):
			c.say("%s OK done", tag)
		case strings.Contains(command, "BODY.PEEK[]"):
			off := pieces.Add(1) - 1
			c.say("* 1 FETCH (UID 1 BODY[]<%d> {%d}\r\n%s)\r\n%s OK done", off*piece, piece, strings.Repeat("x", piece), tag)
		default:
			return false
		}
		return true
	}
	r := s.collect(func(_ *Box, c *Config) { c.Max = 2 << 20 })
	until(t, "it is refused", func() bool { return r.fate(1) == Refused })
	until(t, "it is flagged", func() bool { return s.heard(`UID STORE 1 +FLAGS.SILENT (\Flagged $PasserelleRefused)`) == 1 })
	if n := pieces.Load(); n > 5 {
		t.Errorf("%d pieces were fetched of a letter beyond the limit", n)
	}
	if u := r.budget.Usage(); u.Bodies+u.Spilled != 0 {
		t.Errorf("the budget holds %+v", u)
	}
}

// Without TLS nothing is said: no STARTTLS, a welcome before it, a certificate of somebody else, words in clear behind it.
func TestNeverInClear(t *testing.T) {
	for name, change := range map[string]func(*script){
		"refused": func(s *script) {
			s.on = func(c *line, tag, command string) bool {
				if command == "STARTTLS" {
					c.say("%s NO not here", tag)
				}
				return command == "STARTTLS"
			}
		},
		"PREAUTH": func(s *script) {
			s.greeting = "* PREAUTH [CAPABILITY IMAP4rev1] welcome"
			s.on = func(c *line, tag, command string) bool {
				if command == "STARTTLS" {
					c.say("%s BAD already in", tag)
				}
				return command == "STARTTLS"
			}
		},
		"another's certificate": func(s *script) { s.pool.ServerName = "imap.operateur.test" },
		"words behind it": func(s *script) {
			s.on = func(c *line, tag, command string) bool {
				if command == "STARTTLS" {
					c.say("%s OK begin\r\n* PREAUTH welcome\r\nT2 OK done", tag)
				}
				return command == "STARTTLS"
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.implicit = false
			change(s)
			r := s.collect()
			until(t, "three faults", func() bool { return count(mFailures.WithLabelValues("box", "connect")) >= 3 })
			if n := s.heard("AUTH") + s.heard("SELECT") + s.heard("LOGIN"); n != 0 || len(r.taken) > 0 {
				t.Errorf("the server was told: %q", s.said)
			}
		})
	}
	t.Run("as it should be", func(t *testing.T) {
		s := newScript(t)
		s.implicit, s.mail = false, []string{"x: y\r\n\r\n"}
		r := s.collect()
		<-r.taken
	})
}

// Operators answer a token that they do not like with a challenge, and hang up. It is evicted, a fresh one is tried once, then the mailbox waits.
func TestTokenRefusedByChallenge(t *testing.T) {
	s := newScript(t)
	s.greeting = strings.Replace(s.greeting, "AUTH=EXTERNAL", "AUTH=XOAUTH2", 1)
	s.greeting = strings.Replace(s.greeting, " SASL-IR", "", 1)
	s.on = func(c *line, tag, command string) bool {
		if !strings.HasPrefix(command, "AUTHENTICATE") {
			return false
		}
		c.say("+ ")
		c.r.ReadString('\n')
		c.say("+ eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=")
		c.Close()
		return true
	}
	var asked, evicted atomic.Int64
	s.collect(func(b *Box, c *Config) {
		b.Auth, c.BackoffMin, c.BackoffMax = XOAuth2, time.Hour, time.Hour
		b.Token = func(context.Context) (string, error) { return fmt.Sprint("token", asked.Add(1)), nil }
		b.Evict = func(string) { evicted.Add(1) }
	})
	until(t, "the fault", func() bool { return count(mFailures.WithLabelValues("box", "login")) == 1 })
	if asked.Load() != 2 || evicted.Load() != 2 {
		t.Errorf("asked for %d tokens, evicted %d; want 2 and 2", asked.Load(), evicted.Load())
	}
}

// Who writes a letter may have made its fields endless: it keeps no other.
func TestEndlessFields(t *testing.T) {
	s := newScript(t)
	s.mail = []string{"x: y\r\n\r\n", "x: y\r\n\r\n"}
	s.on = func(c *line, tag, command string) bool {
		if !strings.Contains(command, "HEADER.FIELDS") {
			return false
		}
		head := strings.Repeat("Message-ID: <0123456789>\r\n", 200<<10/26) + "\r\n"
		at := ""
		if strings.Contains(command, "<0.8192>") {
			head, at = head[:8192], "<0>"
		}
		for u := range 2 {
			c.say("* %d FETCH (UID %d RFC822.SIZE 8 BODY[HEADER.FIELDS (RECEIVED MESSAGE-ID DATE)]%s {%d}\r\n%s)", u+1, u+1, at, len(head), head)
		}
		c.say("%s OK done", tag)
		return true
	}
	r := s.collect()
	until(t, "both", func() bool { return r.fate(1) == Taken && r.fate(2) == Taken })
}

// PREAUTH: under a certificate that several mailboxes share nobody knows whose mail it would be.
func TestPreauthIsNoLogin(t *testing.T) {
	s := newScript(t)
	s.greeting, s.mail = "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] welcome", []string{"x: y\r\n\r\n"}
	r := s.collect()
	before := count(mFailures.WithLabelValues("box", "login"))
	until(t, "three faults", func() bool { return count(mFailures.WithLabelValues("box", "login")) >= before+3 })
	if s.heard("SELECT") != 0 || len(r.taken) > 0 {
		t.Errorf("the server was told: %q", s.said)
	}
}
