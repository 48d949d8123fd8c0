package vault

import (
	"context"
	"database/sql"
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

	handOverTime = time.Minute // for one code
)

// SendCode makes a new code on the patient's wish. By SMS it goes to the telephone; otherwise, and only where no code is valid any
// more, to the sender, who tells it. The code before stays valid beside it. What could not be handed over does not count.
func (v *Vault) SendCode(ctx context.Context, link string) error {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return err
	}
	now := v.cfg.Now()
	if r.mode == BySecret {
		return nil // he knows it
	}
	if r.mode == BySender {
		if r.codeValid(now) {
			return nil // the sender has it already
		}
		if v.cfg.ToSender == nil {
			return &Error{Reason: NotSent}
		}
	} else if v.cfg.SMS == nil {
		return &Error{Reason: NotSent}
	}
	code, until := token.NewCode(), now.Add(codeLife)
	if r.mode == BySender || ms(until) > r.expires {
		until = fromMS(r.expires)
	}
	var outcome error
	err = v.db.Write(ctx, func(tx store.Tx) error {
		var err error
		if outcome, err = v.limited(ctx, tx, r, now); outcome != nil || err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO vault_codes (deposit, phone, at) VALUES (?, ?, ?)`, r.id, r.phoneMark, ms(now)); err != nil {
			return err
		}
		// A new code ends neither a lock nor its count: else asking again would be a way around both. Void codes start a new count.
		return one(tx.Exec(`UPDATE vault_deposits SET code2 = code1, code2_until = code1_until, code1 = ?, code1_until = ?, code_at = ?, changed = ?
			WHERE id = ? AND header IS NOT NULL`, v.codeMark(r.id, code), ms(until), ms(now), ms(now), r.id))
	})
	if err != nil {
		return fmt.Errorf("send code: %w", err)
	}
	if outcome != nil {
		if r.mode == BySMS {
			smsTotal.WithLabelValues("limited").Inc()
		}
		return outcome
	}
	// The sending goes on where the browser has gone: a request cut short would else send for nothing, uncounted, as often as one likes.
	sending, done := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
	defer done()
	if err := v.handOver(sending, r, code); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		uerr := v.db.Write(clean, func(tx store.Tx) error {
			if _, err := tx.Exec(`UPDATE vault_deposits SET code_at = ? WHERE id = ? AND code_at = ?`, r.codeAt, r.id, ms(now)); err != nil {
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
		return &Error{Reason: NotSent, Err: errors.Join(err, uerr)}
	}
	return nil
}

// limited tells whether enough codes were sent, and until when.
func (v *Vault) limited(ctx context.Context, tx store.Tx, r *row, now time.Time) (outcome, err error) {
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
		d := &Deposit{ID: r.id, Code: code, Mode: r.mode, Created: fromMS(r.created), Expires: fromMS(r.expires), Sender: r.sender, Recipient: r.recipient, Sending: r.sending}
		body, err := v.CodeForSender(d, NoticeRequest{})
		if err != nil {
			return err
		}
		return v.cfg.ToSender(ctx, r.sender, body)
	}
	phone, err := seal.OpenValue(v.cfg.Key, "phone", r.id, r.phone)
	if err != nil {
		return err
	}
	if err := v.cfg.SMS.Send(ctx, string(phone), v.smsText(r.lang, code)); err != nil {
		smsTotal.WithLabelValues("failed").Inc()
		v.cfg.Log.Warn("code not sent", "deposit", r.id, "err", err)
		return err
	}
	smsTotal.WithLabelValues("sent").Inc()
	return nil
}

func (v *Vault) smsText(lang, code string) string {
	if lang != "en" {
		lang = "fr"
	}
	return fill(v.cfg.sentence(lang, "sms.text"), map[string]string{"clinic": v.cfg.Clinic.Name, "code": code}, func(v string) string { return v })
}
