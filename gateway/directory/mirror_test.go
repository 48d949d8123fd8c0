package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"
)

func TestVerdicts(t *testing.T) {
	d, _, _ := mirrored(t)
	a := want(t, d, "Jean.MARTIN@Medecin.MSSante.test", Verified, "")
	r := a.Records[0]
	if r.Kind != "PER" || r.LastName != "MARTIN" || r.FirstName != "Jean" || r.IDType != "RPPS" || r.ID != extraction.RPPS(0) ||
		r.Profession != "Médecin" || r.Category != "Civil" || r.City == "" || strings.HasPrefix(r.City, r.PostalCode) {
		t.Fatalf("record: %+v", r)
	}
	if r.Dematerialised == nil || !*r.Dematerialised {
		t.Fatalf("dematerialised: got %v, want true", r.Dematerialised)
	}
	if a.Source != "extraction" || !a.AsOf.Equal(r.AsOf) || a.AsOf.IsZero() {
		t.Fatalf("source and date: %q %v", a.Source, a.AsOf)
	}
	if a := want(t, d, extraction.Address(6, ""), Verified, ""); a.Records[0].Kind != "ORG" || a.Records[0].Structure == "" {
		t.Fatalf("organisation: %+v", a.Records[0])
	}
	want(t, d, "nobody@medecin.mssante.test", NotListed, "")
	want(t, d, "jean_martin@medecin.mssante.test", NotListed, "") // no LIKE
	if a := d.Ask(context.Background(), message.Address{}); a.Verdict != NotListed {
		t.Fatalf("null path: %s", a.Verdict)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if a := d.Ask(ctx, address(t, someone)); a.Verdict != CouldNotAsk {
		t.Fatalf("cancelled question: %s", a.Verdict)
	}
}

// Every way in which a mirror can go while the gateway runs is "could not ask" at once, for those who are listed and for those who
// are not; and it is good again without a restart when the file is back.
func TestMirrorLostAndBack(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(path string) error
		why   string
	}{
		"removed":    {os.Remove, "missing"},
		"empty":      {func(p string) error { return os.Truncate(p, 0) }, "damaged"},
		"truncated":  {func(p string) error { return os.Truncate(p, 16<<10) }, "damaged"},
		"cut":        {func(p string) error { fi, _ := os.Stat(p); return os.Truncate(p, fi.Size()-1) }, "damaged"},
		"unreadable": {func(p string) error { return os.Chmod(p, 0) }, "permission denied"},
		"garbage":    {func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("x"), 100_000), 0o600) }, "damaged"},
		"folder":     {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "mirror"},
		"one bit": {func(p string) error {
			b, err := os.ReadFile(p)
			b[len(b)/2] ^= 1
			return errors.Join(err, os.WriteFile(p, b, 0o600))
		}, "damaged"},
		"zeroed page": {func(p string) error {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 4096), 8192)
			return errors.Join(err, f.Close())
		}, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			d, dir, _ := mirrored(t)
			want(t, d, someone, Verified, "")
			path := filepath.Join(dir, MirrorName)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(path); err != nil {
				t.Fatal(err)
			}
			want(t, d, someone, CouldNotAsk, c.why)
			want(t, d, "nobody@medecin.mssante.test", CouldNotAsk, c.why)
			if s := d.Status(); s.Fault == "" || s.Entries != 0 {
				t.Fatalf("status of a lost mirror: %+v", s)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, string(good))
			want(t, d, someone, Verified, "")
			want(t, d, "nobody@medecin.mssante.test", NotListed, "")
			if s := d.Status(); s.Fault != "" || s.Entries != 500 || s.PER+s.ORG != 500 {
				t.Fatalf("status of a mirror that is back: %+v", s)
			}
		})
	}
}

func TestUnreadableMirrorIsBackAfterChmod(t *testing.T) {
	d, dir, _ := mirrored(t)
	path := filepath.Join(dir, MirrorName)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	want(t, d, someone, CouldNotAsk, "permission")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, d, someone, Verified, "")
}

func TestTooOld(t *testing.T) {
	d, _, c := mirrored(t)
	c.add(19 * 24 * time.Hour)
	want(t, d, someone, Verified, "")
	c.add(2 * 24 * time.Hour)
	want(t, d, someone, CouldNotAsk, "older than 21 days")
	want(t, d, "nobody@medecin.mssante.test", CouldNotAsk, "older than 21 days")
	if s := d.Status(); s.Fault == "" || s.Entries != 500 || s.Age != 22*24*time.Hour+time.Hour && s.Age < 21*24*time.Hour {
		t.Fatalf("status: %+v", s)
	}
	c.t = day.Add(-10 * 24 * time.Hour)
	want(t, d, someone, CouldNotAsk, "future")
}

