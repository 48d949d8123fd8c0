package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A letter that somebody deletes between two pieces is never handed on as a half.
func TestHalfALetterIsNone(t *testing.T) {
	for name, answer := range map[string]string{"gone": "", "its flags alone": "* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\n", "nothing": "* 1 FETCH (UID 1 BODY[] NIL)\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.mail = []string{strings.Repeat("0123456789abcde\n", 2*piece/16), "small\r\n"}
			s.on = func(c *line, tag, command string) bool {
				if !strings.HasPrefix(command, "UID FETCH 1 ") || !strings.Contains(command, fmt.Sprintf("<%d.", piece)) {
					return false
				}
				c.say("%s%s OK done", answer, tag)
				return true
			}
			r := s.collect()
			if n := <-r.taken; n != 7 {
				t.Errorf("%d octets were handed on", n)
			}
			until(t, "the next look", func() bool { return s.heard("UID SEARCH") >= 2 })
			if r.fate(1) != "" || r.floorNow() != 0 {
				t.Errorf("half a letter was settled: %q, floor %d", r.fate(1), r.floorNow())
			}
		})
	}
}

// Letters that the operator's server cannot read keep no other, however it says so.
func TestUnreadableLettersKeepNoOther(t *testing.T) {
	for name, say := range map[string]func(c *line, tag string){
		"NO":      func(c *line, tag string) { c.say("%s NO [SERVERBUG] Internal error", tag) },
		"hang up": func(c *line, _ string) { c.Close() },
		"nothing": func(c *line, tag string) { c.say("%s OK done", tag) },
		"empty":   func(c *line, tag string) { c.say("* 1 FETCH (UID 1 BODY[]<0> \"\")\r\n%s OK done", tag) },
		"half":    func(c *line, tag string) { c.say("* 1 FETCH (UID 1 BODY[]<0> {100}\r\nhalf"); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.mail = []string{"x: 1\r\n\r\n", "x: 2\r\n\r\n", "x: 3\r\n\r\n", "x: 4\r\n\r\n", "x: 5\r\n\r\n"}
			s.on = func(c *line, tag, command string) bool {
				if strings.Contains(command, "BODY.PEEK[]") && !strings.HasPrefix(command, "UID FETCH 5 ") {
					say(c, tag)
					return true
				}
				return false
			}
			r := s.collect()
			until(t, "the one behind them", func() bool { return r.fate(5) == Taken })
			if r.fate(1) != "" || r.floorNow() != 0 {
				t.Errorf("an unread letter was settled: %q, floor %d", r.fate(1), r.floorNow())
			}
		})
	}
	t.Run("hang up at its flag", func(t *testing.T) {
		s := newScript(t)
		s.mail = []string{"x: 1\r\n\r\n", "x: 2\r\n\r\n", "x: 3\r\n\r\n"}
		s.on = func(c *line, tag, command string) bool {
			if !strings.HasPrefix(command, "UID STORE 1 ") {
				return false
			}
			c.Close()
			return true
		}
		r := s.collect()
		until(t, "the others", func() bool { return r.fate(2) == Taken && r.fate(3) == Taken })
	})
	t.Run("NO to the question", func(t *testing.T) {
		s := newScript(t)
		s.mail = []string{"x: 1\r\n\r\n", "x: 2\r\n\r\n"}
		s.on = func(c *line, tag, command string) bool {
			if !strings.Contains(command, "HEADER.FIELDS") {
				return false
			}
			c.say("* 2 FETCH (UID 2 RFC822.SIZE 8 BODY[HEADER.FIELDS (RECEIVED MESSAGE-ID DATE)] {2}\r\n\r\n)\r\n%s NO [SERVERBUG] Internal error", tag)
			return true
		}
		r := s.collect()
		until(t, "the other", func() bool { return r.fate(2) == Taken })
		time.Sleep(20 * time.Millisecond)
		if r.floorNow() != 0 {
			t.Error("the first is left behind")
		}
	})
}
