package directory

import (
	"archive/zip"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var day = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func write(t testing.TB, path string, o extraction.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := extraction.Write(&b, o); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b.String())
	return path
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func address(t testing.TB, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func want(t testing.TB, d *Directory, addr, verdict, why string) Answer {
	t.Helper()
	a := d.Ask(context.Background(), address(t, addr))
	if a.Verdict != verdict || !strings.Contains(a.Why, why) {
		t.Fatalf("%s: got %s (%s), want %s (%s)", addr, a.Verdict, a.Why, verdict, why)
	}
	if verdict == CouldNotAsk {
		if a.Why == "" || a.Reply == "" || a.Records != nil {
			t.Fatalf("could not ask: why %q, reply %q, %d records", a.Why, a.Reply, len(a.Records))
		}
		for _, c := range []byte(a.Reply) {
			if c < ' ' || c > '~' {
				t.Fatalf("reply is not one ASCII line: %q", a.Reply)
			}
		}
	}
	return a
}

func open(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// mirrored gives a directory over a small mirror, its state folder and its clock.
func mirrored(t testing.TB) (*Directory, string, *clock) {
	t.Helper()
	dir, c := t.TempDir(), &clock{t: day}
	file := write(t, filepath.Join(t.TempDir(), extraction.FileName(day.Add(-24*time.Hour))), extraction.Options{Lines: 500, Seed: 1})
	return open(t, Config{StateDir: dir, ExtractionFile: file, Now: c.now}), dir, c
}

const someone = "jean.martin@medecin.mssante.test"

func zipped(t testing.TB, names ...string) []byte {
	t.Helper()
	var text, b bytes.Buffer
	if err := extraction.Write(&text, extraction.Options{Lines: 300}); err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(text.Bytes())
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
