package directory

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Limits of an import. The national file of 2026 has 536 000 lines and 89 MB.
const (
	maxLine   = 64 << 10
	maxLines  = 10_000_000
	maxSource = 2 << 30
	maxFaulty = 0.01 // share of lines that may be malformed, and that may hold bad UTF-8

	defaultShrink = 0.2 // share of lines or mailboxes that may be lost against the mirror in use
)

// Options change how an extraction is imported.
type Options struct {
	// Progress is told, about once per MiB and at the end, of the bytes read so far, of all bytes, and of the lines read so far.
	Progress func(done, total int64, lines int)
	// MaxShrink is the share by which a new file may hold fewer lines or mailboxes than the mirror in use; 0 is 0.2. Force imports it anyway.
	MaxShrink float64
	Force     bool
	// Origin is where a file was downloaded from; nil for the operator's own.
	Origin *Origin
	// AsOf is the file's date; zero takes it from the name (..._yyyyMMddHHmm), else from the time of its last change.
	AsOf time.Time
	Now  func() time.Time

	unsearched bool // the mirror is for a comparison alone
}

// Origin tells of a file what its name and time on our disk do not. Such a file must bear a date, and be no older than the mirror in use.
type Origin struct {
	Name    string    // at its source
	Changed time.Time // at its source; zero if unknown
}

// Stats tell what an import found. Addresses counts mailboxes, each once; Duplicates counts the lines beyond the first of a mailbox.
type Stats struct {
	Lines, Addresses, Duplicates, PER, ORG, Other int
	Malformed                                     int // lines passed over
	BadUTF8                                       int // lines kept with U+FFFD in the place of the bad bytes
	Took                                          time.Duration
	AsOf                                          time.Time
}

// RefusedError says why a file was not taken. The mirror in use is untouched.
type RefusedError struct {
	File string // base name
	Line int    // 0 where no line is to blame
	Why  string
	// Forceable: the file is whole, and may be right where the operator says so.
	Forceable bool
}

func (e *RefusedError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("import %s: refused at line %d: %s", e.File, e.Line, e.Why)
	}
	return fmt.Sprintf("import %s: refused: %s", e.File, e.Why)
}

// Import reads the extraction at path, plain text or a ZIP that holds one .txt, into a new mirror in stateDir and swaps it in by
// rename. A process that has the mirror open goes on answering from the old one until it looks again (Ask does each time). What
// is refused is a *RefusedError.
func Import(ctx context.Context, stateDir, path string, o Options) (Stats, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxShrink <= 0 {
		o.MaxShrink = defaultShrink
	}
	unlock, err := lockImport(stateDir)
	if err != nil {
		return Stats{}, err
	}
	defer unlock()

	src, err := openSource(path, o.Origin)
	if err != nil {
		return Stats{}, err
	}
	defer src.close()
	if o.AsOf.IsZero() {
		o.AsOf = src.asOf
	}
	imp := importer{o: o, src: src, stateDir: stateDir, start: time.Now()}
	stats, err := imp.run(ctx)
	if err != nil && ctx.Err() != nil { // database/sql ends a transaction behind our back and then says so in its own words
		err = fmt.Errorf("import %s: %w", src.name, context.Cause(ctx))
	}
	return stats, err
}

type importer struct {
	o        Options
	src      *source
	stateDir string
	start    time.Time
	stats    Stats
	old      mirrorMeta // of the mirror in use; zero where there is none
}

func (i *importer) refuse(line int, format string, args ...any) error {
	return &RefusedError{File: i.src.name, Line: line, Why: fmt.Sprintf(format, args...)}
}

// smaller is a refusal that the operator may override.
func (i *importer) smaller(format string, args ...any) error {
	return &RefusedError{File: i.src.name, Why: fmt.Sprintf(format, args...), Forceable: true}
}

func (i *importer) run(ctx context.Context) (Stats, error) {
	// A date to come would keep the mirror fresh for ever; a day is room for clocks and zones.
	if i.o.AsOf.After(i.o.Now().Add(24 * time.Hour)) {
		return Stats{}, i.refuse(0, "its date %s lies in the future", i.o.AsOf.Format(time.DateTime))
	}
	if old, err := openMirror(ctx, i.stateDir); err == nil {
		old.close()
		i.old = old.meta
	}
	if i.o.Origin != nil && !i.o.Force && !i.o.AsOf.IsZero() && i.o.AsOf.Before(i.old.asOf) {
		return Stats{}, i.smaller("it is of %s, older than the mirror in use, of %s", i.o.AsOf.UTC().Format(time.DateTime), i.old.asOf.UTC().Format(time.DateTime))
	}
	b, err := newBuilder(ctx, i.stateDir)
	if err != nil {
		return Stats{}, err
	}
	defer b.discard()
	if i.o.unsearched {
		b.words = nil
	}
	if err := i.read(func(r *row) error { return b.add(ctx, r) }); err != nil {
		return i.stats, err
	}
	if i.o.AsOf.IsZero() { // said behind the reading: a page of HTML is first of all no extraction
		return i.stats, i.refuse(0, "it bears no date: neither its name nor the server tells one")
	}
	addresses, byKind, err := b.index(ctx)
	if err != nil {
		return i.stats, err
	}
	s := &i.stats
	s.AsOf, s.Addresses, s.PER, s.ORG = i.o.AsOf, addresses, byKind["PER"], byKind["ORG"]
	s.Other = addresses - s.PER - s.ORG
	s.Duplicates = s.Lines - s.Malformed - addresses
	if err := i.weigh(); err != nil {
		return i.stats, err
	}
	if err := i.src.unchanged(); err != nil {
		return i.stats, err
	}
	format := mirrorFormat
	if i.o.unsearched {
		format = formatUnsearched
	}
	meta := map[string]string{"format": format, "source_name": i.src.name, "source_size": strconv.FormatInt(i.src.size, 10),
		"source_mtime": unixText(i.src.mtime), "source_sha256": i.src.sum, "as_of": unixText(s.AsOf), "imported_at": unixText(i.o.Now()),
		"lines": strconv.Itoa(s.Lines), "addresses": strconv.Itoa(s.Addresses), "per": strconv.Itoa(s.PER), "org": strconv.Itoa(s.ORG)}
	if err := b.publish(ctx, meta); err != nil {
		return i.stats, err
	}
	s.Took = time.Since(i.start)
	return i.stats, nil
}

