package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/message"
)

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
				time.Sleep(350 * time.Millisecond)
			}
			c.say("%s OK done", tag)
			return true
		}
		r := s.collect(func(_ *Box, c *Config) { c.Patience = 1200 * time.Millisecond })
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

// A state that cannot note keeps the server untouched, and who handed the letter on is told: it must not be in hand for ever.
func TestNothingIsDoneBeforeItIsNoted(t *testing.T) {
	s := newScript(t)
	s.mail = []string{"x: y\r\n\r\n"}
	var told atomic.Int64
	s.collect(func(_ *Box, c *Config) {
		c.State = broken{c.State}
		c.Take = func(context.Context, *Box, ID, *message.Body) Verdict {
			return Verdict{Code: 250, Settled: func(noted bool) {
				if told.Add(1); noted {
					t.Error("it was not noted")
				}
			}}
		}
	})
	until(t, "three tries", func() bool { return s.heard("SELECT") >= 3 })
	if told.Load() < 2 {
		t.Errorf("told %d times", told.Load())
	}
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

// A server without MOVE that lets nothing be deleted has one copy, not one more at each look.
func TestOneCopyIsEnough(t *testing.T) {
	s := newScript(t)
	s.greeting = strings.Replace(s.greeting, " MOVE", "", 1)
	s.mail = []string{"x: y\r\n\r\n"}
	s.on = func(c *line, tag, command string) bool {
		switch {
		case command == "CAPABILITY":
			c.say("* CAPABILITY IMAP4rev1 AUTH=EXTERNAL UIDPLUS SASL-IR\r\n%s OK done", tag)
		case strings.HasPrefix(command, "UID STORE") && strings.Contains(command, "Deleted"):
			c.say("%s NO [NOPERM] not yours", tag)
		default:
			return false
		}
		return true
	}
	s.collect(func(b *Box, _ *Config) { b.After, b.MoveTo, b.Every = Move, "Repris", 10*time.Millisecond })
	until(t, "five looks", func() bool { return s.heard("UID SEARCH") >= 5 })
	if n := s.heard("UID COPY 1"); n != 1 {
		t.Errorf("copied %d times", n)
	}
}

// What is in the folder no more is forgotten; a server that does not answer to that question is not asked on.
func TestSweep(t *testing.T) {
	for _, refused := range []bool{false, true} {
		s := newScript(t)
		s.mail = []string{"x: y\r\n\r\n", "x: z\r\n\r\n"}
		s.on = func(c *line, tag, command string) bool {
			switch {
			case command == "UID SEARCH UID 1" && refused:
				c.say("%s NO", tag)
			case command == "UID SEARCH UID 1":
				c.say("%s OK gone", tag)
			case command == "UID SEARCH UID 2":
				c.say("* SEARCH 2\r\n%s OK", tag)
			default:
				return false
			}
			return true
		}
		r := s.collect(func(b *Box, _ *Config) { b.Every = 10 * time.Millisecond })
		until(t, "two looks", func() bool { return s.heard("UID SEARCH UID 3:*") >= 2 })
		if r.fate(2) != Taken || (r.fate(1) != "") != refused || s.heard("SELECT") != 1 || s.heard("UID SEARCH UID 1") > 2 {
			t.Errorf("refused %t: %v", refused, r.fates)
		}
	}
}

// News without end do not keep us busy.
func TestNewsWithoutEnd(t *testing.T) {
	s := newScript(t)
	s.on = func(c *line, tag, command string) bool {
		if command != "IDLE" {
			return false
		}
		c.say("+ idling\r\n* 1 EXISTS")
		c.r.ReadString('\n')
		c.say("%s OK done", tag)
		return true
	}
	s.collect()
	until(t, "three looks", func() bool { return s.heard("UID SEARCH") >= 3 })
	begin := s.heard("UID SEARCH")
	time.Sleep(time.Second)
	if n := s.heard("UID SEARCH") - begin; n > 6 {
		t.Errorf("%d looks in a second", n)
	}
}
