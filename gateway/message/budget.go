package message

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Budget is the memory that all messages in hand share. It weighs three kinds, each with an answer of its own where room ends:
//
//	bodies   what was received and what may leave. Beyond 5/8 of the limit they go to a temp file without a name, encrypted with a
//	         key that only this process knows and that dies with the body; where the temp files reach their limit: ErrNoRoom.
//	buffers  borrowed while bytes flow. At least 1/8 of the limit is theirs; who gets none goes on with small ones. An eighth of that is
//	         left to the temp files, which cannot go on without, by all three kinds (but not by one work that is alone).
//	work     reading, sealing, answering. At least 1/4 of the limit is its own, so a house full of bodies still works; what does not
//	         fit waits in order of arrival, 10 s at most: ErrNoRoom.
//
// Part gives a share of it to who must not take the whole.
type Budget struct {
	*pool
	dir                 string
	bodies, spill, lend int64 // limits of this part
	held, file, lent    int64 // bodies in memory, spilled bytes and borrowed buffers of this part; guarded by pool.mu
	filing              int64 // buffers of its temp files, as many as it may borrow
}

// pool is what all parts of a budget share.
type pool struct {
	limit, bodiesMax, buffersMax, workMax int64
	patience                              time.Duration

	mu      sync.Mutex
	use     Usage
	filing  int64 // buffers of temp files, which use.Buffers counts too
	waiting []*waiter
}

// Usage is what is held now, in bytes: three kinds of memory, and the temp files.
type Usage struct{ Bodies, Buffers, Work, Spilled int64 }

func (u Usage) memory() int64 { return u.Bodies + u.Buffers + u.Work }

// waiter is work that waits for room.
type waiter struct {
	n     int64
	ready chan struct{}
}

// The shares that are kept however small the limit is: the largest single work must always be possible.
const (
	minBuffers = 1 << 20
	minWork    = 4 << 20
)

// NewBudget gives a budget of limit bytes (5 MiB of buffers and work come on top of a small one) and 2 GiB of temp files; dir holds
// them ("" is the system's).
func NewBudget(limit int64, dir string) *Budget {
	bodies, buffers, work := limit/8*5, max(limit/8, minBuffers), max(limit/4, minWork)
	p := &pool{limit: bodies + buffers + work, bodiesMax: bodies, buffersMax: bodies + buffers, workMax: bodies + work, patience: 10 * time.Second}
	return &Budget{pool: p, dir: dir, bodies: bodies, spill: 2 << 30, lend: p.buffersMax}
}

// LimitSpill bounds the bytes of all temp files. It is called before the budget is used.
func (g *Budget) LimitSpill(n int64) { g.spill = n }

// Part gives a budget that draws on the same room, but whose bodies never take more than half of it, in memory or in files, and its
// buffers half of the buffers' own: for doors where strangers knock.
func (g *Budget) Part() *Budget {
	return &Budget{pool: g.pool, dir: g.dir, bodies: g.bodies / 2, spill: g.spill / 2, lend: (g.buffersMax - g.bodiesMax) / 2}
}

// Used is the number of bytes of memory reserved now.
func (g *Budget) Used() int64 { return g.Usage().memory() }

// Usage is what is held now, by all parts together.
func (g *Budget) Usage() Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.use
}

// reserve takes n bytes for a body.
func (g *Budget) reserve(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held+n > g.bodies || g.use.Bodies+n > g.bodiesMax || g.use.Bodies+g.use.Buffers+n > g.buffersMax-g.spare() || g.use.Bodies+g.use.Work+n > g.workMax ||
		g.use.memory()+n > g.limit-g.spare() {
		return false
	}
	g.use.Bodies += n
	g.held += n
	return true
}

func (g *Budget) giveBack(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.use.Bodies -= n
	g.held -= n
	g.wake()
}

// forFiles is what is left to the buffers of temp files.
func (p *pool) forFiles() int64 { return (p.buffersMax - p.bodiesMax) / 8 }

// spare is what they have not taken of it.
func (p *pool) spare() int64 { return max(0, p.forFiles()-p.filing) }

