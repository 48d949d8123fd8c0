package deploy_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/crypto/seal"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// TestDeathsLoseNothing ends the built binary at chosen and at random instants.
func TestDeathsLoseNothing(t *testing.T) {
	bin := binary(t)
	for _, route := range []string{"plain", "pickup"} {
		t.Run("under load/"+route, func(t *testing.T) { killedUnderLoad(t, bin, route) })
	}
	for _, lmtp := range []bool{true, false} {
		name := map[bool]string{true: "lmtp", false: "smtp"}[lmtp]
		t.Run("between acceptance and reply/"+name, func(t *testing.T) { killedBeforeTheHopsReply(t, bin, lmtp) })
		t.Run("between note and reply/"+name, func(t *testing.T) { killedAfterTheNote(t, bin, lmtp) })
	}
}

// heldSink is a hop that has taken the message and holds its reply back until goOn.
func heldSink(t *testing.T) (sink *gatewaytest.NextHop, goOn func()) {
	t.Helper()
	release := make(chan struct{})
	goOn = sync.OnceFunc(func() { close(release) })
	sink, _ = benchSink(t, "plain", gatewaytest.Options{Stall: &gatewaytest.Stall{At: "dot", Go: release}})
	t.Cleanup(goOn) // before the sink is closed
	return sink, goOn
}

var crowd = []string{"a@dest.test", "b@dest.test", "c@dest.test"}

// killedBeforeTheHopsReply: the hop has the message, the gateway dies without knowing. The client repeats, so it comes twice: that
// is the price of losing nothing. Then the same bytes on purpose are a new message.
func killedBeforeTheHopsReply(t *testing.T, bin string, lmtp bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sink, goOn := heldSink(t)
	b := benchStart(t, bin, "plain", sink.Addr(), nil)
	letter := benchLetter("m0", "nothing", 20<<10)
	first := make(chan error, 1)
	go func() { first <- b.send(lmtp, letter, crowd...) }()
	benchUntil(t, ctx, "the hop has the message", func() bool { return sink.Held() == 1 })
	b.kill(t)
	if err := <-first; err == nil {
		t.Error("250 though the hop had not answered")
	}
	goOn()
	if _, err := sink.Wait(ctx, 1); err != nil { // it keeps what the dead gateway gave it
		t.Fatal(err)
	}
	b.start(t)
	for n := 2; n <= 4; n++ {
		if err := b.repeat(ctx, lmtp, letter, crowd...); err != nil {
			t.Fatal(err)
		}
		for _, to := range crowd {
			if got := len(sink.To(to)); got != n {
				t.Errorf("%s has %d copies, want %d", to, got, n)
			}
		}
		if n == 3 { // a stop in between must not make the last one look like a repetition
			b.stop(t)
			b.start(t)
		}
	}
}

// killedAfterTheNote: the hop has answered and the ledger says so, but the client went away before its reply, and then the gateway
// dies. The repetition is answered 250 without a second copy; the same bytes after that are a new message.
func killedAfterTheNote(t *testing.T, bin string, lmtp bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sink, goOn := heldSink(t)
	b := benchStart(t, bin, "plain", sink.Addr(), nil)
	letter := benchLetter("m0", "nothing", 20<<10)
	session, err := b.dial(lmtp)
	benchCheck(t, err)
	first := make(chan error, 1)
	go func() { first <- session.send(letter, crowd...) }()
	benchUntil(t, ctx, "the hop has the message", func() bool { return sink.Held() == 1 })
	benchCheck(t, session.conn.(*net.TCPConn).SetLinger(0)) // a reset: the reply cannot be written
	session.conn.Close()
	if err := <-first; err == nil {
		t.Error("250 over a closed connection")
	}
	goOn()
	benchUntil(t, ctx, "the message is noted", func() bool { return strings.Contains(b.metrics(t), "passerelle_gateway_message_seconds_count") })
	b.kill(t)
	b.start(t)
	for n := 1; n <= 2; n++ {
		if err := b.repeat(ctx, lmtp, letter, crowd...); err != nil {
			t.Fatal(err)
		}
		for _, to := range crowd {
			if got := len(sink.To(to)); got != n {
				t.Errorf("attempt %d: %s has %d copies, want %d", n, to, got, n)
			}
		}
	}
}

// metrics is the page as Prometheus reads it.
func (b *benchGateway) metrics(t *testing.T) string {
	t.Helper()
	r, err := http.Get("http://" + b.console + "/metrics")
	benchCheck(t, err)
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	benchCheck(t, err)
	return string(page)
}

