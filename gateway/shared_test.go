package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/store"
)

// Where TestSharedChild is a gateway of its own, and how far its clock is turned.
const (
	sharedChild  = "PASSERELLE_SHARED_CHILD"
	sharedTurned = "PASSERELLE_SHARED_TURNED"
)

// TestSharedChild is the second process of TestSharedVault, to be killed; alone it does nothing.
func TestSharedChild(t *testing.T) {
	path := os.Getenv(sharedChild)
	if path == "" {
		return
	}
	turned, err := time.ParseDuration(os.Getenv(sharedTurned))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	g, err := gateway.Open(ctx, cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)), gateway.Clock(func() time.Time { return time.Now().Add(turned) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Run(ctx, cfg, "test"), g.Close()); err != nil {
		t.Fatal(err)
	}
}

// sharing is two gateways on one database and one bucket.
type sharing struct {
	pg       *gatewaytest.Postgres
	s3       *gatewaytest.S3
	bucket   string
	a, b     *house
	sms      *gatewaytest.SMS
	turned   atomic.Int64
	text     string
	database string
	atRcpt   atomic.Pointer[func()] // what happens before the Internet hop takes a recipient
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	s := &sharing{sms: gatewaytest.StartSMS()}
	t.Cleanup(func() { s.sms.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	if s.pg, err = gatewaytest.StartPostgres(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.pg.Close() })
	if s.s3, err = gatewaytest.StartS3(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.s3.Close() })
	if s.bucket, err = s.s3.NewBucket(); err != nil {
		t.Fatal(err)
	}
	if s.database, err = s.pg.NewDatabase(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "server.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("5a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.text = "key_file: " + key + "\n" + withRules("rules:\n  - {name: supplier, domain: [plain.test], route: plain}\n  - {name: rest, route: pickup}\n") +
		"pickup: {url: \"http://{portal}\", database: \"" + s.database + "\", blobs: \"" + s.s3.URL(s.bucket) + "\"}\nsms: {url: \"" + s.sms.URL() + "\"}\n"
	s.text = strings.Replace(s.text, `portal: {addr: ""}`, `portal: {addr: "{portal}"}`, 1)
	now := gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(s.turned.Load())) })
	for _, h := range []**house{&s.a, &s.b} {
		*h = custom(t, s.text, func(string) gatewaytest.Reply {
			if f := s.atRcpt.Swap(nil); f != nil {
				(*f)()
			}
			return gatewaytest.Reply{}
		}, func(h *house) { h.opts = append(h.opts, now) })
	}
	return s
}

// mails are those of both gateways.
func (s *sharing) mails(hop func(*house) *gatewaytest.NextHop) (all []gatewaytest.Message) {
	return append(hop(s.a).Messages(), hop(s.b).Messages()...)
}

func sinkOf(h *house) *gatewaytest.NextHop   { return h.sink }
func clinicOf(h *house) *gatewaytest.NextHop { return h.clinic }