// Borrow takes n bytes for a buffer that lives while bytes flow, and tells whether there is room; Return gives them back.
func (g *Budget) Borrow(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.take(n, &g.lent, g.spare())
}

// Return gives back what Borrow took.
func (g *Budget) Return(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lent -= n
	g.returned(n)
}

// borrowForFile takes n bytes for the buffer of a temp file; returnOfFile gives them back.
func (g *Budget) borrowForFile(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ok := g.take(n, &g.filing, 0)
	if ok {
		g.pool.filing += n
	}
	return ok
}

func (g *Budget) returnOfFile(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.filing -= n
	g.pool.filing -= n
	g.returned(n)
}

// take takes n bytes for a buffer of this part, and leaves spare bytes to who needs them more.
func (g *Budget) take(n int64, own *int64, spare int64) bool {
	if *own+n > g.lend || g.use.Bodies+g.use.Buffers+n > g.buffersMax-spare || g.use.memory()+n > g.limit-spare {
		return false
	}
	g.use.Buffers += n
	*own += n
	return true
}

func (p *pool) returned(n int64) {
	p.use.Buffers -= n
	p.wake()
}

// toDisk takes n bytes of the temp files' limit.
func (g *Budget) toDisk(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file+n > g.spill {
		return false
	}
	g.use.Spilled += n
	g.file += n
	return true
}

func (g *Budget) offDisk(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.use.Spilled -= n
	g.file -= n
}

// Reserve takes n bytes for work before it is done; release gives them back and may be called more than once. It waits for its turn,
// and gives an error that wraps ErrNoRoom where that does not come in 10 s, or ctx's. Work larger than any room is done when it is
// alone.
func (g *Budget) Reserve(ctx context.Context, n int64) (release func(), err error) {
	n = min(n, g.workMax)
	if err := g.await(ctx, n); err != nil {
		return nil, err
	}
	return g.finish(n), nil
}

// ReserveTwo is Reserve for two works that are given back apart. It waits for both at once: who held the first and waited for the second
// could wait for others who do the same.
func (g *Budget) ReserveTwo(ctx context.Context, n, m int64) (first, second func(), err error) {
	m = min(m, g.workMax)
	n = min(n, g.workMax-m)
	if err := g.await(ctx, n+m); err != nil {
		return nil, nil, err
	}
	return g.finish(n), g.finish(m), nil
}

// finish gives n bytes of work back, once.
func (g *Budget) finish(n int64) func() {
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.use.Work -= n
		g.wake()
	})
}

// await takes n bytes for work, when it is their turn.
func (g *Budget) await(ctx context.Context, n int64) (err error) {
	g.mu.Lock()
	if len(g.waiting) == 0 && g.fits(n) {
		g.use.Work += n
		g.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	late := time.NewTimer(g.patience)
	defer late.Stop()
	select {
	case <-w.ready:
		return nil
	case <-late.C:
		err = fmt.Errorf("%w: %d bytes of work waited %s", ErrNoRoom, n, g.patience)
	case <-ctx.Done():
		err = fmt.Errorf("wait for memory: %w", ctx.Err())
	}
	if !g.leave(w) { // its turn came in between
		g.finish(n)()
	}
	return err
}

// HalfWork is half of the room that work may have at all: who holds some already asks for no more, or it could wait for itself.
func (g *Budget) HalfWork() int64 { return g.workMax / 2 }

// fits tells whether n bytes of work may begin.
func (p *pool) fits(n int64) bool {
	return p.use.Work == 0 || p.use.Bodies+p.use.Work+n <= p.workMax && p.use.memory()+n <= p.limit-p.spare()
}

// wake lets in who waits, in order: a large work is not overtaken for ever by small ones.
func (p *pool) wake() {
	for len(p.waiting) > 0 && p.fits(p.waiting[0].n) {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.use.Work += w.n
		close(w.ready)
	}
}

// leave takes w off the queue, and tells whether it was still there.
func (p *pool) leave(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range p.waiting {
		if o == w {
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			p.wake() // who stood behind a large one may fit
			return true
		}
	}
	return false
}

// ErrNoRoom wraps every failure to find room: memory is used up and the temp files are at their limit, or their folder is full or
// gone. It is passing.
var ErrNoRoom = errors.New("no room for the message")
