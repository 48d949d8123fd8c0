package directory

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"passerelle/gateway/directory/extraction"
)

func fixed() time.Time { return day }

func importText(t testing.TB, dir, name, text string, o Options) (Stats, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeFile(t, path, text)
	if o.AsOf.IsZero() && !hasDate(name) {
		o.AsOf = day
	}
	o.Now = fixed
	return Import(context.Background(), dir, path, o)
}

func text(t testing.TB, o extraction.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := extraction.Write(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The fixture that the issue names: 100 000 lines of 31 columns and one unknown, in another order, with duplicates and bad UTF-8.
func TestImportHundredThousandLines(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 100_000, Seed: 7, ReorderedHeader: true,
		UnknownColumn: true, BOM: true, Duplicates: 169, BadUTF8: 12, Malformed: 30,
		Extra: []extraction.Row{extraction.Person("rcpt@dest.test", "Anne", "ROUX", extraction.RPPS(5))}})
	var calls, lastLines int
	var done, total int64
	s, err := Import(context.Background(), dir, file, Options{Progress: func(d, n int64, l int) { calls, done, total, lastLines = calls+1, d, n, l }})
	if err != nil {
		t.Fatal(err)
	}
	fi, _ := os.Stat(filepath.Join(dir, MirrorName))
	t.Logf("%+v; mirror %d MB", s, fi.Size()>>20)
	if s.Lines != 100_000 || s.Malformed != 30 || s.BadUTF8 != 12 || s.Duplicates != 169 || s.Addresses != 100_000-30-169 ||
		s.PER+s.ORG != s.Addresses || s.Other != 0 {
		t.Fatalf("stats: %+v", s)
	}
	if calls < 10 || done != total || lastLines != 100_000 {
		t.Fatalf("progress: %d calls, at last %d of %d bytes, %d lines", calls, done, total, lastLines)
	}
	d := open(t, Config{StateDir: dir})
	want(t, d, "rcpt@dest.test", Verified, "")
	if a := want(t, d, extraction.Address(6, ""), Verified, ""); a.Records[0].Structure != "H\ufffdpital" {
		t.Fatalf("bad UTF-8: %q", a.Records[0].Structure)
	}
	several := 0
	for i := range 99_000 {
		if a := d.Ask(t.Context(), address(t, extraction.Address(i, ""))); len(a.Records) > 1 {
			several++
		} else if len(a.Records) == 0 {
			t.Fatalf("line %d: %s", i, a.Verdict)
		}
		if several > 20 {
			break
		}
	}
	if several < 20 {
		t.Fatalf("%d mailboxes with several lines", several)
	}
}

// A ZIP's list of files costs a few hundred bytes of memory for each of its own: half a gigabyte of nothing but such a list took several.
func TestImportZIPOfNames(t *testing.T) {
	const files = 500_000
	entry := append([]byte("PK\x01\x02"), make([]byte, 43)...) // a header of a name of one byte
	entry[28], entry[46] = 1, 'a'
	end := append([]byte("PK\x05\x06"), make([]byte, 18)...)
	binary.LittleEndian.PutUint16(end[8:], files&0xffff)
	binary.LittleEndian.PutUint16(end[10:], files&0xffff)
	binary.LittleEndian.PutUint32(end[12:], files*uint32(len(entry)))
	binary.LittleEndian.PutUint32(end[16:], 4)
	path := filepath.Join(t.TempDir(), "a.zip")
	writeFile(t, path, "PK\x03\x04"+strings.Repeat(string(entry), files)+string(end))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := openSource(path, nil)
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 16 || !errors.As(err, new(*RefusedError)) {
		t.Errorf("%d MiB for a ZIP of %d names: %v", took, files, err)
	}
}

