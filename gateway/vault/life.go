package vault

import (
	"context"
	"fmt"
	"time"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// nextDue is when a deposit has to be looked at again: for its next reminder, the end of its hold or of its link's record, or its expiry.
func (v *Vault) nextDue(r *row) int64 {
	switch {
	case r.state == Held:
		return min(r.created+HoldLife.Milliseconds(), r.expires)
	case r.state == Waiting && r.resend != nil && int(r.reminders) < len(v.cfg.Reminders):
		return min(r.created+v.cfg.Reminders[r.reminders].Milliseconds(), r.expires)
	case r.state == Opened && r.resend != nil && len(v.cfg.Reminders) > 0: // whether it was reminded of or not
		return min(r.created+v.cfg.Reminders[len(v.cfg.Reminders)-1].Milliseconds(), r.expires)
	}
	return r.expires
}

// Dues are what is to be done now: deposits to remind of, by their ids, each with the number of that reminder; sendings whose senders are
// to be told. What was Queued is given again after an hour, until Reminded and Told.
type Dues struct {
	Remind   map[string]int
	Sendings []string
}

const (
	// maxDues bounds one look, and with one look a minute how much mail the duties make: the rest has its turn later.
	maxDues = 1000
	// queuedFor is how long a queue has to do what it was given before it is looked for again.
	queuedFor = time.Hour
)

// Due looks for what is to be done.
func (v *Vault) Due(ctx context.Context) (Dues, error) {
	now := ms(v.cfg.Now())
	d := Dues{Remind: map[string]int{}}
	due, err := v.statusesFrom(ctx, `vault_deposits INDEXED BY vault_deposits_due`, `next_due > 0 AND next_due <= ? AND state = ? AND expires > ? ORDER BY next_due LIMIT ?`, now, Waiting, now, maxDues)
	if err == nil {
		for _, s := range due {
			d.Remind[s.ID] = s.Reminders + 1
		}
		d.Sendings, err = v.ids(ctx, `SELECT id FROM vault_sendings WHERE next_due > 0 AND next_due <= ? ORDER BY next_due LIMIT ?`, now, maxDues)
	}
	if err != nil {
		return d, fmt.Errorf("look for duties of the vault: %w", err)
	}
	return d, nil
}

// Queued puts off what a queue has taken, so that what cannot be done now, or not so soon, does not stand before the rest.
func (v *Vault) Queued(ctx context.Context, d Dues) error {
	now := v.cfg.Now()
	later := ms(now.Add(queuedFor))
	err := v.db.Write(ctx, func(tx store.Tx) error {
		for id := range d.Remind {
			if _, err := tx.Exec(`UPDATE vault_deposits SET next_due = CASE WHEN expires < ? THEN expires ELSE ? END WHERE id = ? AND next_due > 0 AND next_due <= ?`, later, later, id, ms(now)); err != nil {
				return err
			}
		}
		for _, id := range d.Sendings {
			if _, err := tx.Exec(`UPDATE vault_sendings SET next_due = ? WHERE id = ? AND next_due > 0 AND next_due <= ?`, later, id, ms(now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put off duties of the vault: %w", err)
	}
	return nil
}

// Remind gives the deposit with its link for reminder n; nil where that is no longer to be sent: it was, or the deposit was opened or ended.
func (v *Vault) Remind(ctx context.Context, id string, n int) (*Deposit, error) {
	r, err := v.row(ctx, `id = ?`, id)
	if Why(err) == NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("remind of deposit %s: %w", id, err)
	}
	if r.state != Waiting || !r.alive(v.cfg.Now()) || int(r.reminders) != n-1 || r.resend == nil {
		return nil, nil
	}
	if n > len(v.cfg.Reminders) { // since it got due the operator wants fewer
		return nil, v.skipReminders(ctx, id)
	}
	return v.Reissue(ctx, id)
}

// skipReminders puts a deposit's next due time where the settings have it.
func (v *Vault) skipReminders(ctx context.Context, id string) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		r, err := readRow(tx.QueryRow, `id = ?`, id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE vault_deposits SET next_due = ? WHERE id = ? AND state = ?`, v.nextDue(r), id, Waiting)
		return err
	})
	if err != nil {
		return fmt.Errorf("skip reminders of deposit %s: %w", id, err)
	}
	return nil
}

// Reminded notes that reminder n was accepted. After the last one the link's record goes: nobody needs it any more.
func (v *Vault) Reminded(ctx context.Context, id string, n int) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		r, err := readRow(tx.QueryRow, `id = ?`, id)
		if err != nil {
			return err
		}
		if int(r.reminders) != n-1 {
			return nil
		}
		if r.reminders = int64(n); n >= len(v.cfg.Reminders) {
			r.resend = nil
		}
		_, err = tx.Exec(`UPDATE vault_deposits SET reminders = ?, resend = ?, next_due = CASE WHEN next_due > 0 THEN ? ELSE next_due END WHERE id = ?`, n, r.resend, v.nextDue(r), id)
		return err
	})
	if err != nil && Why(err) != NotFound {
		return fmt.Errorf("note reminder of deposit %s: %w", id, err)
	}
	return nil
}

// Complete gives a held deposit its telephone number, or with "" the mode in which the sender tells the code, and the deposit as its
// notice needs it. It stays held until Release: a notice that is not accepted changes nothing.
func (v *Vault) Complete(ctx context.Context, id, phone string) (*Deposit, error) {
	fail := func(err error) (*Deposit, error) { return nil, fmt.Errorf("complete deposit %s: %w", id, err) }
	var sealed, mark, code []byte
	mode, until, plain := BySender, int64(0), ""
	if phone != "" {
		e164, mobile, err := ParsePhone(phone)
		if err != nil {
			return fail(err)
		}
		if sealed, err = seal.Value(v.cfg.Key, "phone", id, []byte(e164)); err != nil {
			return fail(err)
		}
		mark = v.phoneMark(e164)
		if mobile && v.cfg.SMS != nil {
			mode = BySMS
		}
	}
	var r *row
	err := v.db.Write(ctx, func(tx store.Tx) error {
		var err error
		if r, err = readRow(tx.QueryRow, `id = ?`, id); err != nil {
			return err
		}
		if r.state != Held || ms(v.cfg.Now()) >= r.expires {
			return &Error{Reason: Gone}
		}
		switch {
		case r.proof == BySMS && mode != BySMS:
			return ErrMobile
		case r.proof != "" && r.proof != mode:
			return fmt.Errorf("it is to open by %s alone", r.proof)
		}
		if mode == BySender {
			plain = token.NewCode()
			code, until = v.codeMark(id, plain), r.expires
		} else {
			r.code1, r.code1Until = nil, 0
		}
		// The code of an attempt before, whose notice was not accepted, was told the sender: it holds beside the new one.
		return one(tx.Exec(`UPDATE vault_deposits SET phone = ?, phone_mark = ?, mode = ?, code1 = ?, code1_until = ?, code2 = ?, code2_until = ?, changed = ? WHERE id = ?`,
			sealed, mark, mode, code, until, r.code1, r.code1Until, ms(v.cfg.Now()), id))
	})
	if err != nil {
		return fail(err)
	}
	link, short, err := v.resendRecord(r)
	if err != nil {
		return fail(err)
	}
	d := &Deposit{ID: id, Link: link, Short: short, Code: plain, Mode: mode, Lang: r.lang, Created: fromMS(r.created),
		Expires: fromMS(r.expires), Sender: r.sender, Recipient: r.recipient, Size: r.size, Staff: r.staff, Sending: r.sending, Face: v.face(r)}
	if sealed != nil {
		r.phone = sealed
		d.MaskedPhone = v.masked(r)
	}
	if mode == BySender {
		d.Phone = v.phone(id, sealed)
	}
	return d, nil
}

// Release opens a held deposit to its recipient: the notice was accepted. What is open already is no error: who does not know whether his Release
// was done repeats it.
func (v *Vault) Release(ctx context.Context, id string) error {
	held := false
	err := v.db.Write(ctx, func(tx store.Tx) error {
		r, err := readRow(tx.QueryRow, `id = ?`, id)
		if err != nil {
			return err
		}
		if held = r.state == Held; !held {
			return r.check(v.cfg.Now())
		}
		r.state = Waiting
		if v.cfg.Strict {
			r.resend = nil
		}
		// No summary is due for it: its sender, who was told of all recipients, sees on his page what he has done.
		return one(tx.Exec(`UPDATE vault_deposits SET state = ?, resend = ?, changed = ?, next_due = ? WHERE id = ? AND state = ?`,
			Waiting, r.resend, ms(v.cfg.Now()), v.nextDue(r), id, Held))
	})
	if err != nil {
		return fmt.Errorf("release deposit %s: %w", id, err)
	}
	if held {
		moved(Held, Waiting)
	}
	return nil
}

// Extend gives a living deposit a later end, at most a year from now; told codes and agreed phrases live as long.
func (v *Vault) Extend(ctx context.Context, id string, end time.Time) error {
	now := v.cfg.Now()
	if !end.After(now) || end.After(now.AddDate(1, 0, 0)) {
		return fmt.Errorf("extend deposit %s: the new end must be later than now and within a year", id)
	}
	err := v.db.Write(ctx, func(tx store.Tx) error {
		r, err := readRow(tx.QueryRow, `id = ?`, id)
		if err != nil {
			return err
		}
		if !r.alive(now) {
			return &Error{Reason: Gone}
		}
		if ms(end) < r.expires {
			return fmt.Errorf("it waits until %s already", fromMS(r.expires).Format(time.RFC3339))
		}
		old := r.expires
		r.expires = ms(end)
		for _, until := range []*int64{&r.code1Until, &r.code2Until} {
			if *until == old {
				*until = r.expires
			}
		}
		return one(tx.Exec(`UPDATE vault_deposits SET expires = ?, code1_until = ?, code2_until = ?, changed = ?, next_due = ? WHERE id = ?`,
			r.expires, r.code1Until, r.code2Until, ms(now), v.nextDue(r), id))
	})
	if err != nil {
		return fmt.Errorf("extend deposit %s: %w", id, err)
	}
	return nil
}

// CloseExchange ends, for all messages between these two, that the recipient can answer; closed false opens it again.
func (v *Vault) CloseExchange(ctx context.Context, sender, recipient message.Address, closed bool) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE vault_deposits SET closed = ?, changed = ? WHERE recipient = ? AND sender = ?`, closed, ms(v.cfg.Now()), recipient.String(), sender.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("close exchange: %w", err)
	}
	return nil
}

// Status gives one deposit's.
func (v *Vault) Status(ctx context.Context, id string) (Status, error) {
	r, err := v.row(ctx, `id = ?`, id)
	if err != nil {
		return Status{}, err
	}
	return v.status(r), nil
}

// Filter says which deposits are listed; what is empty does not count.
type Filter struct {
	State             State
	Sender, Recipient string // lower case, whole addresses
	Since             time.Time
	Limit             int // 0 is 100
}

// SetState takes the word of a state.
func (f *Filter) SetState(s string) { f.State = State(s) }

// where is the condition of a query with its order, and the arguments.
func (f Filter) where() (string, []any) {
	where, args := `state <> ?`, []any{Pending}
	add := func(cond string, a any) { where, args = where+" AND "+cond, append(args, a) }
	if f.Recipient != "" { // vault_deposits_recipient has a few rows of it, whatever else is asked for
		add(`LOWER(recipient) = ?`, f.Recipient)
	}
	if f.State != "" {
		add(`state = ?`, f.State)
	}
	if f.Sender != "" {
		add(`LOWER(sender) = ?`, f.Sender)
	}
	if !f.Since.IsZero() {
		add(`created >= ?`, ms(f.Since))
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	return where + ` ORDER BY created DESC LIMIT ?`, append(args, f.Limit)
}

// List gives deposits, the newest first.
func (v *Vault) List(ctx context.Context, f Filter) ([]Status, error) {
	where, args := f.where()
	out, err := v.statuses(ctx, where, args...)
	if err != nil {
		return nil, fmt.Errorf("list deposits: %w", err)
	}
	return out, nil
}

// Unnoted gives deposits of which the ledger does not know yet that they were opened or have ended.
func (v *Vault) Unnoted(ctx context.Context, limit int) ([]Status, error) {
	out, err := v.statusesFrom(ctx, `vault_deposits INDEXED BY vault_deposits_unnoted`, `noted <> state AND state IN ('opened', 'expired', 'revoked', 'destroyed') ORDER BY changed LIMIT ?`, limit) // as its index says
	if err != nil {
		return nil, fmt.Errorf("look for what the ledger does not know: %w", err)
	}
	return out, nil
}

// Noted tells that the ledger knows these states.
func (v *Vault) Noted(ctx context.Context, ss ...Status) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		for _, s := range ss {
			if _, err := tx.Exec(`UPDATE vault_deposits SET noted = ? WHERE id = ?`, s.State, s.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note what the ledger knows: %w", err)
	}
	return nil
}
