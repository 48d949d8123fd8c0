package deploy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
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

// TestGatewayKeepsNothing drives the built binary by the bench files as they are: what a message says stands nowhere on the gateway's
// side, and a death at any instant loses nothing.
func TestGatewayKeepsNothing(t *testing.T) {
	bin := benchBuild(t)
	t.Run("searcher finds", searcherFinds)
	t.Run("searcher reads", searcherReads)
	for _, route := range []string{"plain", "trust", "openpgp", "pickup"} {
		t.Run(route, func(t *testing.T) { markerStaysOut(t, bin, route) })
	}
	for _, route := range []string{"plain", "pickup"} {
		t.Run("killed under load/"+route, func(t *testing.T) { killedUnderLoad(t, bin, route) })
	}
}

// mark is a sentence that no other bytes contain by chance, with a sign that quoted-printable must escape.
func mark() string {
	var b [8]byte
	rand.Read(b[:])
	return "temoin=" + hex.EncodeToString(b[:])
}

// searcher finds a sentence in the ways in which mail and databases write it.
type searcher map[string][]byte

func newSearcher(sentence string) searcher {
	s := searcher{"as bytes": []byte(sentence), "quoted-printable": []byte(strings.ReplaceAll(sentence, "=", "=3D")),
		"in a URL": []byte(url.QueryEscape(sentence)), "hexadecimal": []byte(hex.EncodeToString([]byte(sentence)))}
	var be, le []byte
	for _, c := range []byte(sentence) {
		be, le = append(be, 0, c), append(le, c, 0)
	}
	s["UTF-16BE"], s["UTF-16LE"] = be, le
	for shift := range 3 { // the first and last characters depend on the neighbours
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), sentence...))
		s[fmt.Sprint("base64 shifted by ", shift)] = []byte(text[(shift*8+5)/6 : len(text)-1])
	}
	return s
}

// in names the first way in which the sentence stands in body, or "". Line ends are taken out first, those of quoted-printable too:
// whatever stands in the lines stands in what is left.
func (s searcher) in(body []byte) string {
	flat := make([]byte, 0, len(body))
	for len(body) > 0 {
		line, rest, cut := bytes.Cut(body, []byte("\n"))
		if cut {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\r")), []byte("="))
		}
		flat, body = append(flat, line...), rest
	}
	for way, needle := range s {
		if bytes.Contains(flat, needle) {
			return way
		}
	}
	return ""
}

// searcherFinds is the control: a searcher that finds nothing anywhere would pass every test.
func searcherFinds(t *testing.T) {
	sentence := mark()
	s := newSearcher(sentence)
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	w.Write([]byte(strings.Repeat("x", 60) + sentence + "\n"))
	w.Close()
	planted := map[string][]byte{"bytes": []byte("a" + sentence + "b"), "quoted": qp.Bytes(), "whole letter": benchLetter("7", sentence, 100<<10)}
	for i := range 40 { // every alignment, and every place of the line's end
		raw := []byte(strings.Repeat("x", i) + sentence + "tail")
		planted[fmt.Sprint("base64 at ", i)] = benchBase64(raw)
		planted[fmt.Sprint("base64 behind a header at ", i)] = []byte("Subject: =?utf-8?B?" + base64.StdEncoding.EncodeToString(raw) + "?=\r\n")
	}
	for where, body := range planted {
		if s.in(body) == "" {
			t.Errorf("%s: the planted sentence was not found in %q", where, body[:min(200, len(body))])
		}
		if way := newSearcher(mark()).in(body); way != "" {
			t.Errorf("%s: another sentence was found %s", where, way)
		}
	}
	// The same through all that a message's parts are made of: each alone must be found in a letter.
	for _, part := range []string{"Subject: ", "file name", "text", "attachment"} {
		body := benchLetterParts("7", func(p string) string {
			if p == part {
				return sentence
			}
			return "nothing"
		}, 50<<10)
		if s.in(body) == "" {
			t.Errorf("the sentence in %s alone was not found", part)
		}
	}
}