func TestImportRefuses(t *testing.T) {
	good := text(t, extraction.Options{Lines: 200})
	lines := strings.SplitAfter(good, "\n")
	zip1 := zipped(t, "a.txt")
	damaged := bytes.Clone(zip1)
	damaged[len(damaged)/2] ^= 0xff
	for name, c := range map[string]struct{ text, why string }{
		"empty":            {"", "the file is empty"},
		"header only":      {lines[0], "no lines"},
		"header, no end":   {strings.TrimSuffix(lines[0], "\n"), "no lines"},
		"html":             {"<!DOCTYPE html>\n<p>Service indisponible</p>\n", "no extraction file"},
		"missing columns":  {strings.Replace(strings.Replace(good, "Adresse BAL", "Adresse", 1), "Libellé Profession", "Prof", 1), `"Adresse BAL", "Libellé Profession"`},
		"column twice":     {strings.Replace(good, "Pays", "Adresse BAL", 1), "twice"},
		"cut in a line":    {good[:len(good)-40], "cut"},
		"cut at last |":    {good[:strings.LastIndex(good, "|")], "cut"},
		"malformed":        {text(t, extraction.Options{Lines: 200, Malformed: 3, Duplicates: 1}), "3 of 200 lines are malformed"},
		"latin-1":          {text(t, extraction.Options{Lines: 200, BadUTF8: 50}), "not UTF-8"},
		"latin-1 header":   {strings.Replace(good, "é", "\xe9", 1), "not UTF-8"},
		"endless header":   {strings.Repeat("a|", 100_000) + "\n", "longer than"},
		"many columns":     {strings.Repeat("a|", 1000) + "\n", "columns, more than"},
		"two in a zip":     {string(zipped(t, "a.txt", "b.txt")), "one .txt"},
		"exe in a zip":     {string(zipped(t, "a.exe")), "one .txt"},
		"nothing in a zip": {string(zipped(t)), "empty"},
		"damaged zip":      {string(damaged), "damaged"},
		"cut zip":          {string(zip1[:len(zip1)/2]), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := importText(t, dir, "e.txt", c.text, Options{})
			r := new(RefusedError)
			if name == "nothing in a zip" { // its magic is not that of a file entry: read as text
				c.why = "no extraction file"
			}
			if !errors.As(err, &r) || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v, want a refusal with %q", err, c.why)
			}
			left, _ := os.ReadDir(dir)
			if len(left) != 1 || left[0].Name() != lockName {
				t.Fatalf("left in the state folder: %v", left)
			}
		})
	}
}

func TestImportForgives(t *testing.T) {
	good := text(t, extraction.Options{Lines: 200})
	for name, in := range map[string]string{
		"CRLF":             strings.ReplaceAll(good, "\n", "\r\n"),
		"no last newline":  strings.TrimSuffix(good, "\n"),
		"blank lines":      good + "\n\n",
		"closing |":        strings.ReplaceAll(good, "\n", "|\n"),
		"header closing |": strings.Replace(good, "\n", "|\n", 1),
		"typographic ’":    strings.Replace(good, "d'exercice", "d’exercice", 3),
		"two faulty lines": good + strings.Repeat("x", maxLine*2) + "\nPER|x|y" + strings.Repeat("|", 40) + "\n",
		"zip":              string(zipped(t, "Extraction_Correspondance_MSSante_202611191013.TXT")),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := importText(t, t.TempDir(), "e", in, Options{})
			if err != nil || s.Addresses < 200 {
				t.Fatalf("%+v, %v", s, err)
			}
		})
	}
}

func TestImportShrunk(t *testing.T) {
	dir := t.TempDir()
	full, most, half := text(t, extraction.Options{Lines: 200}), text(t, extraction.Options{Lines: 161}), text(t, extraction.Options{Lines: 100})
	for _, step := range []struct {
		text string
		o    Options
		ok   bool
	}{{full, Options{}, true}, {half, Options{}, false}, {most, Options{}, true}, {half, Options{MaxShrink: 0.5}, true},
		{full, Options{}, true}, {half, Options{Force: true}, true}} {
		_, err := importText(t, dir, "e.txt", step.text, step.o)
		if (err == nil) != step.ok || err != nil && !strings.Contains(err.Error(), "fewer") {
			t.Fatalf("%d bytes: %v", len(step.text), err)
		}
	}
}

func TestImportDate(t *testing.T) {
	good := text(t, extraction.Options{Lines: 10})
	s, err := importText(t, t.TempDir(), "Extraction_Correspondance_MSSante_202607011013.txt", good, Options{})
	if w := time.Date(2026, 7, 1, 8, 13, 0, 0, time.UTC); err != nil || !s.AsOf.Equal(w) { // summer time in Paris
		t.Fatalf("got %v %v, want %v", s.AsOf, err, w)
	}
	s, err = importText(t, t.TempDir(), "x.zip", string(zipped(t, "E_202601011013.txt")), Options{})
	if err != nil || !s.AsOf.Equal(day) {
		t.Fatalf("a given date counts first: got %v %v", s.AsOf, err)
	}
	if _, err = importText(t, t.TempDir(), "E_209901010000.txt", good, Options{}); err == nil || !strings.Contains(err.Error(), "future") {
		t.Fatalf("a date to come: %v", err)
	}
	path := filepath.Join(t.TempDir(), "x.zip")
	writeFile(t, path, string(zipped(t, "E_202601011013.txt")))
	if s, err = Import(t.Context(), t.TempDir(), path, Options{}); err != nil || s.AsOf.Month() != time.January {
		t.Fatalf("the entry's name has the date: got %v %v", s.AsOf, err)
	}
}

