package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/ledger"
	"passerelle/gateway/store"
)

// inSpace is a house of a clinic in the trust space, with a peer's server that takes mail and a mirror of the directory that can be
// taken away.
type inSpace struct {
	*house
	peer  *gatewaytest.NextHop
	space *space
}

func newInSpace(t *testing.T, more string, reply func(string) gatewaytest.Reply, prepare func(*house)) *inSpace {
	t.Helper()
	s := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	file := filepath.Join(t.TempDir(), "extraction.txt")
	_, keys, _ := strings.Cut(more, "#directory:") // further keys of directory
	text := withRules(more) +
		strings.Replace(trustText, "127.0.0.1:1", "{peer}", 1) + "directory: {extraction: \"" + file + "\", " + strings.TrimSpace(keys) + "}\n"
	boxes := []gatewaytest.Mailbox{gatewaytest.Doctor("marie.durand@peer.mssante.test", "Marie", "Durand"), gatewaytest.Doctor("paul@mss.clinic.test", "Paul", "Petit")}
	for i := range 500 {
		boxes = append(boxes, gatewaytest.Doctor(fmt.Sprintf("d%d@peer.mssante.test", i), "Paul", "Petit"))
	}
	h := &inSpace{peer: peer, space: s, house: custom(t, text, reply, func(h *house) {
		if err := gatewaytest.WriteDirectory(file, boxes...); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(h.dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.ImportDirectory(t.Context(), filepath.Join(h.dir, "state"), file, false, nil); err != nil {
			t.Fatal(err)
		}
		if prepare != nil {
			prepare(h)
		}
	}, "{tls}", s.dir, "{peer}", peer.Addr())}
	return h
}

// mirror takes the directory's mirror away or brings it back.
func (h *inSpace) mirror(there bool) {
	h.t.Helper()
	path := filepath.Join(h.dir, "state", directory.MirrorName)
	from, to := path, path+".away"
	if there {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
}

// rows gives the outcomes noted for each recipient, in their order. It stops the house.
func (h *house) rows() map[string]string {
	h.t.Helper()
	h.stop()
	db, err := store.Open(h.t.Context(), store.Config{Dir: filepath.Join(h.dir, "state"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	l, err := ledger.New(h.t.Context(), db, ledger.Config{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	list, err := l.Query(h.t.Context(), ledger.Filter{Limit: 5000})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b ledger.Entry) int { return int(a.Seq - b.Seq) })
	out := map[string]string{}
	for _, e := range list {
		out[e.Recipient] = strings.TrimSpace(out[e.Recipient] + " " + string(e.Outcome))
	}
	return out
}

// kinds of what can become of a recipient: accepted, "later" at the hop, refused by the hop, refused by a rule, "later" by the directory.
const kinds = "olbrd"

// mixes are all choices of two or three of them, repeats allowed, whatever the order.
func mixes() (out []string) {
	for i := range kinds {
		for j := i; j < len(kinds); j++ {
			out = append(out, kinds[i:i+1]+kinds[j:j+1])
			for k := j; k < len(kinds); k++ {
				out = append(out, kinds[i:i+1]+kinds[j:j+1]+kinds[k:k+1])
			}
		}
	}
	return out
}

// Every mix of outcomes, under LMTP and under SMTP, with a sender and without: the replies, the repeats of the client until all is
// settled, one copy for each who gets one, one bounce for who failed beside others, and the rows of the ledger.
func TestOutcomeMatrix(t *testing.T) {
	var away atomic.Bool // the hop's "later"
	h := newInSpace(t, "rules:\n  - {name: forbidden, recipient: [\"r*@dest.test\"], route: refuse}\n"+
		"  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}\n  - {name: rest, route: plain}\n",
		func(to string) gatewaytest.Reply {
			switch {
			case to[0] == 'l' && away.Load():
				return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "not now"}
			case to[0] == 'b':
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
			}
			return gatewaytest.Reply{}
		}, nil)
	want := map[string]string{} // rows
	n := 0
	for _, way := range []string{"lmtp", "smtp", "null"} {
		for _, mix := range mixes() {
			away.Store(true)
			h.mirror(false)
			from, addr := "dr@mss.clinic.test", h.smtp
			if way == "lmtp" {
				addr = h.lmtp
			} else if way == "null" {
				from = ""
			}
			var to []string
			for _, k := range mix {
				domain := "dest.test"
				if k == 'd' {
					domain = "peer.mssante.test"
				}
				to = append(to, fmt.Sprintf("%c%d@%s", k, n, domain))
				n++
			}
			content := strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", n), 1)
			bounces := len(h.clinic.Messages())
			name := way + " " + mix
			waits := strings.ContainsAny(mix, "ld")
			if way == "lmtp" {
				got := codes(h.send(addr, from, content, to...))
				wanted := strings.TrimSpace(strings.NewReplacer("o", "250 ", "l", "451 ", "d", "451 ", "b", "550 ", "r", "550 ").Replace(mix))
				if got != wanted {
					t.Errorf("%s: got %s, want %s", name, got, wanted)
				}
			} else {
				wanted := "250"
				switch {
				case waits:
					wanted = "451"
				case !strings.Contains(mix, "o"):
					wanted = "550"
				}
				for range 2 {
					if got := codes(h.send(addr, from, content, to...)); got != wanted {
						t.Errorf("%s: got %s, want %s", name, got, wanted)
					}
					if wanted != "451" {
						break
					}
				}
			}
			away.Store(false)
			h.mirror(true)
			if waits {
				again := to
				if way == "lmtp" { // only who waits comes again
					again = slices.DeleteFunc(slices.Clone(to), func(s string) bool { return s[0] != 'l' && s[0] != 'd' })
				}
				for _, r := range h.send(addr, from, content, again...) {
					if r[:3] != "250" {
						t.Errorf("%s, repeated: %s", name, r)
					}
				}
			}
			failed := strings.ContainsAny(mix, "br")
			wantBounces := 0
			if way == "smtp" && failed && strings.ContainsAny(mix, "old") {
				wantBounces = 1
			}
			ms := h.clinic.Messages()[bounces:]
			if len(ms) != wantBounces {
				t.Errorf("%s: %d bounces, want %d", name, len(ms), wantBounces)
			}
			for i, r := range to {
				copies := len(h.sink.To(r)) + len(h.peer.To(r))
				fails := r[0] == 'b' || r[0] == 'r'
				if copies != 1 && !fails || fails && copies != 0 {
					t.Errorf("%s: %s got %d copies", name, r, copies)
				}
				if wantBounces == 1 && len(ms) == 1 && strings.Contains(string(ms[0].Data), r+"\r\nAction: failed") != fails {
					t.Errorf("%s: the bounce about %s:\n%s", name, r, ms[0].Data)
				}
				row := map[byte]string{'o': "delivered", 'l': "deferred delivered", 'd': "deferred delivered", 'b': "failed", 'r': "refused"}[mix[i]]
				if fails && wantBounces == 1 {
					row += " bounced"
				}
				want[r] = row
			}
		}
	}
	got := h.rows()
	for to, row := range want {
		if got[to] != row {
			t.Errorf("ledger of %s: got %q, want %q", to, got[to], row)
		}
	}
}

// A bounce that its sender's server refuses for good goes to the postmaster, once; while that one refuses too the message waits and is
// told by nobody else: the client's own queue ends it.
func TestBounceRefusedForGood(t *testing.T) {
	var postmasterToo atomic.Bool
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n"), later, func(h *house) {
		h.clinicReply = func(to string) gatewaytest.Reply {
			if to == "dr@clinic.test" || postmasterToo.Load() {
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "unknown"}
			}
			return gatewaytest.Reply{}
		}
	})
	postmasterToo.Store(true)
	for range 2 {
		if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"); codes(got) != "451" || !strings.Contains(got[0], "Avis de non-remise") {
			t.Fatalf("got %q", got)
		}
	}
	postmasterToo.Store(false)
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	ms := h.clinic.Messages()
	if len(ms) != 1 || ms[0].Recipients[0] != "postmaster@clinic.test" || ms[0].Sender != "" || !strings.Contains(string(ms[0].Data), "To: <dr@clinic.test>") {
		t.Errorf("%d messages at the clinic: %+v", len(ms), ms)
	}
	if n := len(h.sink.To("ok@dest.test")); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// The hop took the message while the client's line was cut: the repeat is served from memory, and is not doubled. Behind the written
// final reply the same bytes are a new message.
func TestCutBeforeTheReply(t *testing.T) {
	for _, way := range []string{"lmtp", "smtp"} {
		held, hold := make(chan struct{}), make(chan struct{})
		var once sync.Once
		h := newHouse(t, "5d", func(string) gatewaytest.Reply {
			once.Do(func() { close(held); <-hold })
			return gatewaytest.Reply{}
		})
		addr, greeting := h.smtp, "EHLO"
		if way == "lmtp" {
			addr, greeting = h.lmtp, "LHLO"
		}
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := textproto.NewConn(raw)
		for _, line := range []string{"", greeting + " client.clinic.test", "MAIL FROM:<dr@clinic.test>", "RCPT TO:<ok@dest.test>", "DATA"} {
			if line != "" {
				c.PrintfLine("%s", line)
			}
			if _, _, err := c.ReadResponse(0); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprint(raw, strings.ReplaceAll(hello, "\n", "\r\n")+".\r\n")
		<-held
		raw.(*net.TCPConn).SetLinger(0) // a reset: the reply cannot be written
		raw.Close()
		if got := h.once(addr, "dr@clinic.test", hello, "ok@dest.test"); codes(got) != "451" || !strings.Contains(got[0], "deja en cours") {
			t.Errorf("%s, while the first is in hand: %q", way, got)
		}
		close(hold)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if _, err := h.sink.Wait(ctx, 1); err != nil {
			t.Fatal(err)
		}
		cancel()
		for want := 1; want <= 2; want++ { // the repeat; then the same again, on purpose
			if got := h.send(addr, "dr@clinic.test", hello, "ok@dest.test"); codes(got) != "250" {
				t.Errorf("%s: %q", way, got)
			}
			if n := len(h.sink.To("ok@dest.test")); n != want {
				t.Errorf("%s: %d copies, want %d", way, n, want)
			}
		}
	}
}

// A patient with accents in the address gets the notice by SMTPUTF8 (RFC 6531); where the hop cannot, the sender is told and no deposit stays.
func TestPickupInternational(t *testing.T) {
	tab := readReplyTable(t)
	for _, able := range []bool{true, false} {
		hop := &scriptHop{ext: []string{"8BITMIME"}}
		if able {
			hop.ext = append(hop.ext, "SMTPUTF8")
		}
		h := custom(t, strings.Replace(withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup}\n"), "{sink}", hop.serve(t), 1), nil, nil)
		got := h.speak(tab, h.lmtp, " SMTPUTF8", hello, "zoé@dest.test")
		hop.mu.Lock()
		notices, said := hop.got, hop.mail
		hop.mu.Unlock()
		left, deposits := 0, filepath.Join(h.dir, "state", "deposits")
		if err := filepath.WalkDir(deposits, func(_ string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				left++
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if able && (codes(got) != "250" || len(notices) != 1 || !strings.Contains(said[0], " SMTPUTF8") || left == 0 || len(h.clinic.To("dr@clinic.test")) != 1) {
			t.Errorf("able: %q, %d notices after %q, %d files", got, len(notices), said, left)
		}
		if !able && (codes(got) != "553" || len(notices) != 0 || left != 0 || len(h.clinic.Messages()) != 0) {
			t.Errorf("unable: %q, %d notices, %d files, %d codes", got, len(notices), left, len(h.clinic.Messages()))
		}
	}
}