// searcherReads is the control of where the searcher looks: this very process holds the sentence in a file without a name.
func searcherReads(t *testing.T) {
	sentence := mark()
	self, err := os.FindProcess(os.Getpid())
	benchCheck(t, err)
	b := &benchGateway{root: t.TempDir(), cmd: &exec.Cmd{Process: self}}
	benchCheck(t, os.Mkdir(filepath.Join(b.root, "tmp"), 0o700))
	find := func() (found, unlinked int) {
		files, unlinked := b.files(t, true)
		for _, body := range files {
			if newSearcher(sentence).in(body) != "" {
				found++
			}
		}
		return found, unlinked
	}
	f, err := os.Create(filepath.Join(b.root, "tmp", "body"))
	benchCheck(t, err)
	defer f.Close()
	if found, unlinked := find(); found+unlinked > 0 {
		t.Fatalf("before: %d found, %d without a name", found, unlinked)
	}
	_, err = f.WriteString("a " + sentence)
	benchCheck(t, err)
	if found, unlinked := find(); found != 2 || unlinked != 0 { // by its name, and as a descriptor
		t.Errorf("with its name: %d found, %d without a name", found, unlinked)
	}
	benchCheck(t, os.Remove(f.Name()))
	if found, unlinked := find(); found != 1 || unlinked != 1 {
		t.Errorf("without its name: %d found, %d without a name", found, unlinked)
	}
}

// benchLetter is a message of about size bytes that says the sentence in subject, text, file name and all through the attachment.
func benchLetter(id, sentence string, size int) []byte {
	return benchLetterParts(id, func(string) string { return sentence }, size)
}

func benchLetterParts(id string, say func(part string) string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: staff@clinic.test\r\nTo: r@dest.test\r\nSubject: %s\r\nMessage-ID: <%s@clinic.test>\r\nX-Check-Id: %s\r\n", say("Subject: "), id, id)
	b.WriteString("Date: Mon, 02 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\n")
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	for range 200 {
		fmt.Fprintf(&b, "Le dossier dit %s, à garder entre nous.\r\n", say("text"))
	}
	fmt.Fprintf(&b, "--frontier\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"%s.bin\"\r\n\r\n", say("file name"))
	raw := make([]byte, max(0, (size-b.Len())*3/4*76/78))
	rand.Read(raw) // so that nothing on the way packs it small
	for at := 0; at+100 < len(raw); at += 4099 {
		copy(raw[at:], say("attachment"))
	}
	b.Write(benchBase64(raw))
	b.WriteString("--frontier--\r\n")
	return b.Bytes()
}

func benchBase64(raw []byte) []byte {
	var b bytes.Buffer
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(raw)), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// searchGateway looks through all that the gateway has on disk and gives the number of its unlinked files.
func searchGateway(t *testing.T, when string, b *benchGateway, s searcher, running bool) int {
	t.Helper()
	files, unlinked := b.files(t, running)
	if len(files) < 3 {
		t.Errorf("%s: only %d files were looked at", when, len(files))
	}
	for name, body := range files {
		if way := s.in(body); way != "" {
			t.Errorf("%s: %s holds the sentence %s", when, name, way)
		}
	}
	return unlinked
}

