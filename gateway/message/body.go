package message

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Body is a sequence of bytes that was taken in whole: a message as received (CRLF lines, dot-unstuffed) or as it may leave. It
// may be read by several goroutines at once until Close.
type Body struct {
	budget *Budget
	mem    []byte
	held   int64 // bytes of the budget
	spill  *spill
	size   int64
	sum    [sha256.Size]byte

	mu     sync.Mutex
	holds  int
	closed bool
}

// Size is the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Sum is the SHA-256 of the bytes.
func (b *Body) Sum() [sha256.Size]byte { return b.sum }

// InMemory gives the bytes where they are in memory, else nil. The caller must not change them.
func (b *Body) InMemory() []byte { return b.mem }

// ReadAt is io.ReaderAt. A temp file that was tampered with gives an error, never wrong bytes.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if b.spill != nil {
		return b.spill.readAt(p, off, b.size)
	}
	if off < 0 || off > b.size {
		return 0, io.EOF
	}
	n := copy(p, b.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Section reads n bytes from off; n < 0 means to the end.
func (b *Body) Section(off, n int64) *io.SectionReader {
	if n < 0 {
		n = b.size - off
	}
	return io.NewSectionReader(b, off, n)
}

// Hold keeps the body for a reader that outlives its owner: Close then waits for the last release. It must come before Close; release
// may be called once.
func (b *Body) Hold() (release func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds++
	return func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.holds--
		return b.free()
	}
}

// Close gives memory and file back, at once or when the last that holds the body lets go. It may be called more than once.
func (b *Body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.free()
}

// free is called under b.mu, at each end that may be the last.
func (b *Body) free() error {
	if !b.closed || b.holds > 0 {
		return nil
	}
	b.mem = nil // who still holds the body must not hold what the budget lends again
	if b.held > 0 {
		b.budget.giveBack(b.held)
	}
	if b.spill != nil {
		return b.spill.close()
	}
	return nil
}

// BytesBody makes a body of bytes that are in memory already; it takes nothing of a budget.
func BytesBody(p []byte) *Body {
	return &Body{mem: p, size: int64(len(p)), sum: sha256.Sum256(p)}
}

// BodyWriter collects a body. Exactly one of Body and Abort must be called.
type BodyWriter struct {
	budget *Budget
	mem    []byte
	held   int64
	spill  *spill
	size   int64
	hash   hash.Hash
	err    error
}

// NewWriter starts a body. hint is the expected size in bytes, 0 where unknown.
func (g *Budget) NewWriter(hint int64) *BodyWriter {
	w := &BodyWriter{budget: g, hash: sha256.New()}
	if hint = min(hint, 4<<20); hint > 0 && g.reserve(hint) {
		w.held, w.mem = hint, make([]byte, 0, hint)
	}
	return w
}

// Size is the number of bytes written so far.
func (w *BodyWriter) Size() int64 { return w.size }

func (w *BodyWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.hash.Write(p)
	w.size += int64(len(p))
	if w.spill == nil && !w.grow(len(p)) {
		if w.err = w.toFile(); w.err != nil {
			return 0, w.err
		}
	}
	if w.spill == nil {
		w.mem = append(w.mem, p...)
		return len(p), nil
	}
	if err := w.spill.write(p); err != nil {
		w.err = fmt.Errorf("%w: %w", ErrNoRoom, err)
		return 0, w.err
	}
	return len(p), nil
}

// grow makes room for n more bytes in memory, and tells whether the budget allowed it.
func (w *BodyWriter) grow(n int) bool {
	need := len(w.mem) + n
	if need <= cap(w.mem) {
		return true
	}
	c := max(need, 2*cap(w.mem), 8<<10)
	if c > 8<<20 { // large bodies grow by an eighth: doubling would waste the shared budget
		c = max(need, cap(w.mem)+cap(w.mem)/8)
	}
	if !w.budget.reserve(int64(c) - w.held) {
		return false
	}
	m := make([]byte, len(w.mem), c)
	copy(m, w.mem)
	w.mem, w.held = m, int64(c)
	return true
}

func (w *BodyWriter) toFile() error {
	s, err := newSpill(w.budget)
	if err == nil {
		if err = s.write(w.mem); err != nil {
			s.close()
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	clear(w.mem)
	w.budget.giveBack(w.held)
	w.mem, w.held, w.spill = nil, 0, s
	return nil
}

// Body ends the writing.
func (w *BodyWriter) Body() (*Body, error) {
	if w.err == nil && w.spill != nil {
		if err := w.spill.finish(); err != nil {
			w.err = fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
	}
	if w.err != nil {
		w.Abort()
		return nil, w.err
	}
	b := &Body{budget: w.budget, mem: w.mem, held: w.held, spill: w.spill, size: w.size}
	w.hash.Sum(b.sum[:0])
	w.mem, w.held, w.spill, w.err = nil, 0, nil, errors.New("the body was ended")
	return b, nil
}

// Abort gives everything back.
func (w *BodyWriter) Abort() {
	w.budget.giveBack(w.held)
	if w.spill != nil {
		w.spill.close()
	}
	w.mem, w.held, w.spill = nil, 0, nil
	if w.err == nil {
		w.err = errors.New("the body was aborted")
	}
}
