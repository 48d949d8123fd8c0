package message

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func reserve(t *testing.T, g *Budget, n int64) func() {
	t.Helper()
	release, err := g.Reserve(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// A house full of bodies still works, and its spilled bodies still have buffers.
func TestBodiesLeaveRoomForWork(t *testing.T) {
	g := NewBudget(64<<20, t.TempDir())
	var kept []*Body
	for range 40 {
		kept = append(kept, fill(t, g, random(2<<20)))
	}
	u := g.Usage()
	if u.Bodies > 40<<20 || u.Spilled < 30<<20 || u.Buffers != 0 {
		t.Errorf("got %+v", u)
	}
	release := reserve(t, g, 16<<20)
	if !g.Borrow(7 << 20) {
		t.Error("no room for buffers")
	}
	if g.Borrow(7 << 20) {
		t.Error("buffers have no limit")
	}
	g.Return(7 << 20)
	release()
	release()
	for _, b := range kept {
		if b.Close(); b.Peek(0) != nil {
			t.Fatal("a closed body holds memory that the budget lends again")
		}
	}
	if u := g.Usage(); u != (Usage{}) {
		t.Errorf("%+v never came back", u)
	}
}

// Work waits in order, leaves bodies' buffers alone, and is refused after a while.
func TestWorkWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewBudget(64<<20, "")
		first := reserve(t, g, 50<<20)
		var mu sync.Mutex
		var order []int64
		var wg sync.WaitGroup
		for _, n := range []int64{20 << 20, 1 << 20} { // the small one would fit, and must not overtake
			wg.Go(func() {
				release := reserve(t, g, n)
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				time.Sleep(time.Second)
				release()
			})
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		mu.Lock()
		if len(order) != 0 {
			t.Errorf("%v began beside the first", order)
		}
		mu.Unlock()
		first()
		wg.Wait()
		if len(order) != 2 {
			t.Errorf("got %v", order)
		}

		last := reserve(t, g, 1<<40) // larger than the house: alone
		begun := time.Now()
		if _, err := g.Reserve(t.Context(), 1<<20); !errors.Is(err, ErrNoRoom) || time.Since(begun) != 10*time.Second {
			t.Errorf("got %v after %s, want ErrNoRoom after 10 s", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Reserve(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoRoom) {
			t.Errorf("got %v, want the context's end", err)
		}
		last()
		if u := g.Usage(); u != (Usage{}) {
			t.Errorf("%+v never came back", u)
		}
	})
}

// Bodies, work and large buffers that somebody could do without leave what a temp file cannot, whoever came first.
func TestRoomForTempFiles(t *testing.T) {
	now, cancel := context.WithCancel(t.Context())
	cancel() // who does not fit is told so at once
	for _, order := range []string{"body buffer work", "body work buffer", "buffer body work", "buffer work body", "work body buffer", "work buffer body"} {
		t.Run(order, func(t *testing.T) {
			g := NewBudget(64<<20, t.TempDir())
			g.Borrow(20 << 20) // more than their share, where nothing else is
			for _, kind := range strings.Fields(order) {
				switch kind {
				case "body":
					for g.reserve(1 << 10) {
					}
				case "work":
					for err := error(nil); err == nil; {
						_, err = g.Reserve(now, 1<<10)
					}
				case "buffer":
					for g.Borrow(1 << 10) {
					}
				}
			}
			const files = 50
			var writers []*BodyWriter
			for range files {
				w := g.NewWriter(0)
				if _, err := w.Write(random(100_000)); err != nil {
					t.Fatalf("no temp file beside %+v: %v", g.Usage(), err)
				}
				writers = append(writers, w)
			}
			if got, want := g.spare(), 1<<20-int64(files*sealed); got != want {
				t.Errorf("%d bytes are left for more files, want %d", got, want)
			}
			for _, w := range writers {
				w.Abort()
			}
			if got := g.spare(); got != 1<<20 {
				t.Errorf("%d bytes are left for files when all have ended", got)
			}
		})
	}
}

// What strangers' doors borrow leaves their temp files buffers, too.
func TestRoomForTempFilesOfAPart(t *testing.T) {
	g := NewBudget(64<<20, t.TempDir())
	part := g.Part()
	for part.Borrow(64 << 10) {
	}
	for range 100 {
		w := part.NewWriter(0)
		if _, err := w.Write(random(1 << 20)); err != nil {
			t.Fatalf("no temp file beside %+v: %v", g.Usage(), err)
		}
		defer w.Abort()
	}
}

// Work and bodies together leave the buffers their share, in whatever order they come.
func TestWorkLeavesTheBuffersTheirShare(t *testing.T) {
	now, cancel := context.WithCancel(t.Context())
	cancel() // who does not fit is told so at once
	for _, bodiesFirst := range []bool{true, false} {
		g := NewBudget(64<<20, "")
		bodies := func() {
			for g.reserve(64 << 10) {
			}
		}
		work := func(most int64) {
			for done := int64(0); done < most; done += 1 << 20 {
				if _, err := g.Reserve(now, 1<<20); err != nil {
					return
				}
			}
		}
		if bodiesFirst {
			bodies()
			work(1 << 40)
		} else {
			work(24 << 20)
			bodies()
		}
		if u := g.Usage(); !g.Borrow(5 << 20) {
			t.Errorf("bodies first %v: no room for buffers beside %+v", bodiesFirst, u)
		}
	}
}

// Who gives up in the queue does not hold up those behind him.
func TestWorkBehindOneThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewBudget(64<<20, "")
		first := reserve(t, g, 50<<20)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { _, err := g.Reserve(ctx, 20<<20); gone <- err }()
		synctest.Wait()
		begun := make(chan func())
		go func() { begun <- reserve(t, g, 1<<20) }()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Error("no error")
		}
		(<-begun)()
		first()
	})
}

// The temp files have a limit, and a part has half of everything: strangers cannot fill the house.
func TestSpillHasALimit(t *testing.T) {
	g := NewBudget(0, t.TempDir())
	g.LimitSpill(1 << 20)
	strangers := g.Part()
	put := func(g *Budget, n int) (*Body, error) {
		w := g.NewWriter(0)
		if _, err := w.Write(random(n)); err != nil {
			w.Abort()
			return nil, err
		}
		return w.Body()
	}
	b, err := put(strangers, 500_000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(strangers, 100_000); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	own, err := put(g, 900_000)
	if err != nil {
		t.Errorf("the clinic's own: %v", err)
	} else {
		own.Close()
	}
	if _, err := put(g, 1<<20); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	b.Close()
	if u := g.Usage(); u != (Usage{}) {
		t.Errorf("%+v never came back", u)
	}

	if strangers = g.Part(); strangers.Borrow(600<<10) || !g.Borrow(600<<10) {
		t.Error("a part borrows more than half of the buffers, or the house cannot")
	}
	g.Return(600 << 10)

	g = NewBudget(16<<20, t.TempDir())
	b, err = put(g.Part(), 6<<20)
	if err != nil {
		t.Fatal(err)
	}
	if u := g.Usage(); u.Bodies > 5<<20 || u.Spilled == 0 {
		t.Errorf("got %+v", u)
	}
	b.Close()
}
