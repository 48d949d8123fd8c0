package smtpd

import "time"

// pace is how slow a body may come: grace, and then so many bytes for each second of waiting, on average since its beginning. Our own
// time does not count.
type pace struct {
	grace time.Duration
	rate  float64 // bytes per second
}

// RFC 5321 section 4.5.3.2.5 gives 3 minutes for a block of data, and Postfix under stress (smtpd_min_data_rate) asks 500 bytes per
// second. Nobody who writes through a mail server is slower: a modem of 1990 makes 1 kB/s. Where places are scarce the times are those
// of Postfix under stress; where somebody waits for a place they are shorter still, and the slowest goes first.
var (
	quietPace   = pace{3 * time.Minute, 500}
	tightPace   = pace{30 * time.Second, 1000}
	pressedPace = pace{5 * time.Second, 1000}
)

const (
	tightIdle       = 30 * time.Second // for a command, where places are scarce
	patienceIdle    = time.Second      // outside of a transaction, where somebody waits: Postfix asks a kept connection before it uses it
	patienceCommand = 10 * time.Second // inside one
	sessionAge      = 30 * time.Minute // without a message
	tightAge        = time.Minute
)

// flow is how a body comes.
type flow struct {
	on     bool
	got    int64
	waited time.Duration
}

// left is how long the next byte may take.
func (f *flow) left(p pace) time.Duration {
	return p.grace + time.Duration(float64(f.got)/p.rate*float64(time.Second)) - f.waited
}

// fill reads more from the client, after all that was said went out. It tells whether it could; if not the session is over.
func (c *conn) fill() bool {
	if c.flush(); c.dead {
		return false
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	began := time.Now()
	whole := c.wire.limit
	c.hurry(began)
	n, err := c.stream.Read(c.buf[c.w:])
	c.wire.limit = whole
	c.wire.due.Store(0)
	if c.w += n; c.body.on {
		c.body.got += int64(n)
		c.body.waited += time.Since(began)
		c.fit(n)
	}
	if n > 0 {
		return true
	}
	if err == nil {
		return !c.dead
	}
	c.lost(err)
	return false
}

// hurry says how long the next read may take.
func (c *conn) hurry(now time.Time) {
	scarce := c.srv.ln.scarce(c.key)
	sooner := func(d time.Duration) {
		if end := now.Add(d); c.wire.limit.IsZero() || end.Before(c.wire.limit) {
			c.wire.limit = end
		}
	}
	patience := patienceCommand
	switch {
	case c.body.on && scarce:
		sooner(c.body.left(c.srv.cfg.tight))
		patience = c.body.left(c.srv.cfg.pressed)
	case c.body.on:
		sooner(c.body.left(c.srv.cfg.quiet))
		patience = c.body.left(c.srv.cfg.pressed)
	case scarce:
		sooner(tightIdle)
	}
	if !c.body.on && c.session.env == nil {
		patience = patienceIdle
	}
	// A line that drips does not begin anew with each byte.
	if due := now.Add(patience).UnixNano(); c.body.on || c.lineDue == 0 {
		c.lineDue = due
	}
	c.wire.evicted.Store(false) // that was meant for an earlier wait; who is still overdue is evicted again
	c.wire.due.Store(c.lineDue)
}

// fit changes the buffer where n bytes, just read, show that another would do better: a client that drips holds no large one.
func (c *conn) fit(n int) {
	switch {
	case c.w == len(c.buf):
		c.thin = 0
		c.large()
	case n >= sessionBuffer/2:
		c.thin = 0
	default:
		if c.thin++; c.thin > 1 {
			c.small()
		}
	}
}

// large takes a large buffer for a body, where the budget has one.
func (c *conn) large() {
	if len(c.buf) == bulkBuffer || !c.srv.cfg.Budget.Borrow(bulkBuffer) {
		return
	}
	b := c.srv.bufs.Get().(*[bulkBuffer]byte)
	c.w = copy(b[:], c.buf[c.r:c.w])
	c.r, c.buf = 0, b[:]
}

// small gives it back as soon as the rest fits.
func (c *conn) small() {
	if len(c.buf) != bulkBuffer || c.buffered() > sessionBuffer/2 && !c.dead {
		return
	}
	big := (*[bulkBuffer]byte)(c.buf)
	c.buf = c.tiny
	c.w = copy(c.buf, big[c.r:c.w])
	c.r, c.thin = 0, 0
	clear(big[:]) // it held a message
	c.srv.bufs.Put(big)
	c.srv.cfg.Budget.Return(bulkBuffer)
}
