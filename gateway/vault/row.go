package vault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"passerelle/crypto/seal"
	"passerelle/gateway/message"
)

// row is one deposit as the database holds it.
type row struct {
	id                              string
	header, resend, phone, identity []byte
	face                            []byte
	phoneMark, code1, code2         []byte
	created, expires                int64
	code1Until, code2Until          int64
	wrong, locked, opened, openings int64
	size, answers                   int64
	reminders, ended, codeAt        int64
	locks, asked                    int64
	staff, closed                   bool
	sending, level, noted           string
	state, said                     State
	mode, proof                     Mode
	lang                            string
	sender, recipient               message.Address
}

const columns = `id, header, resend, phone, phone_mark, code1, code2, created, expires, code1_until, code2_until, wrong, locked, opened, openings,
	size, answers, state, mode, lang, sender, recipient, sending, staff, reminders, level, ended, code_at, closed, noted,
	identity, proof, locks, asked, face, said`

// readRow asks by ask: a transaction, or the reading connections.
func readRow(ask func(query string, args ...any) *sql.Row, where string, args ...any) (*row, error) {
	return scanRow(ask(`SELECT `+columns+` FROM vault_deposits WHERE `+where, args...))
}

func scanRow(s interface{ Scan(...any) error }) (*row, error) {
	r := &row{}
	var sender, recipient string
	err := s.Scan(&r.id, &r.header, &r.resend, &r.phone,
		&r.phoneMark, &r.code1, &r.code2, &r.created, &r.expires, &r.code1Until, &r.code2Until, &r.wrong, &r.locked, &r.opened, &r.openings,
		&r.size, &r.answers, &r.state, &r.mode, &r.lang, &sender, &recipient, &r.sending, &r.staff, &r.reminders, &r.level, &r.ended, &r.codeAt, &r.closed, &r.noted,
		&r.identity, &r.proof, &r.locks, &r.asked, &r.face, &r.said)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &Error{Reason: NotFound}
	}
	if err != nil {
		return nil, fmt.Errorf("read deposit: %w", err)
	}
	if r.sender, err = message.ParseAddress(sender, true); err != nil {
		return nil, fmt.Errorf("read deposit %s: sender: %w", r.id, err)
	}
	if r.recipient, err = message.ParseAddress(recipient, true); err != nil {
		return nil, fmt.Errorf("read deposit %s: recipient: %w", r.id, err)
	}
	return r, nil
}

func (v *Vault) row(ctx context.Context, where string, args ...any) (*row, error) {
	return readRow(func(q string, args ...any) *sql.Row { return v.db.Read().QueryRowContext(ctx, q, args...) }, where, args...)
}

// alive tells whether the content may be asked for: expiry is checked at every access, not by the sweep.
func (r *row) alive(now time.Time) bool {
	return (r.state == Waiting || r.state == Opened) && ms(now) < r.expires && r.header != nil
}

// check turns what is not alive into the error that the patient's page shows.
func (r *row) check(now time.Time) error {
	switch {
	case r.state == Pending, r.state == Held:
		return &Error{Reason: NotFound}
	case !r.alive(now):
		return &Error{Reason: Gone}
	}
	return nil
}

// codeValid tells whether any code can be proved now.
func (r *row) codeValid(now time.Time) bool {
	return r.code1 != nil && ms(now) < r.code1Until || r.code2 != nil && ms(now) < r.code2Until
}

func (v *Vault) masked(r *row) string {
	return MaskPhone(v.phone(r.id, r.phone))
}

// phone opens a number, "" where there is none.
func (v *Vault) phone(id string, sealed []byte) string {
	p, err := seal.OpenValue(v.cfg.Key, "phone", id, sealed)
	if err != nil {
		return ""
	}
	return string(p)
}
