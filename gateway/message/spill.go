package message

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	segment = 16 << 10 // plaintext bytes sealed together; one is held for each file that is being written
	sealed  = segment + 16
)

// spill is a file without a name: AES-256-GCM segments, the segment's number is the nonce, the key lives in memory only.
type spill struct {
	budget *Budget
	f      *os.File
	aead   cipher.AEAD
	buf    []byte // plaintext of the segment being filled, with room for its tag; nil when all was written
	n      uint64 // segments written
	disk   int64  // bytes of the temp files' limit
}

// segments are what one is opened in: a body is read several times, and as garbage that was its size each time.
var segments = sync.Pool{New: func() any { return new([sealed]byte) }}

var errDisk = errors.New("the temp files are at their limit")

func newSpill(g *Budget) (*spill, error) {
	f, err := os.CreateTemp(g.dir, "passerelle-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		f.Close()
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		f.Close()
		return nil, err
	}
	if !g.borrowForFile(sealed) {
		f.Close()
		return nil, errors.New("no memory for a buffer")
	}
	return &spill{budget: g, f: f, aead: aead, buf: make([]byte, 0, sealed)}, nil
}

func (s *spill) nonce(n uint64) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[4:], n)
	return b[:]
}

func (s *spill) write(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), segment-len(s.buf))
		s.buf, p = append(s.buf, p[:n]...), p[n:]
		if len(s.buf) == segment {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *spill) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	n := int64(len(s.buf) + s.aead.Overhead())
	if !s.budget.toDisk(n) {
		return errDisk
	}
	s.disk += n
	c := s.aead.Seal(s.buf[:0], s.nonce(s.n), s.buf, nil)
	if _, err := s.f.WriteAt(c, int64(s.n)*sealed); err != nil {
		return err
	}
	s.buf, s.n = s.buf[:0], s.n+1
	return nil
}

// finish writes the last segment and gives the buffer back.
func (s *spill) finish() error {
	err := s.flush()
	s.drop()
	return err
}

func (s *spill) drop() {
	if s.buf != nil {
		clear(s.buf[:cap(s.buf)])
		s.buf = nil
		s.budget.returnOfFile(sealed)
	}
}

func (s *spill) close() error {
	s.drop()
	s.budget.offDisk(s.disk)
	s.disk = 0
	return s.f.Close()
}

func (s *spill) readAt(p []byte, off, size int64) (int, error) {
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	room := segments.Get().(*[sealed]byte)
	defer segments.Put(room)
	defer clear(room[:])
	done := 0
	for done < len(p) && off < size {
		i := off / segment
		c := room[:min(segment, size-i*segment)+16]
		if _, err := s.f.ReadAt(c, i*sealed); err != nil {
			return done, fmt.Errorf("read temp file: %w", err)
		}
		plain, err := s.aead.Open(c[:0], s.nonce(uint64(i)), c, nil)
		if err != nil {
			return done, fmt.Errorf("temp file was altered: %w", err)
		}
		n := copy(p[done:], plain[off-i*segment:])
		done, off = done+n, off+int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}
