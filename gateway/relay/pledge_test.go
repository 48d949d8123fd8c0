package relay

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// pledgeHop takes letters one after the other, and answers the final dot as last says; "" never does.
func pledgeHop(t *testing.T, last string) (addr string, letters chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	letters = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "220 hop\r\n")
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					switch {
					case err != nil:
						return
					case strings.HasPrefix(line, "DATA"):
						fmt.Fprint(c, "354 go\r\n")
						var b strings.Builder
						for line, err = r.ReadString('\n'); line != ".\r\n"; line, err = r.ReadString('\n') {
							if err != nil { // half a letter is none
								return
							}
							b.WriteString(line)
						}
						letters <- b.String()
						if last == "" { // it works on it
							<-t.Context().Done()
							return
						}
						for _, p := range strings.SplitAfter(last, "|") { // in pieces
							fmt.Fprint(c, strings.TrimSuffix(p, "|"))
							time.Sleep(10 * time.Millisecond)
						}
					case strings.HasPrefix(line, "QUIT"):
						fmt.Fprint(c, "221 bye\r\n")
						return
					default:
						fmt.Fprint(c, "250 ok\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String(), letters
}

// keeper holds what is pledged to it as another process would: by a descriptor of its own.
func keeper(t *testing.T, kept *net.Conn) *Pledge {
	return &Pledge{Keep: func(fd uintptr) error {
		dup, err := syscall.Dup(int(fd))
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(dup), "kept")
		defer f.Close()
		*kept, err = net.FileConn(f)
		t.Cleanup(func() { (*kept).Close() })
		return err
	}}
}

func pledged(p *Pledge) Letter {
	to := message.Address{Local: "a", Domain: "clinic.test"}
	return Letter{Recipients: []message.Recipient{{Address: to, Raw: to.String()}}, Body: message.BytesBody([]byte("Subject: x\r\n\r\nx\r\n")), Pledge: p}
}

// Whoever has the connection finds what the hop said, as often as he looks, until the pledge is released; the hop got the letter once.
func TestPledgeIsInherited(t *testing.T) {
	for name, c := range map[string]struct {
		reply     string
		ok        bool
		permanent bool
	}{
		"taken":     {"250 2.0.0 queued\r\n", true, false},
		"in pieces": {"250-2.0|.0 que|ued\r\n250 as 4711\r|\n", true, false},
		"refused":   {"554 5.7.1 no\r\n", false, true},
		"later":     {"452 4.3.1 full\r\n", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			addr, letters := pledgeHop(t, c.reply)
			r := New(Config{})
			defer r.Close()
			hop := Hop{Name: "clinic", Addr: addr}
			var kept net.Conn
			p := keeper(t, &kept)
			for _, res := range []Result{r.Send(t.Context(), hop, pledged(p))[0], func() Result { o, _ := p.Outcome(); return o }(), func() Result {
				heir := Inherit(t.Context(), kept, hop, 10*time.Second)
				o, known := heir.Outcome()
				if !known {
					t.Error("the heir knows nothing")
				}
				return o
			}(), func() Result { o, _ := Inherit(t.Context(), kept, hop, 10*time.Second).Outcome(); return o }()} {
				if (res.Err == nil) != c.ok || res.Err != nil && res.Err.Permanent != c.permanent || res.Reply == "" {
					t.Errorf("got %q %v", res.Reply, res.Err)
				}
			}
			p.Release()
			p.Release()
			if n := len(letters); n != 1 {
				t.Errorf("the hop has %d letters", n)
			}
		})
	}
}

// A process that died before the dot leaves a hop that has nothing: the heir says so at once, and the hop throws the half letter away.
func TestPledgeOfHalfALetter(t *testing.T) {
	addr, letters := pledgeHop(t, "250 ok\r\n")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for _, line := range []string{"", "EHLO x\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<a@clinic.test>\r\n", "DATA\r\n"} {
		fmt.Fprint(c, line)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(c, "Subject: x\r\n\r\nhalf")
	if _, known := Inherit(t.Context(), c, Hop{Name: "clinic"}, 10*time.Second).Outcome(); known || len(letters) != 0 {
		t.Errorf("known %v, %d letters", known, len(letters))
	}
}

// Who keeps nothing costs nothing: the letter goes as any other, and its connection serves the next.
// A second letter under one pledge goes as any other, and what is known of the first stays.
func TestPledgeServesOneLetter(t *testing.T) {
	addr, letters := pledgeHop(t, "552 5.3.4 too large\r\n")
	var kept net.Conn
	p := keeper(t, &kept)
	asked, keep := 0, p.Keep
	p.Keep = func(fd uintptr) error { asked++; return keep(fd) }
	r := New(Config{})
	defer r.Close()
	for range 2 {
		if got := r.Send(t.Context(), Hop{Name: "clinic", Addr: addr, Helo: "gw"}, pledged(p))[0]; got.Err == nil || got.Err.Code != 552 {
			t.Errorf("%+v", got)
		}
		<-letters
	}
	if asked != 1 {
		t.Errorf("%d connections were pledged", asked)
	}
	p.Release()
	kept.Close()
}

func TestPledgeWithoutAKeeper(t *testing.T) {
	addr, letters := pledgeHop(t, "250 ok\r\n")
	r := New(Config{})
	defer r.Close()
	p := &Pledge{Keep: func(uintptr) error { return errors.New("no") }}
	for range 2 {
		if res := r.Send(t.Context(), Hop{Name: "clinic", Addr: addr}, pledged(p)); res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
	}
	if _, known := p.Outcome(); known || len(letters) != 2 {
		t.Errorf("known %v, %d letters", known, len(letters))
	}
}

// A hop that never answers is unknown, for him who sent and for his heir.
func TestPledgeUnanswered(t *testing.T) {
	addr, _ := pledgeHop(t, "")
	r := New(Config{Timeouts: Timeouts{Final: 100 * time.Millisecond, Quit: 50 * time.Millisecond}})
	defer r.Close()
	var kept net.Conn
	p := keeper(t, &kept)
	res := r.Send(t.Context(), Hop{Name: "clinic", Addr: addr}, pledged(p))[0]
	if res.Err == nil || !errors.Is(res.Err, ErrUnknownOutcome) || res.Err.Permanent {
		t.Errorf("got %v", res.Err)
	}
	if Inherit(t.Context(), kept, Hop{Name: "clinic"}, 100*time.Millisecond) != nil {
		t.Error("the heir knows what nobody said")
	}
	p.Release()
}
