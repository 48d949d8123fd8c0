package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"
)

// collector is the life of one box.
type collector struct {
	cfg Config
	box Box
	log *slog.Logger
	s   *session
	// late are the messages that the clinic did not take when they were last tried: at each look they come behind the others.
	late  map[ID]bool
	swept time.Time // when the state last forgot what the folder no longer holds
}

const (
	atOnce  = 200  // messages asked about at a time
	listed  = 5000 // UIDs of a folder that one look takes
	maxLate = 3    // messages in a row that the clinic does not take now; then the rest waits too
	// breath is between two looks: a server that tells of news without end must not keep us busy.
	breath = 200 * time.Millisecond
)

// run looks, waits for news and looks again, until ctx ends. A message in hand is finished.
func (c *collector) run(ctx context.Context) {
	mSuccess.WithLabelValues(c.box.Name)
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		err := c.session(ctx, &n)
		if ctx.Err() != nil {
			return
		}
		step, f := "session", (*fault)(nil)
		if errors.As(err, &f) {
			step = f.step
		}
		mFailures.WithLabelValues(c.box.Name, step).Inc()
		wait := c.backoff(n)
		c.log.Warn("session with the operator's mailbox ended", "err", err, "after", time.Since(began).Round(time.Second), "again", wait.Round(time.Second))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// backoff is the wait behind the n-th failure in a row (from 0), with a jitter: many mailboxes must not come back at one moment.
func (c *collector) backoff(n int) time.Duration {
	d := min(c.cfg.BackoffMin<<max(min(n, 20), 0), c.cfg.BackoffMax)
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}

// session is one IMAP session from its connection to its end; fails is set to 0 by every look that went well.
func (c *collector) session(ctx context.Context, fails *int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic while collecting", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("panic while collecting")
		}
	}()
	s, err := open(ctx, &c.box, c.cfg.Patience)
	if err != nil {
		return err
	}
	c.s = s
	defer func() {
		if err == nil {
			s.logout()
		} else {
			s.close()
		}
	}()
	for late := 0; ; {
		waits, err := c.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		*fails = -1 // run adds one
		pause := c.box.Every
		if waits {
			pause, late = min(c.backoff(late), pause), late+1
		} else {
			late = 0
			mSuccess.WithLabelValues(c.box.Name).SetToCurrentTime()
			if err := c.sweep(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if err := s.idle(ctx, pause); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(breath):
		}
	}
}

// look brings all that is new, and then does what is owed to the server of old: a message that it cannot bear to be flagged or moved must not
// keep the others. waits: the clinic did not take some of it now.
func (c *collector) look(ctx context.Context) (waits bool, err error) {
	place, err := c.cfg.State.Open(ctx, c.box.key(), c.s.data.UIDValidity, uint32(c.s.data.UIDNext))
	if err != nil {
		return false, err
	}
	c.s.data.UIDNext = 0 // it was so when the folder was opened
	if waits, err = c.fetchNew(ctx, place); err != nil {
		return waits, err
	}
	rand.Shuffle(len(place.Owed), func(i, j int) { place.Owed[i], place.Owed[j] = place.Owed[j], place.Owed[i] }) // or the first ones would stand in the way
	refused := 0
	for _, o := range place.Owed {
		if ctx.Err() != nil || refused == maxLate {
			break
		}
		if err := c.tellServer(ctx, o.UID, o.Fate); errors.Is(err, errAfter) {
			refused++
		} else if err != nil {
			return waits, err
		}
	}
	return waits, nil
}

func (c *collector) fetchNew(ctx context.Context, place Place) (waits bool, err error) {
	st, key, validity := c.cfg.State, c.box.key(), c.s.data.UIDValidity
	for floor, late := place.Floor, 0; ; {
		uids, err := c.s.newer(ctx, floor+1, listed)
		if err != nil || len(uids) == 0 {
			return waits, err
		}
		known, err := st.Known(ctx, key, validity, uids)
		if err != nil {
			return waits, err
		}
		full := len(uids) == listed
		reach := uids[len(uids)-1]
		slices.SortStableFunc(uids, func(a, b uint32) int { return c.lateness(a) - c.lateness(b) })
		for len(uids) > 0 {
			var ask []uint32
			for len(uids) > 0 && len(ask) < atOnce {
				if !known[uids[0]] {
					ask = append(ask, uids[0])
				}
				uids = uids[1:]
			}
			if len(ask) == 0 {
				continue
			}
			items, err := c.s.items(ctx, ask)
			if no := (*refusal)(nil); err != nil && !errors.As(err, &no) { // refused: one that it cannot read must not keep those that came
				return waits, err
			}
			if len(items) < len(ask) { // gone, or the server's fault: the next list tells
				waits = true
			}
			slices.SortStableFunc(items, func(a, b item) int { return c.lateness(a.uid) - c.lateness(b.uid) })
			for _, it := range items {
				if err := ctx.Err(); err != nil {
					return waits, err
				}
				settled, err := c.bring(ctx, place, it)
				if err != nil && !errors.Is(err, errAfter) {
					return waits, err
				}
				if settled {
					late = 0
					continue
				}
				waits = true
				if late++; late == maxLate {
					return waits, nil
				}
			}
		}
		if waits {
			return waits, nil
		}
		if floor = reach; floor > place.Floor { // all of it is settled, or has gone
			if err := st.Reach(ctx, key, validity, floor); err != nil {
				return waits, err
			}
		}
		if !full {
			return waits, nil
		}
	}
}

