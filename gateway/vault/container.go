package vault

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The plain form of a deposit, version 1 (docs/formats/deposit-v1.md): the files' bytes one after the other, the manifest as JSON,
// its length as 4 octets big-endian, and the 8 octets "PSDEPv1\n". The manifest stands last because a file's length is only known
// once it was decoded; it is read first, from the end.
const (
	containerMagic = "PSDEPv1\n"
	trailerSize    = 4 + len(containerMagic)
	maxManifest    = 64 << 20 // a text as long as the largest message
)

// Manifest tells what a deposit holds. It exists only inside the sealed content.
type Manifest struct {
	Version   int       `json:"v"`
	Subject   string    `json:"subject"`
	From      string    `json:"from"` // display name and address as the patient shall read it
	Date      time.Time `json:"date"`
	MessageID string    `json:"message_id,omitempty"` // of the original, for the thread of an answer
	Text      string    `json:"text,omitempty"`
	HTML      string    `json:"html,omitempty"`
	Files     []Entry   `json:"files"`
}

// Entry is one file of a deposit.
type Entry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// File is an attachment to be sealed. Open is called once; Size is what Open's reader is expected to give, 0 where unknown.
type File struct {
	Name, Type string
	Open       func() io.Reader
	Size       int64
}

// container gives the plain form of a deposit as a stream.
func container(m Manifest, files []File) io.Reader {
	c := &containerReader{m: m, files: files}
	c.m.Version, c.m.Files = 1, make([]Entry, 0, len(files))
	return c
}

type containerReader struct {
	m     Manifest
	files []File
	cur   io.Reader // file or trailer in progress
	size  int64     // octets of the current file so far
	off   int64     // octets of all files so far
	tail  bool
}

func (c *containerReader) Read(p []byte) (int, error) {
	for {
		if c.cur == nil {
			switch i := len(c.m.Files); {
			case c.tail:
				return 0, io.EOF
			case i < len(c.files):
				c.cur, c.size = c.files[i].Open(), 0
			default:
				t, err := trailer(c.m)
				if err != nil {
					return 0, err
				}
				c.cur, c.tail = &sliceReader{t}, true
			}
		}
		n, err := c.cur.Read(p)
		if !c.tail {
			c.size += int64(n)
		}
		if err == io.EOF {
			if c.cur = nil; !c.tail {
				f := c.files[len(c.m.Files)]
				c.m.Files = append(c.m.Files, Entry{Name: f.Name, Type: f.Type, Offset: c.off, Size: c.size})
				c.off += c.size
			}
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

type sliceReader struct{ b []byte }

func (s *sliceReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func trailer(m Manifest) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("write manifest: %d octets are too many", len(b))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(b)))
	return append(b, containerMagic...), nil
}

// readManifest reads the manifest at the end of a plain deposit and checks that its files lie inside.
func readManifest(r io.ReaderAt, size int64) (*Manifest, error) {
	if size < int64(trailerSize) {
		return nil, errors.New("read manifest: too short")
	}
	t := make([]byte, trailerSize)
	if _, err := r.ReadAt(t, size-int64(trailerSize)); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(t))
	if string(t[4:]) != containerMagic || n > maxManifest || n > size-int64(trailerSize) {
		return nil, errors.New("read manifest: no deposit of version 1")
	}
	end := size - int64(trailerSize) - n
	b := make([]byte, n)
	if _, err := r.ReadAt(b, end); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errors.New("read manifest: not JSON")
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("read manifest: version %d is unknown", m.Version)
	}
	for _, f := range m.Files {
		if f.Offset < 0 || f.Size < 0 || f.Offset > end || f.Size > end-f.Offset {
			return nil, errors.New("read manifest: a file lies outside")
		}
	}
	return &m, nil
}
