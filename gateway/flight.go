package gateway

import (
	"sync"
	"time"
)

// lanesAtOnce bounds the lanes of one message to one hop that go side by side.
const lanesAtOnce = 8

// flight is what of one message goes to one hop: lanes, each a transaction for a group of recipients. A session waits for it; where the
// session leaves first, the lanes that began go on behind its reply, and no further one begins.
type flight struct {
	hop, client string
	began       time.Time
	lanes       [][]int
	carry       func(group []int) // serves a lane
	after       func(group []int) // told of each lane that ended behind the reply
	over        func()            // behind the reply: the last lane ended
	left        func()            // always: the last lane ended
	done        chan struct{}

	mu      sync.Mutex
	begun   int // lanes[:begun] began
	ended   []bool
	behind  bool
	workers int
}

// start begins the lanes; done is closed when the last has ended.
func (f *flight) start(hands crew) {
	f.ended, f.done, f.workers = make([]bool, len(f.lanes)), make(chan struct{}), min(lanesAtOnce, len(f.lanes))
	for range f.workers {
		hands.do(f.work)
	}
}

// crew lends goroutines for lanes. One that has carried a lane waits a moment for the next: its stack has grown, and growing costs more
// than all the rest of a goroutine.
type crew chan func()

func (c crew) do(work func()) {
	select {
	case c <- work:
	default:
		go c.serve(work)
	}
}

func (c crew) serve(work func()) {
	idle := time.NewTimer(time.Second)
	defer idle.Stop()
	for {
		work()
		idle.Reset(time.Second)
		select {
		case work = <-c:
		case <-idle.C:
			return
		}
	}
}

func (f *flight) work() {
	for {
		f.mu.Lock()
		if f.begun == len(f.lanes) || f.behind {
			f.workers--
			last, behind := f.workers == 0, f.behind
			f.mu.Unlock()
			if !last {
				return
			}
			if f.left != nil {
				f.left()
			}
			close(f.done)
			if behind {
				f.over()
			}
			return
		}
		k := f.begun
		f.begun++
		f.mu.Unlock()
		f.carry(f.lanes[k])
		f.mu.Lock()
		f.ended[k] = true
		behind := f.behind
		f.mu.Unlock()
		if behind {
			f.after(f.lanes[k])
		}
	}
}

// leave ends the session's wait. It gives the recipients whose lanes go on and those whose lanes never began, and calls detach, before
// any lane can end behind the reply, if lanes go on.
func (f *flight) leave(detach func(on []int)) (on, never []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, group := range f.lanes {
		switch {
		case k >= f.begun:
			never = append(never, group...)
		case !f.ended[k]:
			on = append(on, group...)
		}
	}
	if len(on) > 0 {
		detach(on)
		f.behind = true
	}
	f.begun = len(f.lanes)
	return on, never
}
