package directory

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // the national file's name is in Paris time, on a machine without zone files too
)

// source is an extraction as a file on disk, opened for reading its text.
type source struct {
	file     *os.File
	entry    io.ReadCloser // of a ZIP
	name     string        // base name
	size     int64         // of the file
	mtime    time.Time
	sum      string // SHA-256 of the file, hex
	text     io.Reader
	textSize int64
	zipped   bool
	asOf     time.Time
}

// openSource opens the file at path; what is known of its origin counts before the name and time it has here.
func openSource(path string, origin *Origin) (s *source, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", filepath.Base(path), err)
	}
	s = &source{file: f, name: filepath.Base(path)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", s.name, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, &RefusedError{File: s.name, Why: "it is not a regular file"}
	}
	s.size, s.mtime = fi.Size(), fi.ModTime()
	if s.size > maxSource {
		return nil, &RefusedError{File: s.name, Why: "it is larger than 2 GiB"}
	}
	if s.sum, err = hashReader(io.NewSectionReader(f, 0, s.size)); err != nil {
		return nil, fmt.Errorf("import %s: %w", s.name, err)
	}
	changed := s.mtime
	if origin != nil {
		s.name, changed = origin.Name, origin.Changed
	}
	s.text, s.textSize, s.asOf = f, s.size, dateOf(s.name, changed)
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n == 4 && bytes.Equal(magic[:], []byte("PK\x03\x04")) {
		return s, s.unzip(changed)
	}
	return s, nil
}

// unzip opens the one .txt of a ZIP. A bomb meets the limit on what is read, whatever the entry says of its size.
func (s *source) unzip(changed time.Time) error {
	s.zipped = true
	list := &boundedAt{ReaderAt: s.file, left: 256 << 10} // of files: one is expected, and each costs memory
	z, err := zip.NewReader(list, s.size)
	list.left = math.MaxInt64
	if err != nil {
		return &RefusedError{File: s.name, Why: fmt.Sprintf("the ZIP is damaged: %v", err)}
	}
	if len(z.File) != 1 || !strings.EqualFold(filepath.Ext(z.File[0].Name), ".txt") {
		return &RefusedError{File: s.name, Why: "the ZIP must hold one .txt file and nothing else"}
	}
	e := z.File[0]
	if e.UncompressedSize64 > maxSource {
		return &RefusedError{File: s.name, Why: "it is larger than 2 GiB unpacked"}
	}
	if s.entry, err = e.Open(); err != nil {
		return &RefusedError{File: s.name, Why: fmt.Sprintf("the ZIP is damaged: %v", err)}
	}
	s.text = &bounded{r: s.entry, left: maxSource, name: s.name}
	s.textSize = int64(e.UncompressedSize64)
	if !hasDate(s.name) {
		s.asOf = dateOf(e.Name, changed)
	}
	return nil
}

// unchanged makes sure that the file which was read is the file which was hashed.
func (s *source) unchanged() error {
	fi, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("import %s: %w", s.name, err)
	}
	if fi.Size() != s.size || !fi.ModTime().Equal(s.mtime) {
		return &RefusedError{File: s.name, Why: "it was changed while it was read"}
	}
	return nil
}

func (s *source) close() {
	if s.entry != nil {
		s.entry.Close()
	}
	s.file.Close()
}

type boundedAt struct {
	io.ReaderAt
	left int64
}

func (b *boundedAt) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("its list of files is too long")
	}
	return b.ReaderAt.ReadAt(p, at)
}

type bounded struct {
	r    io.Reader
	left int64
	name string
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &RefusedError{File: b.name, Why: "it is larger than 2 GiB unpacked"}
	}
	return n, err
}

// nameDate finds the time of generation in a name as the national service writes it: ..._yyyyMMddHHmm.
var nameDate = regexp.MustCompile(`_(20\d{10})(?:\D|$)`)

func hasDate(name string) bool { return nameDate.MatchString(name) }

func dateOf(name string, fallback time.Time) time.Time {
	if m := nameDate.FindStringSubmatch(name); m != nil {
		paris, err := time.LoadLocation("Europe/Paris")
		if err != nil {
			return fallback.UTC()
		}
		if t, err := time.ParseInLocation("200601021504", m[1], paris); err == nil {
			return t.UTC()
		}
	}
	return fallback.UTC()
}