// An import by another process is seen by the next question, and no question fails while it goes on.
func TestImportBesideOpenDirectory(t *testing.T) {
	d, dir, _ := mirrored(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var asks atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := g; ; i++ { // each another one: the swap empties the memory of answers
				select {
				case <-stop:
					return
				default:
				}
				asks.Add(1)
				if a := d.Ask(context.Background(), address(t, extraction.Address(i%500, ""))); a.Verdict != Verified {
					t.Errorf("during an import: %s (%s)", a.Verdict, a.Why)
					return
				}
			}
		})
	}
	for i := range 20 {
		extra := fmt.Sprintf("new%d@dest.test", i)
		file := write(t, filepath.Join(t.TempDir(), extraction.FileName(day)), extraction.Options{Lines: 520, Seed: uint64(i),
			Extra: []extraction.Row{extraction.Person(extra, "Zoé", "NOËL", extraction.RPPS(900+i))}})
		if _, err := Import(context.Background(), dir, file, Options{Now: func() time.Time { return day }}); err != nil {
			t.Fatal(err)
		}
		want(t, d, extra, Verified, "")
	}
	close(stop)
	wg.Wait()
	if asks.Load() < 1000 {
		t.Fatalf("%d questions were asked: no load", asks.Load())
	}
}

func TestOpenWithoutGoodExtraction(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "header only": strings.Join(extraction.Header, "|") + "\n",
		"garbage": "\x00\xff\x00PNG", "html": "<html><body>502 Bad Gateway</body></html>", "missing": "-"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "e.txt")
			if text != "-" {
				writeFile(t, file, text)
			}
			d := open(t, Config{StateDir: t.TempDir(), ExtractionFile: file})
			want(t, d, someone, CouldNotAsk, "missing")
			if s := d.Status(); s.ImportFault == "" || s.Fault == "" || !s.Configured {
				t.Fatalf("status: %+v", s)
			}
		})
	}
	t.Run("none configured", func(t *testing.T) {
		d := open(t, Config{StateDir: t.TempDir()})
		want(t, d, someone, CouldNotAsk, "missing")
	})
}

// The last good mirror goes on when the extraction file goes bad, until it is too old.
func TestLastGoodMirrorStays(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: day}
	file := filepath.Join(t.TempDir(), extraction.FileName(day))
	write(t, file, extraction.Options{Lines: 100})
	cfg := Config{StateDir: dir, ExtractionFile: file, Now: c.now}
	open(t, cfg).Close()
	for name, spoil := range map[string]func(){
		"gone":  func() { os.Remove(file) },
		"html":  func() { writeFile(t, file, "<html>") },
		"half":  func() { write(t, file, extraction.Options{Lines: 50}) },
		"empty": func() { writeFile(t, file, "") },
	} {
		spoil()
		d := open(t, cfg)
		if s := d.Status(); s.ImportFault == "" || s.Fault != "" {
			t.Fatalf("%s: status %+v", name, s)
		}
		want(t, d, someone, Verified, "")
		d.Close()
	}
	c.add(22 * 24 * time.Hour)
	want(t, open(t, cfg), someone, CouldNotAsk, "older")
}

func TestReloadImportsNewFileButNotAnOlderOne(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: day}
	file := filepath.Join(t.TempDir(), "extraction.txt")
	extra := func(a string) extraction.Options {
		return extraction.Options{Lines: 50, Extra: []extraction.Row{extraction.Organisation(a, "CLINIQUE", extraction.FINESS(1))}}
	}
	dated := func(o extraction.Options, at time.Time) {
		write(t, file, o)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	dated(extra("a@dest.test"), day.Add(-48*time.Hour))
	d := open(t, Config{StateDir: dir, ExtractionFile: file, Now: c.now})
	first := d.Status()
	reload := func() {
		t.Helper()
		n, err := d.With(t.Context(), d.cfg)
		if err != nil || n.Status().ImportFault != "" {
			t.Fatalf("%v %s", err, n.Status().ImportFault)
		}
		d = n
	}
	if reload(); d.Status().ImportedAt != first.ImportedAt {
		t.Fatal("the same file was imported again")
	}
	c.add(time.Hour)
	dated(extra("b@dest.test"), day.Add(-24*time.Hour))
	reload()
	want(t, d, "b@dest.test", Verified, "")
	want(t, d, "a@dest.test", NotListed, "")
	dated(extra("c@dest.test"), day.Add(-72*time.Hour))
	reload()
	want(t, d, "b@dest.test", Verified, "")
	if err := os.Remove(filepath.Join(dir, MirrorName)); err != nil { // nothing newer any more: the file is better than nothing
		t.Fatal(err)
	}
	reload()
	want(t, d, "c@dest.test", Verified, "")
}

func TestStateFolderWithOddName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "état?mode=rw&x=%41#f [1]")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 10})
	d := open(t, Config{StateDir: dir, ExtractionFile: file})
	want(t, d, someone, Verified, "")
	fi, err := os.Stat(filepath.Join(dir, MirrorName))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mirror: %v %v", fi, err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Fatalf("files left in the state folder: %v", left)
	}
}

func TestAskAfterClose(t *testing.T) {
	d, _, _ := mirrored(t)
	d.Close()
	want(t, d, someone, CouldNotAsk, "closed")
}

func BenchmarkAsk(b *testing.B) {
	dir := b.TempDir()
	file := write(b, filepath.Join(b.TempDir(), "e.txt"), extraction.Options{Lines: 100_000})
	d := open(b, Config{StateDir: dir, ExtractionFile: file})
	addrs := make([]message.Address, 1000)
	for i := range addrs {
		addrs[i] = address(b, extraction.Address(i*97, ""))
	}
	var i int
	for b.Loop() {
		if a := d.Ask(context.Background(), addrs[i%len(addrs)]); a.Verdict != Verified {
			b.Fatal(a.Verdict, a.Why)
		}
		i++
	}
}