// markerStaysOut holds 5 MB messages before a stalled hop, kills, repeats and stops; it searches at each halt.
func markerStaysOut(t *testing.T, bin, route string) {
	const sessions, size = 20, 5 << 20
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sentence := mark()
	s := newSearcher(sentence)
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn() // a session that stalls for ever would keep the sink from closing
	// "dot": the hop has the message and its reply is what the kill destroys. "data": the message fills the sockets and waits.
	stall := &gatewaytest.Stall{At: "dot", Go: release}
	if route == "trust" {
		stall.At = "data"
	}
	var begun atomic.Int64
	sink, env := benchSink(t, route, gatewaytest.Options{Stall: stall, Rcpt: func(string, string) gatewaytest.Reply {
		begun.Add(1)
		return gatewaytest.Reply{}
	}})
	b := benchStart(t, bin, route, sink.Addr(), env)

	letters := make([][]byte, sessions)
	first := make(chan error, sessions)
	to := func(i int) string { return fmt.Sprintf("r%d@dest.test", i) }
	for i := range letters {
		letters[i] = benchLetter(fmt.Sprint("m", i), sentence, size)
		go func() { first <- b.send(i%2 == 0, to(i), letters[i]) }()
	}
	half, err := benchDial(b.smtp, false) // one more is in the middle of its DATA all the while
	benchCheck(t, err)
	defer half.Close()
	benchCheck(t, half.Mail("staff@clinic.test", nil))
	benchCheck(t, half.Rcpt(to(sessions), nil))
	data, err := half.Data()
	benchCheck(t, err)
	if _, err := data.Write(letters[0][:size/2]); err != nil {
		t.Fatal(err)
	}

	// A hop is asked only when the whole message is in hand.
	benchUntil(t, ctx, "the hop holds every session", func() bool {
		select {
		case err := <-first:
			t.Fatalf("a client was answered while the hop stalls: %v", err)
		default:
		}
		return begun.Load() >= sessions
	})
	n := searchGateway(t, "while the hop stalls", b, s, true)
	if n == 0 {
		t.Errorf("no temp file without a name is open: %d messages of %d bytes did not leave memory, the test shows nothing", sessions, size)
	}
	t.Logf("%d temp files without a name", n)
	b.kill(t)
	for range letters {
		if err := <-first; err == nil {
			t.Error("a client was told 250 though the hop had not answered")
		}
	}
	searchGateway(t, "after kill -9", b, s, false)

	goOn()
	b.start(t)
	again := make(chan error, sessions)
	for i := range letters {
		go func() { again <- b.repeat(ctx, i%2 == 0, to(i), letters[i]) }()
	}
	for range letters {
		if err := <-again; err != nil {
			t.Error(err)
		}
	}
	searchGateway(t, "after the repetition", b, s, true)
	b.stop(t)
	searchGateway(t, "after the stop", b, s, false)

	limit := 2 // the hop took it, the reply died, the client repeated
	if stall.At == "data" {
		limit = 1 // a message without its end was never taken
	}
	arrivals(t, sink, sessions, limit, sessions)
	for _, m := range sink.Messages() {
		if route == "trust" && m.TLS == nil {
			t.Error("a message for the trust space came in clear")
		}
		switch way, whole := s.in(m.Data), route == "plain" || route == "trust"; {
		case whole && way == "":
			t.Errorf("what left for %q should hold the sentence", m.Recipients)
		case !whole && way != "":
			t.Errorf("what left for %q holds the sentence %s", m.Recipients, way)
		}
	}
	if route == "pickup" {
		vaultIsWhole(t, b, sessions, sessions, sessions)
	}
}

// arrivals checks what recipients got: each of n messages, none more than limit times, and at most twice of them more than once.
func arrivals(t *testing.T, sink *gatewaytest.NextHop, n, limit, twice int) {
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
	for i := range n {
		id := fmt.Sprint("m", i)
		switch c := count[id]; {
		case c == 0:
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

// killedUnderLoad kills the gateway in the midst of its work, again and again, while clients do what Postfix does.
func killedUnderLoad(t *testing.T, bin, route string) {
	const n, clients, size = 240, 8, 60 << 10
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sentence := mark()
	s := newSearcher(sentence)
	sink, env := benchSink(t, route, gatewaytest.Options{})
	b := benchStart(t, bin, route, sink.Addr(), env)
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				letter := benchLetter(fmt.Sprint("m", i), sentence, size)
				if err := b.repeat(ctx, c%2 == 0, fmt.Sprintf("r%d@dest.test", i), letter); err != nil {
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
	arrivals(t, sink, n, 1+kills, kills*clients)
	if route == "pickup" {
		vaultIsWhole(t, b, n, n+kills*clients, kills*clients)
	}
}

type leftBlobs struct{ *store.Blobs }

func (l leftBlobs) Open(string) (vault.Blob, error)                { return nil, store.ErrNoBlob }
func (l leftBlobs) Delete(_ context.Context, id string) error      { return l.Blobs.Delete(id) }
func (l leftBlobs) List(context.Context) (ids []string, err error) { return l.Blobs.List() }

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
	payloads, err := blobs.List()
	benchCheck(t, err)
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
