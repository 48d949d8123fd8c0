package vault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// Summary is what a sender is told of one message, each at most once and in this order; what is told later includes what was not.
type Summary int

// The summaries.
const (
	NoSummary  Summary = iota
	SentTo             // whom it waits for
	NotOpened          // somebody has not opened it for Config.Report
	AllSettled         // everybody opened it, or it is gone
)

const (
	// HoldLife is how long a deposit without a telephone number waits for one.
	HoldLife = 48 * time.Hour
	// gather is how long the recipients of one message have to come together before its sender is told.
	gather = time.Minute
	// sendingLife is how long a repeated attempt belongs to the sending that it repeats, as the ledger's memory has it.
	sendingLife = 7 * 24 * time.Hour
)

// Sending is one message that waits, or waited, for its recipients.
type Sending struct {
	ID        string
	Sender    message.Address
	MessageID string // of the message's header
	Created   time.Time
	Deposits  []Status // in the order of their making
	told      Summary
}

// Status is what a deposit's sender and the operator may know of it, also when its content is gone.
type Status struct {
	ID, Sending                             string
	Sender, Recipient                       message.Address
	State                                   State
	Mode                                    Mode
	Staff, Closed                           bool
	Linked                                  bool   // the link is here: its notice can be sent again
	MaskedPhone                             string // "" where none is known, or the content is gone
	Level                                   string // how the first opening was proved, "" where there was none
	Created, Expires, Opened, Ended, CodeAt time.Time
	Openings, Answers, Reminders            int
	Size                                    int64
	noted                                   string
	said                                    State // the one of Held and Destroyed that its sender was told of
}

// SendingKey tells one message of one sender from all others, however often it is tried.
func (v *Vault) SendingKey(sender message.Address, content [32]byte) string {
	return string(seal.Mark(v.cfg.Key, "sending", sender.Key(), hex.EncodeToString(content[:])))
}

// join gives the sending that a deposit belongs to, "" for none.
func (v *Vault) join(tx store.Tx, r *DepositRequest, now time.Time) (id string, err error) {
	if r.Sending == "" || r.Sender.IsNull() {
		return "", nil
	}
	err = tx.QueryRow(`SELECT id FROM vault_sendings WHERE mark = ? AND created > ? ORDER BY created DESC LIMIT 1`, []byte(r.Sending), ms(now.Add(-sendingLife))).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		var raw [16]byte
		rand.Read(raw[:])
		id = hex.EncodeToString(raw[:])
		_, err = tx.Exec(`INSERT INTO vault_sendings (id, mark, sender, message_id, created, next_due) VALUES (?, ?, ?, ?, ?, ?)`,
			id, []byte(r.Sending), r.Sender.String(), text(r.MessageID), ms(now), ms(now.Add(sendingLife))) // then it goes, if nothing joined it
	}
	return id, err
}

// text is what a database takes as text: PostgreSQL has neither NUL nor broken UTF-8 in it.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// joined makes the sender of a sending be told of it from the start: one more recipient has it waiting. An attempt that came to nothing is no
// news, and what is not accepted yet would be told of too early.
func (v *Vault) joined(tx store.Tx, id string) error {
	_, err := tx.Exec(`UPDATE vault_sendings SET told = 0, next_due = ? WHERE id = ?`, ms(v.cfg.Now().Add(gather)), id)
	return err
}

