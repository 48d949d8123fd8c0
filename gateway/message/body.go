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
	mem    chunks
	held   int64 // bytes of the budget
	spill  *spill
	size   int64
	sum    func() [sha256.Size]byte

	mu     sync.Mutex
	holds  int
	closed bool
	freed  bool
}

// Size is the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Sum is the SHA-256 of the bytes. Of an Unsummed body it must be asked before Close, the first time.
func (b *Body) Sum() [sha256.Size]byte { return b.sum() }

// reread makes the sum out of the body itself. A temp file that was tampered with has none: that is a panic, for a wrong sum would take
// one message for another.
func (b *Body) reread() (sum [sha256.Size]byte) {
	h := sha256.New()
	if _, err := io.Copy(h, b.Section(0, -1)); err != nil {
		panic(fmt.Errorf("sum of a body: %w", err))
	}
	h.Sum(sum[:0])
	return sum
}

// Peek gives the bytes from off that lie in memory in one piece, nil where they lie in a file or off is the end. The caller must not
// change them, nor keep them beyond Close.
func (b *Body) Peek(off int64) []byte { return b.mem.from(off) }

// ReadAt is io.ReaderAt. A temp file that was tampered with gives an error, never wrong bytes.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if b.spill != nil {
		return b.spill.readAt(p, off, b.size)
	}
	n := 0
	for n < len(p) {
		piece := b.mem.from(off + int64(n))
		if len(piece) == 0 {
			return n, io.EOF
		}
		n += copy(p[n:], piece)
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
	if !b.closed || b.holds > 0 || b.freed {
		return nil
	}
	b.freed = true
	b.mem = chunks{} // who still holds the body must not hold what the budget lends again
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
	b := &Body{mem: chunks{pieces: [][]byte{p}, ends: []int64{int64(len(p))}}, size: int64(len(p))}
	b.sum = sync.OnceValue(b.reread)
	return b
}

// BodyWriter collects a body. Exactly one of Body and Abort must be called.
type BodyWriter struct {
	budget *Budget
	mem    chunks
	held   int64
	spill  *spill
	size   int64
	hash   hash.Hash // nil where Unsummed
	err    error
}

// NewWriter starts a body. hint is the expected size in bytes, 0 where unknown.
func (g *Budget) NewWriter(hint int64) *BodyWriter {
	w := &BodyWriter{budget: g, hash: sha256.New()}
	if hint = min(hint, 4<<20); hint > 0 && g.reserve(hint) {
		w.held = hint
		w.mem.add(int(hint))
	}
	return w
}

// Unsummed leaves out the hash, which is 40 % of what sealing costs: for what leaves. The body's Sum then reads all of it. It is called
// before the first Write.
func (w *BodyWriter) Unsummed() *BodyWriter {
	w.hash = nil
	return w
}

// Size is the number of bytes written so far.
func (w *BodyWriter) Size() int64 { return w.size }

func (w *BodyWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.hash != nil {
		w.hash.Write(p)
	}
	n := len(p)
	w.size += int64(n)
	if w.spill == nil {
		if p = w.keep(p); len(p) == 0 {
			return n, nil
		}
		if w.err = w.toFile(); w.err != nil {
			return 0, w.err
		}
	}
	if err := w.spill.write(p); err != nil {
		w.err = fmt.Errorf("%w: %w", ErrNoRoom, err)
		return 0, w.err
	}
	return n, nil
}

// keep puts bytes in memory, and gives back those that the budget has no room for.
func (w *BodyWriter) keep(p []byte) []byte {
	for {
		if p = p[w.mem.fill(p):]; len(p) == 0 {
			return nil
		}
		c := w.mem.next(len(p))
		if !w.budget.reserve(int64(c)) {
			return p
		}
		w.held += int64(c)
		w.mem.add(c)
	}
}

func (w *BodyWriter) toFile() error {
	s, err := newSpill(w.budget)
	if err == nil {
		for _, piece := range w.mem.pieces {
			if err = s.write(piece); err != nil {
				s.close()
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	w.mem.clear()
	w.budget.giveBack(w.held)
	w.mem, w.held, w.spill = chunks{}, 0, s
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
	b.sum = sync.OnceValue(b.reread)
	if w.hash != nil {
		sum := [sha256.Size]byte(w.hash.Sum(nil))
		b.sum = func() [sha256.Size]byte { return sum }
	}
	w.mem, w.held, w.spill, w.err = chunks{}, 0, nil, errors.New("the body was ended")
	return b, nil
}

// Abort gives everything back.
func (w *BodyWriter) Abort() {
	w.budget.giveBack(w.held)
	if w.spill != nil {
		w.spill.close()
	}
	w.mem, w.held, w.spill = chunks{}, 0, nil
	if w.err == nil {
		w.err = errors.New("the body was aborted")
	}
}