// killedUnderLoad kills the gateway in the midst of its work, again and again, while clients do what Postfix does.
func killedUnderLoad(t *testing.T, bin, route string) {
	const n, clients, size = 240, 8, 60 << 10
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sentence := benchMark()
	s := newSearcher(sentence)
	sink, env := benchSink(t, route, gatewaytest.Options{})
	b := benchStart(t, bin, route, sink.Addr(), env)
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				letter := benchLetter(fmt.Sprint("m", i), sentence, size)
				if err := b.repeat(ctx, c%2 == 0, letter, fmt.Sprintf("r%d@dest.test", i)); err != nil {
					t.Errorf("m%d: %v", i, err)
				}
			}
		})
	}
	defer wg.Wait()
	kills := 0
	for _, at := range []int{20, 75, 111, 160, 207} {
		if _, err := sink.Wait(ctx, at); err != nil {
			t.Fatal(err)
		}
		b.kill(t)
		kills++
		searchGateway(t, fmt.Sprint("after kill ", kills), b, s, false)
		b.start(t)
	}
	wg.Wait()
	b.stop(t)
	searchGateway(t, "after the stop", b, s, false)
	// At a kill each client has at most one message in hand. Each message may be met by every kill, but not by all clients' kills.
	benchArrivals(t, sink, n, n, 1+kills, kills*clients)
	if route == "pickup" {
		vaultIsWhole(t, b, n, n+kills*clients, kills*clients)
	}
}

type leftBlobs struct{ *store.Blobs }

func (l leftBlobs) Open(string) (vault.Blob, error)                      { return nil, store.ErrNoBlob }
func (l leftBlobs) Delete(_ context.Context, ids ...string) error        { return l.Blobs.Delete(ids...) }
func (l leftBlobs) List(_ context.Context, f func([]string) error) error { return l.Blobs.List(f) }

// vaultIsWhole asks the store of a stopped gateway: between low and high deposits wait for their patients, what the kills left (at
// most torn) goes with the sweep of two hours later, and then every payload has its deposit and every deposit its payload.
func vaultIsWhole(t *testing.T, b *benchGateway, low, high, torn int) {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{Dir: b.state()})
	benchCheck(t, err)
	defer db.Close()
	if temps, _ := filepath.Glob(filepath.Join(b.state(), "deposits", ".temp*")); len(temps) > 0 {
		t.Errorf("unfinished payloads outlived a restart: %d", len(temps))
	}
	blobs, err := store.OpenBlobs(filepath.Join(b.state(), "deposits"))
	benchCheck(t, err)
	v, err := vault.New(ctx, db, leftBlobs{blobs}, vault.Config{Key: seal.Key{1}, PublicURL: "https://retrait.clinic.test",
		Clinic: vault.Clinic{Name: "Clinique de test"}, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	benchCheck(t, err)
	swept, err := v.Sweep(ctx)
	benchCheck(t, err)
	if swept.Expired > 0 || swept.Pending > torn || swept.Orphans > torn {
		t.Errorf("swept %+v, the kills explain %d", swept, torn)
	}
	waiting := depositIDs(t, db, `SELECT id FROM vault_deposits WHERE state = 'waiting'`)
	if others := depositIDs(t, db, `SELECT id FROM vault_deposits WHERE state <> 'waiting'`); len(others) > 0 {
		t.Errorf("%d deposits are left that wait for nobody", len(others))
	}
	if len(waiting) < low || len(waiting) > high {
		t.Errorf("%d deposits wait, want %d to %d", len(waiting), low, high)
	}
	var payloads []string
	benchCheck(t, blobs.List(func(ids []string) error { payloads = append(payloads, ids...); return nil }))
	slices.Sort(payloads)
	if !slices.Equal(waiting, payloads) {
		t.Errorf("%d deposits wait and %d payloads lie there: they are not the same", len(waiting), len(payloads))
	}
	t.Logf("%d deposits wait, swept %+v", len(waiting), swept)
}

func depositIDs(t *testing.T, db interface{ Read() *sql.DB }, query string) (ids []string) {
	t.Helper()
	rows, err := db.Read().QueryContext(t.Context(), query+" ORDER BY id")
	benchCheck(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		benchCheck(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	benchCheck(t, rows.Err())
	return ids
}

// benchArrivals checks what recipients got of the messages m0, m1 ...: each of the first n, which were answered 250, perhaps others of
// all, none more than limit times, and no more than twice of them more than once.
func benchArrivals(t *testing.T, sink *gatewaytest.NextHop, n, all, limit, twice int) {
	t.Helper()
	count := map[string]int{}
	for _, m := range sink.Messages() {
		if !strings.HasSuffix(m.Recipients[0], "@dest.test") { // a code for the sender
			continue
		}
		letter, err := mail.ReadMessage(bytes.NewReader(m.Data))
		benchCheck(t, err)
		count[letter.Header.Get("X-Check-Id")]++
	}
	doubled := 0
	for i := range all {
		id := fmt.Sprint("m", i)
		switch c := count[id]; {
		case c == 0 && i < n:
			t.Errorf("%s was answered 250 and never arrived", id)
		case c > limit:
			t.Errorf("%s arrived %d times, at most %d are allowed", id, c, limit)
		case c > 1:
			doubled++
		}
		delete(count, id)
	}
	if len(count) > 0 {
		t.Errorf("what nobody sent arrived: %v", count)
	}
	if doubled > twice {
		t.Errorf("%d messages arrived more than once, the kills allow %d", doubled, twice)
	}
	t.Logf("%d messages, %d arrived more than once (allowed: %d)", n, doubled, twice)
}