// read gives the good lines to add, one by one.
func (i *importer) read(add func(*row) error) error {
	in := &counter{r: i.src.text}
	lines := lineReader{r: bufio.NewReaderSize(in, maxLine)}
	head, long, err := lines.next()
	switch {
	case err == io.EOF:
		return i.refuse(0, "the file is empty")
	case err != nil:
		return i.readFault(1, err)
	case long:
		return i.refuse(1, "the header is longer than %d bytes", maxLine)
	}
	cols, err := parseHeader(head)
	if err != nil {
		return i.refuse(1, "%v", err)
	}
	var r row
	var told int64
	last := lineGood // a file that was cut in transit ends in a line with too few columns
	for {
		line, long, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return i.readFault(i.stats.Lines+2, err)
		}
		if len(line) == 0 && !long {
			continue
		}
		if i.stats.Lines++; i.stats.Lines > maxLines {
			return i.refuse(0, "it has more than %d lines", maxLines)
		}
		if last = lineBad; !long {
			last = r.parse(cols, line)
		}
		switch last {
		case lineGood, lineBadUTF8:
			if last == lineBadUTF8 {
				i.stats.BadUTF8++
			}
			if err := add(&r); err != nil {
				return err
			}
		default:
			i.stats.Malformed++
		}
		if i.o.Progress != nil && in.n-told >= 1<<20 {
			told = in.n
			i.o.Progress(in.n, i.src.textSize, i.stats.Lines)
		}
	}
	if i.o.Progress != nil {
		i.o.Progress(in.n, i.src.textSize, i.stats.Lines)
	}
	if last == lineShort {
		return i.refuse(i.stats.Lines+1, "the last line is not whole: the file was cut")
	}
	return nil
}

func (i *importer) readFault(line int, err error) error {
	if r := new(RefusedError); errors.As(err, &r) {
		return err
	}
	if i.src.zipped { // a wrong checksum or a broken stream is the file's fault
		return i.refuse(line, "the ZIP is damaged: %v", err)
	}
	return fmt.Errorf("import %s: %w", i.src.name, err)
}

// weigh refuses a file that is too faulty or too small to be believed.
func (i *importer) weigh() error {
	s := i.stats
	switch {
	case s.Lines == 0:
		return i.refuse(0, "it holds a header and no lines")
	case s.Addresses == 0:
		return i.refuse(0, "it holds no usable address")
	case float64(s.Malformed) > maxFaulty*float64(s.Lines):
		return i.refuse(0, "%d of %d lines are malformed, more than %g %%", s.Malformed, s.Lines, maxFaulty*100)
	case float64(s.BadUTF8) > maxFaulty*float64(s.Lines) && s.BadUTF8 > 1:
		return i.refuse(0, "%d of %d lines are not UTF-8, more than %g %%", s.BadUTF8, s.Lines, maxFaulty*100)
	}
	if i.o.Force {
		return nil
	}
	if why := shrunk(i.old, s.Addresses, s.Lines-s.Malformed, i.o.MaxShrink); why != "" {
		return i.smaller("%s", why)
	}
	return nil
}

// shrunk says why a file of so many addresses and good lines is too small to take the place of the mirror in use; "" if it is not.
func shrunk(old mirrorMeta, addresses, lines int, most float64) string {
	keep, percent := 1-most, most*100
	if float64(addresses) < float64(old.addresses)*keep {
		return fmt.Sprintf("it holds %d addresses where the mirror in use holds %d: more than %g %% fewer", addresses, old.addresses, percent)
	}
	if float64(lines) < float64(old.lines)*keep {
		return fmt.Sprintf("it holds %d good lines where the mirror in use holds %d: more than %g %% fewer", lines, old.lines, percent)
	}
	return ""
}

// lockImport keeps two imports apart and removes what a killed one left.
func lockImport(stateDir string) (unlock func(), err error) {
	if unlock, err = lockFile(stateDir, lockName, "another import is running"); err != nil {
		return nil, err
	}
	left, _ := filepath.Glob(filepath.Join(globEscape(stateDir), tempPrefix+"*.tmp"))
	for _, p := range left {
		os.Remove(p)
	}
	return unlock, nil
}

// lockFile holds a lock file of the folder until unlock, or tells that another process or goroutine does.
func lockFile(dir, name, busy string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the folder: %s: %w", busy, err)
	}
	if err := giveToOwner(f.Name(), dir); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the folder: %w", err)
	}
	return func() { f.Close() }, nil
}

func globEscape(s string) string {
	var b []byte
	for i := range len(s) {
		if c := s[i]; c == '*' || c == '?' || c == '[' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}

// lineReader gives one line at a time without its end; of a line longer than its buffer it gives long and passes it over.
type lineReader struct{ r *bufio.Reader }

func (l lineReader) next() (line []byte, long bool, err error) {
	line, err = l.r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		_, err = l.r.ReadSlice('\n')
	}
	if long {
		if err == io.EOF {
			err = nil
		}
		return nil, true, err
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, false, err
	}
	for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
		line = line[:n-1]
	}
	return line, false, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func hashReader(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