func TestImportOneAtATime(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, tempPrefix+"1.tmp"), "left by a killed import")
	unlock, err := lockImport(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := importText(t, dir, "e.txt", text(t, extraction.Options{Lines: 10}), Options{}); err == nil || !strings.Contains(err.Error(), "another import") {
		t.Fatalf("second import: %v", err)
	}
	unlock()
	if _, err := importText(t, dir, "e.txt", text(t, extraction.Options{Lines: 10}), Options{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); left != nil {
		t.Fatalf("left: %v", left)
	}
}

// Root imports for the service's own user: what it leaves belongs to the owner of the folder.
func TestImportGivesFilesToFolderOwner(t *testing.T) {
	dir := t.TempDir()
	uid := os.Getuid()
	if uid == 0 {
		uid = 65534
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := importText(t, dir, "e.txt", text(t, extraction.Options{Lines: 10}), Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{MirrorName, lockName} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != uid || fi.Mode().Perm() != 0o600 {
			t.Fatalf("%s: owner %d mode %v, want %d", name, got, fi.Mode(), uid)
		}
	}
}

// A file that a stranger wrote ends in rows or in an error, never in a crash, and holds no more memory than a line; its lines add up. The
// database is left out: instrumented it takes seconds for a file.
func FuzzImport(f *testing.F) {
	f.Add([]byte(text(f, extraction.Options{Lines: 8, BadUTF8: 1, Malformed: 1, Duplicates: 1})))
	f.Add(zipped(f, "a.txt"))
	f.Add(zipped(f, "a.txt", "b.txt"))
	path := filepath.Join(f.TempDir(), "e")
	f.Fuzz(func(t *testing.T, in []byte) {
		writeFile(t, path, string(in))
		src, err := openSource(path, nil)
		if err != nil {
			return
		}
		defer src.close()
		i, good := importer{src: src}, 0
		err = i.read(func(r *row) error {
			good++
			for c, v := range r.value {
				if len(v) > maxField || !utf8.ValidString(v) {
					t.Fatalf("column %d: %q", c, v)
				}
			}
			return nil
		})
		if err == nil && good != i.stats.Lines-i.stats.Malformed {
			t.Fatalf("%d rows of %+v", good, i.stats)
		}
	})
}

// A new mirror that cannot even be begun (given up, no room) is an error, and leaves nothing: it once ended the process.
func TestImportNotBegun(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 20})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Import(ctx, dir, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

func TestImportCancelled(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 20_000})
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	_, err := Import(ctx, dir, path, Options{Progress: func(int64, int64, int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
}

func BenchmarkImport(b *testing.B) {
	file := write(b, filepath.Join(b.TempDir(), "e.txt"), extraction.Options{Lines: 100_000})
	dir := b.TempDir()
	for b.Loop() {
		if _, err := Import(b.Context(), dir, file, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// The sample that lies in the tree is what the generator writes: who changes one changes the other.
func TestSample(t *testing.T) {
	const sample = "../../testdata/directory/extraction-sample.txt"
	b, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	if w := text(t, extraction.Options{Lines: 24, Seed: 1, UnknownColumn: true, ReorderedHeader: true, Duplicates: 2}); string(b) != w {
		t.Fatalf("%s is not what the generator writes", sample)
	}
	s, err := Import(t.Context(), t.TempDir(), sample, Options{})
	if err != nil || s.Addresses != 22 {
		t.Fatalf("%+v %v", s, err)
	}
}

func FuzzImportLine(f *testing.F) {
	for _, l := range strings.SplitAfter(text(f, extraction.Options{Lines: 8, BadUTF8: 2, Duplicates: 1}), "\n") {
		f.Add([]byte(strings.Join(extraction.Header, "|")), []byte(l))
	}
	f.Add([]byte("a|b"), []byte("||||"))
	f.Fuzz(func(t *testing.T, head, line []byte) {
		c, err := parseHeader(head)
		if err != nil {
			if c, err = parseHeader([]byte(strings.Join(extraction.Header, "|"))); err != nil {
				t.Fatal(err)
			}
		}
		var r row
		if fault := r.parse(c, line); fault != lineGood && fault != lineBadUTF8 {
			return
		}
		key := r.value[colAddress]
		if a := address(t, key); a.Key() != key {
			t.Fatalf("key %q is not stable: %q", key, a.Key())
		}
		for i, v := range r.value {
			if len(v) > maxField || strings.ContainsFunc(v, isControl) || !utf8.ValidString(v) {
				t.Fatalf("column %d: %q", i, v)
			}
		}
	})
}

// A name cannot turn the text behind it round, on the address book's page or on a terminal.
func TestCleanField(t *testing.T) {
	for in, want := range map[string]string{" Jean\u202eTNOPUD ": "Jean TNOPUD", "a\u2066b\u2069": "a b ", "a\x1b[31m\u009bb": "a [31m b", "O\u2019Brien": "O\u2019Brien"} {
		if got, clean := cleanField([]byte(in)); got != want || !clean {
			t.Errorf("%q: got %q, %v, want %q", in, got, clean, want)
		}
	}
}
