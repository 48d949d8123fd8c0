package vault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/store"
)

const (
	codeLife = 15 * time.Minute // of a code sent by SMS
	perQuick = 3                // codes per link and per number in
	quick    = 15 * time.Minute
	perDay   = 10 // codes per link and per number in
	day      = 24 * time.Hour
	maxAsked = 30 // codes per link since somebody last opened it

	handOverTime = time.Minute // for one code
)

// ask is what one browser has of a code that it asked for.
type ask struct {
	deposit string
	at      int64
	code    []byte
}

// asked finds it; nil for none, one out of date, and one whose tries are used up.
func (v *Vault) asked(ctx context.Context, deposit, asked string, now time.Time) (*ask, error) {
	if len(asked) != 32 {
		return nil, nil
	}
	a := &ask{deposit: deposit}
	err := v.db.Read().QueryRowContext(ctx, `SELECT at, code FROM vault_codes WHERE deposit = ? AND ask = ? AND until > ? AND wrong < ?`,
		deposit, v.askMark(deposit, asked), ms(now), wrongPerLock).Scan(&a.at, &a.code)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find who asked for a code: %w", err)
	}
	return a, nil
}

// take takes one of its tries; the right code takes one too. What another request used up meanwhile is not there any more.
func (a *ask) take(tx store.Tx) (bool, error) {
	if a == nil {
		return false, nil
	}
	res, err := tx.Exec(`UPDATE vault_codes SET wrong = wrong + 1 WHERE deposit = ? AND at = ? AND code = ? AND wrong < ?`, a.deposit, a.at, a.code, wrongPerLock)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func (v *Vault) askMark(id, asked string) []byte { return seal.Mark(v.cfg.Key, "ask", id, asked) }

// Ask makes a new code on the patient's wish. By SMS it goes to the telephone, by e-mail to his mailbox; otherwise, and only where no code is valid
// any more or wrong ones have locked it, to the sender, who tells it. The code before stays valid beside it. What could not be handed over does
// not count. asked is for Prove, from the same browser; "" where there is no new code.
func (v *Vault) Ask(ctx context.Context, link string) (asked string, err error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return "", err
	}
	now := v.cfg.Now()
	switch r.mode {
	case BySecret, ByOIDC:
		return "", nil // he knows it, or there is none
	case BySender:
		if r.codeValid(now) && r.locked <= ms(now) {
			return "", nil // the sender has it already
		}
		if v.cfg.ToSender == nil {
			return "", &Error{Reason: NotSent}
		}
	case ByEmail:
		if v.cfg.ToRecipient == nil {
			return "", &Error{Reason: NotSent}
		}
	default:
		if v.cfg.SMS == nil {
			return "", &Error{Reason: NotSent}
		}
	}
	code, until := token.NewCode(), now.Add(codeLife)
	if r.mode == BySender || ms(until) > r.expires {
		until = fromMS(r.expires)
	}
	var raw [16]byte
	rand.Read(raw[:])
	asked = hex.EncodeToString(raw[:])
	var outcome error
	err = v.db.Write(ctx, func(tx store.Tx) error {
		var err error
		if outcome, err = v.limited(ctx, tx, r, now); outcome != nil || err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO vault_codes (deposit, phone, at, ask, code, until) VALUES (?, ?, ?, ?, ?, ?)`,
			r.id, r.phoneMark, ms(now), v.askMark(r.id, asked), v.codeMark(r.id, code), ms(until)); err != nil {
			return err
		}
		// A new code ends neither a lock nor its count: else asking again would be a way around both. Void codes start a new count.
		return one(tx.Exec(`UPDATE vault_deposits SET code2 = code1, code2_until = code1_until, code1 = ?, code1_until = ?, code_at = ?, asked = asked + 1, changed = ?
			WHERE id = ? AND header IS NOT NULL`, v.codeMark(r.id, code), ms(until), ms(now), ms(now), r.id))
	})
	if errors.Is(err, store.ErrUnknown) { // it may stand, and nobody gets it
		err = errors.Join(err, v.takeBack(ctx, r, code, now))
	}
	if err != nil {
		return "", fmt.Errorf("send code: %w", err)
	}
	if outcome != nil {
		if r.mode == BySMS {
			smsTotal.WithLabelValues("limited").Inc()
		}
		return "", outcome
	}
	// The sending goes on where the browser has gone: a request cut short would else send for nothing, uncounted, as often as one likes.
	sending, done := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
	defer done()
	if err := v.handOver(sending, r, code); err != nil {
		return "", &Error{Reason: NotSent, Err: errors.Join(err, v.takeBack(ctx, r, code, now))}
	}
	return asked, nil
}

// takeBack forgets a code that was not handed over.
func (v *Vault) takeBack(ctx context.Context, r *row, code string, now time.Time) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return v.db.Write(clean, func(tx store.Tx) error {
		if _, err := tx.Exec(`UPDATE vault_deposits SET code_at = ?, asked = CASE WHEN asked > 0 THEN asked - 1 ELSE 0 END WHERE id = ? AND code_at = ?`, r.codeAt, r.id, ms(now)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM vault_codes WHERE deposit = ? AND at = ?`, r.id, ms(now)); err != nil || r.mode == BySMS {
			return err // an SMS may have left all the same; then its code fits
		}
		// A code that its sender never got must not stand as one that can be told: no other would be made before the deposit's end.
		for _, column := range []string{"code1", "code2"} { // the second where another was made meanwhile
			if _, err := tx.Exec(`UPDATE vault_deposits SET `+column+` = NULL WHERE id = ? AND `+column+` = ?`, r.id, v.codeMark(r.id, code)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Unlock ends what wrong codes did to a living deposit: its sender, whom the patient called, or the operator sent its notice again.
func (v *Vault) Unlock(ctx context.Context, id string) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`UPDATE vault_deposits SET wrong = 0, locked = 0, locks = 0, asked = 0 WHERE id = ?`, id); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM vault_codes WHERE deposit = ?`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("unlock deposit %s: %w", id, err)
	}
	return nil
}

// limited tells whether enough codes were sent, and until when.
func (v *Vault) limited(ctx context.Context, tx store.Tx, r *row, now time.Time) (outcome, err error) {
	if r.asked >= maxAsked {
		return &Error{Reason: Limited}, nil
	}
	for _, l := range []struct {
		n int
		d time.Duration
	}{{perQuick, quick}, {perDay, day}} {
		for _, by := range []struct {
			column string
			value  any
		}{{"deposit", r.id}, {"phone", r.phoneMark}} {
			if mark, ok := by.value.([]byte); ok && mark == nil {
				continue
			}
			var n int
			var first sql.NullInt64
			err := tx.QueryRow(`SELECT COUNT(*), MIN(at) FROM vault_codes WHERE `+by.column+` = ? AND at > ?`, by.value, ms(now.Add(-l.d))).Scan(&n, &first)
			if err != nil {
				return nil, err
			}
			if n >= l.n {
				return &Error{Reason: Limited, Until: fromMS(first.Int64).Add(l.d)}, nil
			}
		}
	}
	return nil, nil
}

// handOver brings the code to the patient's telephone or to the sender.
func (v *Vault) handOver(ctx context.Context, r *row, code string) error {
	if r.mode == BySender {
		d := &Deposit{ID: r.id, Code: code, Mode: r.mode, Created: fromMS(r.created), Expires: fromMS(r.expires), Sender: r.sender, Recipient: r.recipient, Sending: r.sending,
			Phone: v.phone(r.id, r.phone)}
		body, err := v.CodeForSender(d, NoticeRequest{})
		if err != nil {
			return err
		}
		return v.cfg.ToSender(ctx, r.sender, body)
	}
	if r.mode == ByEmail {
		body, err := v.CodeForRecipient(&Deposit{ID: r.id, Code: code, Mode: r.mode, Created: fromMS(r.created), Expires: fromMS(r.expires), Sender: r.sender, Recipient: r.recipient})
		if err != nil {
			return err
		}
		return v.cfg.ToRecipient(ctx, r.recipient, body)
	}
	phone, err := seal.OpenValue(v.cfg.Key, "phone", r.id, r.phone)
	if err != nil {
		return err
	}
	if err := v.cfg.SMS.Send(ctx, string(phone), v.CodeText(r.lang, code)); err != nil {
		smsTotal.WithLabelValues("failed").Inc()
		v.cfg.Log.Warn("code not sent", "deposit", r.id, "err", err)
		return err
	}
	smsTotal.WithLabelValues("sent").Inc()
	return nil
}

// CodeText is the SMS that brings a code; lang is "fr" or "en".
func (v *Vault) CodeText(lang, code string) string {
	if lang != "en" {
		lang = "fr"
	}
	return fill(v.cfg.sentence(lang, "sms.text"), map[string]string{"clinic": v.cfg.Clinic.Name, "code": code}, func(v string) string { return v })
}
