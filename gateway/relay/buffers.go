package relay

import (
	"sync"

	"passerelle/gateway/message"
)

// The pieces in which a content is read and written: large ones for large letters while the house has memory, else small ones. A letter
// never waits for a buffer, and never fails for want of one: it only goes more slowly.
const (
	largeChunk = 128 << 10
	smallChunk = 16 << 10
)

// buffer is what sending a content needs; it is reused.
type buffer struct {
	in  []byte // one chunk
	out []byte // a chunk is at most doubled by its dots
}

func newBuffer(chunk int) *buffer {
	return &buffer{in: make([]byte, chunk), out: make([]byte, 2*chunk+16)}
}

func (b *buffer) chunk() int { return len(b.in) }

// weight is what a large one takes of the budget.
const weight = 3*largeChunk + 16

// buffers lends them.
type buffers struct {
	budget       *message.Budget // nil: no limit
	large, small sync.Pool
}

func (l *buffers) get(size int64) *buffer {
	if size > smallChunk && (l.budget == nil || l.budget.Borrow(weight)) {
		if b, ok := l.large.Get().(*buffer); ok {
			return b
		}
		return newBuffer(largeChunk)
	}
	if b, ok := l.small.Get().(*buffer); ok {
		return b
	}
	return newBuffer(smallChunk)
}

func (l *buffers) put(b *buffer) {
	if b.chunk() == smallChunk {
		l.small.Put(b)
		return
	}
	l.large.Put(b)
	if l.budget != nil {
		l.budget.Return(weight)
	}
}

// Size is the number of bytes to send, before dots.
func (l *Letter) Size() int64 {
	n := int64(len(l.Header))
	if l.Body != nil {
		n += l.Body.Size() - l.Offset
	}
	return n
}
