package directory

import (
	"context"
	"encoding/json"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// work is the one goroutine that asks in the background and writes answers down.
func (a *asking) work() {
	defer close(a.done)
	rounds := time.NewTimer(0)
	defer rounds.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case q := <-a.queue:
			if a.serve(q) {
				a.rest()
			}
		case <-rounds.C:
			rounds.Reset(a.sweep())
		}
	}
}

// rest keeps the pace: sources have limits of their own, and a clinic's mail is not their only user.
func (a *asking) rest() {
	t := time.NewTimer(pace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.ctx.Done():
	}
}

// serve answers one question, and tells whether the source was asked. What was answered on the mail's way is only written down.
func (a *asking) serve(q question) (asked bool) {
	k := answerKey{q.source, q.a.Key()}
	a.mu.Lock()
	d, r := a.answers[k], a.inForce(q)
	if d == nil {
		a.mu.Unlock()
		return false
	}
	d.queued = false
	if r != nil {
		now := a.now()
		asked = d.due(now, r.Every) && !now.Before(a.healthOf(r).nextTry) && a.lease(r.leased)
	}
	a.mu.Unlock()
	if asked {
		ctx, cancel := context.WithTimeout(a.ctx, max(questionFor, r.Timeout))
		recs, err := r.question(ctx, q.a)
		cancel()
		a.note(r, q.a, recs, err)
		a.mu.Lock()
		a.letGo(r.leased)
		a.mu.Unlock()
	}
	a.write(k)
	return asked
}

// inForce is the source that a question goes to, nil where a reload took it away or it is no longer asked about such an address; a.mu is held.
func (a *asking) inForce(q question) *asker {
	for _, r := range a.current {
		if r.key == q.source && r.concerns(q.a) {
			return r
		}
	}
	return nil
}

// write makes an answer durable. A fault costs a question after the next start, no more.
func (a *asking) write(k answerKey) {
	if a.db == nil {
		return
	}
	a.mu.Lock()
	d := a.answers[k]
	var row dated
	if d != nil {
		row = *d
	}
	a.mu.Unlock()
	err := a.db.Write(a.ctx, func(tx store.Tx) error {
		if d == nil {
			_, err := tx.Exec("DELETE FROM remote_answer WHERE source = ? AND address = ?", k.source, k.address)
			return err
		}
		var asked int64
		var text []byte
		if !row.asked.IsZero() {
			var err error
			if text, err = json.Marshal(row.records); err != nil {
				return err
			}
			asked = row.asked.UnixNano()
		}
		_, err := tx.Exec(`INSERT INTO remote_answer (source, address, asked, used, records) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (source, address) DO UPDATE SET asked = excluded.asked, used = excluded.used, records = excluded.records`,
			k.source, k.address, asked, row.used.UnixNano(), text)
		return err
	})
	if err != nil && a.ctx.Err() == nil {
		a.log.Warn("directory: a remote answer was not written down", "err", err)
	}
}

// sweep leaves to the worker what is due, forgets what mail no longer goes to, and gives the time until the next one.
func (a *asking) sweep() time.Duration {
	a.mu.Lock()
	now := a.now()
	next := time.Minute
	bySource := make(map[string]*asker, len(a.current))
	for _, r := range a.current {
		bySource[r.key] = r
		next = min(next, r.Every/4)
	}
	var forgotten []answerKey
	for k, d := range a.answers {
		r := bySource[k.source]
		addr, err := message.ParseAddress(k.address, true)
		switch {
		case now.Sub(d.used) > forgetAfter, err != nil, r != nil && !r.concerns(addr): // of what it may not be asked nothing is kept: a patient's number
			delete(a.answers, k)
			forgotten = append(forgotten, k)
		case r == nil, d.queued, !d.due(now, r.Every), now.Before(a.healthOf(r).nextTry):
		default:
			a.enqueue(d, k, addr)
		}
	}
	kept := len(a.answers)
	a.mu.Unlock()
	if a.db != nil && (len(forgotten) > 0 || kept == maxAnswers) {
		err := a.db.Write(a.ctx, func(tx store.Tx) error {
			for _, k := range forgotten {
				if _, err := tx.Exec("DELETE FROM remote_answer WHERE source = ? AND address = ?", k.source, k.address); err != nil {
					return err
				}
			}
			_, err := tx.Exec(`DELETE FROM remote_answer WHERE used < ? OR (source, address) NOT IN
				(SELECT source, address FROM remote_answer ORDER BY used DESC LIMIT ?)`, now.Add(-forgetAfter).UnixNano(), maxAnswers)
			return err
		})
		if err != nil && a.ctx.Err() == nil {
			a.log.Warn("directory: remote answers were not tidied", "err", err)
		}
	}
	return max(next, 10*time.Millisecond)
}
