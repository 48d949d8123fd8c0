package store

import (
	"context"
	"slices"
	"sync"
)

// Gather lets callers who come at the same time have their work done as one: whoever gets the turn does it for all who wait, his own
// among it. No goroutine stands between a caller and the work; while one group is done, the next gathers.
type Gather[T any] struct {
	do   func(group []T) []error
	max  int
	turn chan struct{} // holds one token

	mu     sync.Mutex
	queue  []*gathered[T]
	closed bool
}

type gathered[T any] struct {
	item T
	done chan error
}

// NewGather gives a Gather whose groups, of at most max items, are done by do; do gives an error for each item, in order.
func NewGather[T any](max int, do func(group []T) []error) *Gather[T] {
	return &Gather[T]{do: do, max: max, turn: make(chan struct{}, 1)}
}

// Do has item done and gives its error. ctx counts until a group takes the item.
func (g *Gather[T]) Do(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &gathered[T]{item, make(chan error, 1)}
	if !g.join(w) {
		return ErrClosed
	}
	return g.await(ctx, w)
}

// Alone runs f while no group is done.
func (g *Gather[T]) Alone(ctx context.Context, f func() error) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.turn }()
	return f()
}

// Close refuses further items and returns when all that wait are done; it tells whether it was the first.
func (g *Gather[T]) Close() bool {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	g.Alone(context.Background(), func() error {
		for g.next() {
		}
		return nil
	})
	return first
}

func (g *Gather[T]) join(w *gathered[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.queue = append(g.queue, w)
	}
	return !g.closed
}

func (g *Gather[T]) await(ctx context.Context, w *gathered[T]) error {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if g.withdraw(w) {
			return ctx.Err()
		}
		return <-w.done
	case g.turn <- struct{}{}:
	}
	defer func() { <-g.turn }()
	for {
		select {
		case err := <-w.done:
			return err
		default:
			g.next()
		}
	}
}

// withdraw takes w out of the queue, and tells whether it was still there.
func (g *Gather[T]) withdraw(w *gathered[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, w)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	return i >= 0
}

// next does the group that waits, and tells whether there was one. The caller has the turn.
func (g *Gather[T]) next() bool {
	g.mu.Lock()
	n := min(len(g.queue), g.max)
	group := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	g.mu.Unlock()
	if n == 0 {
		return false
	}
	items := make([]T, n)
	for i, w := range group {
		items[i] = w.item
	}
	errs := g.do(items)
	for i, w := range group {
		w.done <- errs[i]
	}
	return true
}