// sweep lets the state forget, once a day. It is for a folder that was looked through to its end: what is there has its row by then.
func (c *collector) sweep(ctx context.Context) error {
	if time.Since(c.swept) < 24*time.Hour {
		return nil
	}
	c.swept = time.Now()
	err := c.cfg.State.Sweep(ctx, c.box.key(), c.s.data.UIDValidity, func(uids []uint32) (map[uint32]bool, error) { return c.s.held(ctx, uids) })
	if no := (*refusal)(nil); errors.As(err, &no) { // then they are kept
		return nil
	}
	return err
}

func (c *collector) lateness(uid uint32) int {
	if c.late[ID{c.box.key(), c.s.data.UIDValidity, uid}] {
		return 1
	}
	return 0
}

// bring leads one message to its fate; settled is false where the clinic answers "later". An error ends the session.
func (c *collector) bring(ctx context.Context, place Place, it item) (settled bool, err error) {
	st := c.cfg.State
	id := ID{c.box.key(), c.s.data.UIDValidity, it.uid}
	count := func(result string) { mMessages.WithLabelValues(c.box.Name, result).Inc() }
	if it.uid < place.Adopt && it.print != (Print{}) {
		old, err := st.Adopt(ctx, id, it.print)
		if err != nil {
			return false, err
		}
		switch old {
		case Taken:
			count("known")
			return true, c.tellServer(ctx, it.uid, Taken)
		case Refused: // the postmaster knows, and it must stay
			count("known")
			return true, nil
		}
	}
	v := Verdict{Code: 552} // RFC 3463: X.3.4, too large
	if it.size <= c.cfg.Max {
		out := c.cfg.Budget.NewWriter(it.size)
		switch err := c.s.fetch(ctx, it, c.cfg.Max, out); {
		case errors.Is(err, errTooLarge), errors.Is(err, errEmpty) && it.size == 0: // stays there, and the postmaster is told
			out.Abort()
		case err != nil: // where it has not gone after all, the next list shows it again; what the server cannot read must not keep the others
			out.Abort()
			c.late[id] = true
			if no := (*refusal)(nil); errors.Is(err, errGone) || errors.Is(err, errEmpty) || errors.As(err, &no) {
				c.log.Warn("the server lists a message that it does not give, again later", "uid", it.uid, "err", err)
				return false, nil
			}
			return false, err // also without room: the literal is half read
		default:
			body, err := out.Body()
			if err != nil {
				return false, err
			}
			v = c.cfg.Take(ctx, &c.box, id, body)
			if err := body.Close(); err != nil {
				c.log.Warn("close a message", "err", err)
			}
		}
	}
	fate := Taken
	switch {
	case v.Code >= 500:
		fate = Refused
		c.log.Warn("a message stays in its mailbox: it is refused for good", "uid", it.uid, "code", v.Code)
	case v.Code < 200 || v.Code >= 300:
		count("later")
		c.late[id] = true
		if v.Settled != nil {
			v.Settled(true)
		}
		return false, nil
	}
	on := context.WithoutCancel(ctx) // what was handed on is noted, also while we stop
	err = st.Settle(on, id, it.print, fate)
	if v.Settled != nil {
		v.Settled(err == nil)
	}
	if err != nil {
		return false, err // the gateway remembers that it was handed on
	}
	delete(c.late, id)
	count(string(fate))
	return true, c.tellServer(ctx, it.uid, fate)
}

// errAfter: the server refused what collect.after asks.
var errAfter = errors.New("refused by the server")

// tellServer does what is owed of a settled message. A server that refuses it is asked again at the next look, unless that would make a second copy; the
// postmaster is told once.
func (c *collector) tellServer(ctx context.Context, uid uint32, f Fate) error {
	on, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if ctx.Err() == nil {
		on, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*c.cfg.Patience)
		defer cancel()
	}
	id := ID{c.box.key(), c.s.data.UIDValidity, uid}
	if err := c.s.act(on, &c.box, uid, f); err != nil {
		no := (*refusal)(nil)
		if !errors.As(err, &no) {
			return err
		}
		mFailures.WithLabelValues(c.box.Name, "after").Inc() // it is in the clinic: what is new must not wait for this
		c.log.Warn("the server does not do what collect.after asks", "uid", uid, "fate", string(f), "err", err)
		if f != Refused && !errors.Is(err, errCopied) {
			return errAfter
		}
	}
	if f == Refused {
		if err := c.cfg.Tell(on, &c.box, id); err != nil {
			c.log.Warn("the postmaster could not be told of a refused message, again later", "uid", uid, "err", err)
			return nil
		}
	}
	return c.cfg.State.Done(on, id)
}