// A message that one gateway took is opened at the other. While the database or the bucket is away, what needs them waits and everything else
// leaves. A gateway with another server key is refused.
func TestSharedVault(t *testing.T) {
	s := newSharing(t)
	send := func(h *house, to string) string {
		t.Helper()
		return h.send(h.lmtp, "dr@clinic.test", sealedLetter(to, " [tel:06 12 34 56 78]"), to)[0]
	}
	if got := send(s.a, "a@patient.test"); got[:3] != "250" {
		t.Fatal(got)
	}
	n := readNotice(t, arrived(t, s.a.sink, "a@patient.test", 1)[0])
	atB := "http://" + s.b.portal + "/r/" + n.secret
	r := newReader(t, nil)
	if status, page := r.do("GET", atB, nil); status != http.StatusOK || !strings.Contains(page, "06 .. .. 56 78") {
		t.Fatalf("the link at the other gateway: %d %s", status, page)
	}
	r.openBySMS(atB, s.sms, 1)
	if status, body := r.do("GET", atB+"/f/0", nil); status != http.StatusOK || strings.Count(body, secretFile) != 5000 {
		t.Errorf("the file at the other gateway: %d, %d lines", status, strings.Count(body, secretFile))
	}
	if status, body := r.do("GET", "http://"+s.a.portal+"/r/"+n.secret+"/f/0", nil, "Range", "bytes=60000-"); status != http.StatusPartialContent || !strings.Contains(body, secretFile) {
		t.Errorf("the file's end at the first, with the proof given to the other: %d", status)
	}
	if entries, err := os.ReadDir(filepath.Join(s.a.dir, "state", "deposits")); err == nil {
		t.Errorf("%d payloads lie in the state folder", len(entries))
	}
	found := 0
	filepath.WalkDir(s.s3.Dir, func(path string, e os.DirEntry, err error) error {
		if b, err := os.ReadFile(path); err == nil {
			if regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(filepath.Base(path)) {
				found++
			}
			if strings.Contains(string(b), "MARQUEUR") {
				t.Errorf("in clear in the bucket: %s", filepath.Base(path))
			}
		}
		return err
	})
	if found != 1 {
		t.Errorf("%d payloads in the bucket", found)
	}

	t.Run("another key", func(t *testing.T) {
		cfg := *s.b.cfg
		cfg.StateDir, cfg.KeyFile = t.TempDir(), ""
		_, err := gateway.Open(t.Context(), &cfg, slog.New(slog.DiscardHandler))
		if !errors.Is(err, store.ErrOtherKey) {
			t.Errorf("got %v", err)
		}
		key := filepath.Join(t.TempDir(), "other.key")
		if err := os.WriteFile(key, []byte(strings.Repeat("77", 32)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.KeyFile = key
		if never, away := gateway.CheckShared(t.Context(), &cfg); !errors.Is(never, store.ErrOtherKey) {
			t.Errorf("check: %v, %v", never, away)
		}
		if never, away := gateway.CheckShared(t.Context(), s.b.cfg); never != nil || away != nil {
			t.Errorf("check of a good one: %v, %v", never, away)
		}
	})
	for name, server := range map[string]struct{ stop, start func() error }{
		"without database": {s.pg.Stop, func() error { return s.pg.Start(t.Context()) }},
		"without bucket":   {s.s3.Stop, func() error { return s.s3.Start(t.Context()) }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := server.stop(); err != nil {
				t.Fatal(err)
			}
			got := s.a.send(s.a.lmtp, "dr@clinic.test", toPatient("essai [tel:06 12 34 56 78]", "b@patient.test"), "b@patient.test", "x@plain.test")
			text := map[string]string{"without database": "451 4.3.0 Consultation des blocages impossible, nouvel essai plus tard", "without bucket": "451 4.3.0 Coffre des messages indisponible, nouvel essai plus tard"}[name]
			if codes(got) != "451 250" || got[0] != text {
				t.Errorf("got %q", got)
			}
			never, err := gateway.CheckShared(t.Context(), s.b.cfg)
			if never != nil || err == nil || !strings.Contains(err.Error(), map[string]string{"without database": "pickup.database", "without bucket": "pickup.blobs"}[name]) || strings.Contains(err.Error(), s.s3.Secret) {
				t.Errorf("check says %v", err)
			}
			if name == "without database" {
				if status, page := newReader(t, nil).do("GET", atB, nil); status < 500 || strings.Contains(page, "postgres") || !strings.Contains(page, "quelques minutes") {
					t.Errorf("the page: %d %s", status, page)
				}
				s.b.stop() // and one that starts now serves the rest
				s.b.start()
				if got := s.b.send(s.b.lmtp, "dr@clinic.test", toPatient("essai", "b@patient.test"), "x@plain.test"); codes(got) != "250" {
					t.Errorf("started without it: %q", got)
				}
			}
			if err := server.start(); err != nil {
				t.Fatal(err)
			}
			for _, h := range []*house{s.a, s.b} {
				var got string
				for end := time.Now().Add(20 * time.Second); time.Now().Before(end); { // a connection that died may be found so once
					if got = send(h, "c@patient.test"); got[:3] == "250" {
						break
					}
				}
				if got[:3] != "250" {
					t.Errorf("afterwards: %q", got)
				}
			}
			if status, _ := newReader(t, nil).do("GET", atB, nil); status != http.StatusOK {
				t.Errorf("the page afterwards: %d", status)
			}
		})
	}
}

// Of 100 deposits the reminders and the receipts become due while two gateways run. One is killed in the middle, the database goes away and comes back:
// each mail leaves, and none twice but what the killed one had in hand.
func TestSharedDuties(t *testing.T) {
	const n = 100
	s := newSharing(t)
	for i := range n {
		to := fmt.Sprintf("p%d@patient.test", i)
		if got := s.a.send(s.a.lmtp, "dr@clinic.test", toPatient("essai [tel:06 12 34 56 78]", to), to); codes(got) != "250" {
			t.Fatal(got)
		}
	}
	if got := len(s.mails(sinkOf)); got != n {
		t.Fatalf("%d notices, want %d", got, n)
	}
	s.a.stop()
	s.b.stop()
	s.turned.Store(int64(49 * time.Hour))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSharedChild$")
	child.Env = append(os.Environ(), sharedChild+"="+filepath.Join(s.a.dir, "passerelle.yaml"), sharedTurned+"=49h")
	child.Stdout, child.Stderr = io.Discard, s.a.log
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	s.b.start()
	sent := func() int { return len(s.mails(sinkOf)) - n + len(s.mails(clinicOf)) }
	await := func(what string, done func() bool) {
		t.Helper()
		for range 6000 {
			if done() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s: %d mails\n%s\n%s", what, sent(), s.a.log, s.b.log)
	}
	await("both at work", func() bool {
		return len(s.a.sink.Messages())+len(s.a.clinic.Messages()) >= n+20 && len(s.b.sink.Messages())+len(s.b.clinic.Messages()) >= 20
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	byChild := len(s.a.sink.Messages()) - n + len(s.a.clinic.Messages())
	if err := s.pg.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.pg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await("what nobody has in hand", func() bool { return sent() >= 2*n-4 })
	time.Sleep(3 * time.Second) // more than a look for work
	s.b.stop()
	// What the dead one had in hand is given to others after ten minutes, which are over now.
	if err := s.pg.SQLIn(s.database, `UPDATE river_job SET attempted_at = attempted_at - interval '1 hour' WHERE state = 'running'`); err != nil {
		t.Fatal(err)
	}
	s.b.start()
	reminded, told := map[string]int{}, map[string]int{}
	count := func() (all int) {
		clear(reminded)
		clear(told)
		for _, m := range s.mails(sinkOf) {
			reminded[m.Recipients[0]]++
		}
		for _, m := range s.mails(clinicOf) {
			told[regexp.MustCompile(`(?m)^In-Reply-To:\s*(\S+)`).FindString(string(m.Data))]++
		}
		return len(reminded) + len(told)
	}
	await("all", func() bool {
		if count() < 2*n {
			return false
		}
		for _, k := range reminded {
			if k < 2 {
				return false
			}
		}
		return true
	})
	time.Sleep(3 * time.Second)
	count()
	twice := 0
	for _, k := range reminded {
		twice += k - 2
	}
	for _, k := range told {
		twice += k - 1
	}
	if len(reminded) != n || len(told) != n || twice > 4 {
		t.Errorf("%d reminded, %d told of, %d mails twice; the killed one had 4 in hand at most", len(reminded), len(told), twice)
	}
	t.Logf("%d of %d mails by the one that was killed, %d twice", byChild, 2*n, twice)
}
