package collect

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"passerelle/gateway/message"
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
			case <-time.After(15 * time.Second):
				t.Error("nothing came")
			}
		}
		until(t, "flags", func() bool { return s.heard("UID STORE") == 2 })
		if r.fate(3) != "" {
			t.Error("a letter that is gone was settled")
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

// Silence ends a session; slowness within the patience does not, in the middle of a line either.
func TestSilenceAndSlowness(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		s := newScript(t)
		s.on = func(_ *line, _, command string) bool { return strings.HasPrefix(command, "UID SEARCH") }
		s.collect(func(_ *Box, c *Config) { c.Patience = 100 * time.Millisecond })
		until(t, "three sessions", func() bool { return s.heard("SELECT") >= 3 })
	})
	t.Run("silent within IDLE", func(t *testing.T) {
		s := newScript(t)
		s.on = func(c *line, _, command string) bool {
			if command == "IDLE" {
				c.say("+ idling")
			}
			return command == "IDLE" || command == "DONE"
		}
		s.collect(func(b *Box, c *Config) { b.Every, c.Patience = 50*time.Millisecond, 100*time.Millisecond })
		until(t, "three sessions", func() bool { return s.heard("SELECT") >= 3 })
	})
	t.Run("slow", func(t *testing.T) {
		s := newScript(t)
		s.mail = []string{"x: y\r\n\r\n"}
		s.on = func(c *line, tag, command string) bool {
			time.Sleep(150 * time.Millisecond)
			if !strings.HasPrefix(command, "UID SEARCH") {
				return false
			}
			for _, p := range []string{"* SEA", "RCH ", "1\r", "\n"} {
				fmt.Fprint(c, p)
				time.Sleep(150 * time.Millisecond)
			}
			c.say("%s OK done", tag)
			return true
		}
		r := s.collect(func(_ *Box, c *Config) { c.Patience = 600 * time.Millisecond })
		<-r.taken
		if n := s.heard("SELECT"); n != 1 {
			t.Errorf("%d sessions", n)
		}
	})
	t.Run("no IDLE after all", func(t *testing.T) {
		s := newScript(t)
		s.on = func(c *line, tag, command string) bool {
			if command == "IDLE" {
				c.say("%s BAD what?", tag)
			}
			return command == "IDLE"
		}
		s.collect(func(b *Box, _ *Config) { b.Every = 20 * time.Millisecond })
		until(t, "five looks", func() bool { return s.heard("UID SEARCH") >= 5 })
		if a, b := s.heard("SELECT"), s.heard("IDLE"); a != 1 || b != 1 {
			t.Errorf("%d sessions, IDLE asked %d times", a, b)
		}
	})
}

// MOVE is answered NO by servers that have moved, and by servers that have not.
func TestMoveSaysInternalError(t *testing.T) {
	for _, moved := range []bool{true, false} {
		t.Run(fmt.Sprint(moved), func(t *testing.T) {
			s := newScript(t)
			s.mail = []string{"x: y\r\n\r\n"}
			var gone atomic.Bool
			s.on = func(c *line, tag, command string) bool {
				switch {
				case strings.HasPrefix(command, "UID MOVE"):
					gone.Store(moved)
					c.say("%s NO [SERVERBUG] Internal error", tag)
				case strings.HasPrefix(command, "UID FETCH") && gone.Load():
					c.say("%s OK done", tag)
				default:
					return false
				}
				return true
			}
			r := s.collect(func(b *Box, _ *Config) { b.After, b.MoveTo = Move, "Repris" })
			<-r.taken
			until(t, "it is done", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.done) == 1 })
			want := 1
			if moved {
				want = 0
			}
			if n := s.heard("UID COPY 1"); n != want {
				t.Errorf("copied %d times, want %d", n, want)
			}
			if n := s.heard("UID EXPUNGE 1"); n != want {
				t.Errorf("deleted %d times, want %d", n, want)
			}
		})
	}
}

// A stop finishes the letter in hand: it is settled and flagged, and the next is not begun.
func TestStopFinishesTheLetterInHand(t *testing.T) {
	s := newScript(t)
	s.mail = []string{"x: y\r\n\r\n", "x: z\r\n\r\n"}
	begun, goOn := make(chan struct{}), make(chan struct{})
	r := s.collect(func(_ *Box, c *Config) {
		c.Take = func(context.Context, *Box, ID, *message.Body) Verdict {
			close(begun)
			<-goOn
			return Verdict{Code: 250}
		}
	})
	<-begun
	stopped := make(chan struct{})
	go func() { r.set.Stop(); close(stopped) }()
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	<-stopped
	if r.fate(1) != Taken || r.fate(2) != "" || s.heard("UID STORE 1") != 1 || len(r.done) != 1 {
		t.Errorf("fates %v, done %v", r.fates, r.done)
	}
}

// A state that cannot note keeps the server untouched.
func TestNothingIsDoneBeforeItIsNoted(t *testing.T) {
	s := newScript(t)
	s.mail = []string{"x: y\r\n\r\n"}
	s.collect(func(_ *Box, c *Config) { c.State = broken{c.State} })
	until(t, "three tries", func() bool { return s.heard("SELECT") >= 3 })
	if n := s.heard("UID STORE"); n != 0 {
		t.Errorf("flagged %d times", n)
	}
}

type broken struct{ State }

func (broken) Settle(context.Context, ID, Print, Fate) error { return errors.New("disk full") }

// Three letters that the clinic takes at no time do not keep those behind them.
func TestLateOnesComeLast(t *testing.T) {
	s := newScript(t)
	for n := range 8 {
		s.mail = append(s.mail, fmt.Sprintf("x: %d\r\n\r\n", n))
	}
	r := s.collect(func(_ *Box, c *Config) {
		c.Take = func(_ context.Context, _ *Box, id ID, _ *message.Body) Verdict {
			if id.UID <= 4 {
				return Verdict{Code: 451}
			}
			return Verdict{Code: 250}
		}
	})
	until(t, "the others are taken", func() bool { return r.fate(5) == Taken && r.fate(8) == Taken })
}