// settled makes the last summary due for the sendings of these deposits that nobody is waited for any more. Of what was destroyed because its
// number was not given the sender hears at once, whoever else is waited for.
func (v *Vault) settled(tx store.Tx, now int64, deposits ...string) error {
	if len(deposits) == 0 {
		return nil
	}
	soon := now + gather.Milliseconds()
	these := `(?` + strings.Repeat(", ?", len(deposits)-1) + `)`
	about := func(args ...any) []any {
		for _, id := range deposits {
			args = append(args, id)
		}
		return args
	}
	// A pending one is not waited for: it goes without a word, or it makes the sending be told of anew.
	if _, err := tx.Exec(`UPDATE vault_sendings SET next_due = ? WHERE told < ? AND id IN (SELECT sending FROM vault_deposits WHERE id IN `+these+
		`) AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id AND d.state IN (?, ?))`, append(about(soon, AllSettled), Held, Waiting)...); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE vault_sendings SET next_due = ? WHERE id IN (SELECT sending FROM vault_deposits WHERE id IN `+these+` AND state = ?)`, append(about(soon), Destroyed)...)
	return err
}

// Sending gives one message's deposits; those whose notice was never accepted are not among them.
func (v *Vault) Sending(ctx context.Context, id string) (*Sending, error) {
	s := &Sending{ID: id}
	var sender string
	var created int64
	err := v.db.Read().QueryRowContext(ctx, `SELECT sender, message_id, created, told FROM vault_sendings WHERE id = ?`, id).Scan(&sender, &s.MessageID, &created, &s.told)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &Error{Reason: NotFound}
	}
	if err == nil {
		s.Created = fromMS(created)
		s.Sender, err = message.ParseAddress(sender, true)
	}
	if err == nil {
		s.Deposits, err = v.statuses(ctx, `sending = ? AND state <> ? ORDER BY created, id`, id, Pending)
	}
	if err != nil {
		return nil, fmt.Errorf("read sending %s: %w", id, err)
	}
	return s, nil
}

// Due tells which summary its sender is to be told now.
func (s *Sending) Due(now time.Time, report time.Duration) Summary {
	open := false
	for _, d := range s.Deposits {
		open = open || d.State == Waiting || d.State == Held
	}
	var due Summary
	switch {
	case len(s.Deposits) == 0:
		return NoSummary
	case !open:
		due = AllSettled
	case report > 0 && !now.Before(s.Created.Add(report)):
		due = NotOpened
	default:
		due = SentTo
	}
	if due <= s.told {
		return NoSummary
	}
	return due
}

// Step names the summary that is due in the queue of duties: another recipient of the message makes another one.
func (s *Sending) Step(now time.Time, report time.Duration) int {
	return int(s.Due(now, report)) + 10*len(s.Deposits)
}

// Undelivered tells whether a recipient's content was destroyed because nobody gave his number, and the sender has not heard of it.
func (s *Sending) Undelivered() bool { return s.unsaid(Destroyed) }

// Asks tells whether a recipient's copy waits for his number, and the sender was not asked for it.
func (s *Sending) Asks() bool { return s.unsaid(Held) }

func (s *Sending) unsaid(state State) bool {
	return slices.ContainsFunc(s.Deposits, func(d Status) bool { return d.State == state && d.said != state })
}

func (s *Sending) holds() bool {
	return slices.ContainsFunc(s.Deposits, func(d Status) bool { return d.State == Held })
}

func (s *Sending) allOpened() bool {
	return !slices.ContainsFunc(s.Deposits, func(d Status) bool { return d.Opened.IsZero() })
}

// Told notes that a summary of the sending as it was read was accepted, with whom it asked about and whose loss it told, and when the next may be
// due. Where another recipient has joined it meanwhile the summary was not the last of its kind: it stays due; and so it does where what was held
// is destroyed by now, or nobody is waited for any more and the summary did not say so.
func (v *Vault) Told(ctx context.Context, s *Sending, what Summary) error {
	what = max(what, s.told)
	next := int64(0)
	if what == SentTo && v.cfg.Report > 0 {
		next = ms(s.Created.Add(v.cfg.Report))
	}
	waitedFor := 1
	if what == AllSettled {
		waitedFor = 0
	}
	err := v.db.Write(ctx, func(tx store.Tx) error {
		for _, d := range s.Deposits {
			if d.State == d.said || d.State != Held && d.State != Destroyed {
				continue
			}
			if _, err := tx.Exec(`UPDATE vault_deposits SET said = ? WHERE id = ?`, d.State, d.ID); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE vault_sendings SET told = ?, next_due = ? WHERE id = ? AND told <= ? AND (SELECT COUNT(*) FROM vault_deposits WHERE sending = ? AND state <> ?) = ?
			AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id AND d.state = ? AND d.said <> d.state)
			AND (SELECT COUNT(*) FROM vault_deposits d WHERE d.sending = vault_sendings.id AND d.state IN (?, ?)) >= ?`,
			what, next, s.ID, what, s.ID, Pending, len(s.Deposits), Destroyed, Held, Waiting, waitedFor)
		return err
	})
	if err != nil {
		return fmt.Errorf("note summary of sending %s: %w", s.ID, err)
	}
	return nil
}

// SendingLink is the address of the sender's page of one message. Who has it may withdraw the message, and sees nothing of its content.
func (v *Vault) SendingLink(id string) string {
	return v.cfg.PublicURL + "/s/" + id + hex.EncodeToString(seal.Mark(v.cfg.Key, "sending link", id)[:16])
}

// SendingOf gives the sending that a sender's page is of; wrong and unknown links take the same path.
func (v *Vault) SendingOf(ctx context.Context, link string) (*Sending, error) {
	link = strings.ToLower(strings.TrimSpace(link))
	if len(link) != 64 || !token.Equal([]byte(link[32:]), []byte(hex.EncodeToString(seal.Mark(v.cfg.Key, "sending link", link[:32])[:16]))) {
		return nil, &Error{Reason: NotFound}
	}
	return v.Sending(ctx, link[:32])
}

// statuses reads deposits; where ends with the order and limit.
func (v *Vault) statuses(ctx context.Context, where string, args ...any) ([]Status, error) {
	return v.statusesFrom(ctx, `vault_deposits`, where, args...)
}

// statusesFrom names the index too: by its state alone nearly every row would be looked at.
func (v *Vault) statusesFrom(ctx context.Context, table, where string, args ...any) ([]Status, error) {
	rows, err := v.db.Read().QueryContext(ctx, `SELECT `+columns+` FROM `+table+` WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Status
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v.status(r))
	}
	return out, rows.Err()
}

func (v *Vault) status(r *row) Status {
	return Status{ID: r.id, Sending: r.sending, Sender: r.sender, Recipient: r.recipient, State: r.state, Mode: r.mode, Staff: r.staff, Closed: r.closed, Linked: r.resend != nil,
		MaskedPhone: v.masked(r), Level: r.level, Created: fromMS(r.created), Expires: fromMS(r.expires), Opened: fromMS(r.opened), Ended: fromMS(r.ended),
		CodeAt: fromMS(r.codeAt), Openings: int(r.openings), Answers: int(r.answers), Reminders: int(r.reminders), Size: r.size, noted: r.noted, said: r.said}
}
