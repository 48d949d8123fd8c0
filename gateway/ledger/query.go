package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNoEntry is what Entry answers for a number without a row.
var ErrNoEntry = errors.New("no such ledger entry")

// Filter picks entries; what is zero does not matter. Addresses are compared whole, without regard to case.
type Filter struct {
	MessageID, Recipient, Sender string
	// About is what somebody has in hand: an address of either side, the gateway's id of a message, its Message-ID in angle brackets, or a
	// deposit's id.
	About        string
	Since, Until time.Time // of the last attempt: Since <= last < Until
	Limit        int       // 0 is 100, at most 10000
}

// about is the condition of Filter.About. The Message-ID and the deposit have no index: they are looked for row by row.
func about(what string) (cond string, args []any) {
	switch {
	case strings.HasPrefix(what, "<"):
		return "header_message_id = ?", []any{what}
	case strings.Contains(what, "@"):
		return "(recipient = ? AND " + listed + " OR sender = ? AND " + listed + ")", []any{what, what}
	}
	return "(message_id = ? OR deposit_id = ?)", []any{what, what}
}

// query is the filter as SQL.
func (f Filter) query() (string, []any) {
	where, args := []string{"1"}, []any{}
	add := func(set bool, cond string, arg any) {
		if set {
			where, args = append(where, cond), append(args, arg)
		}
	}
	add(f.MessageID != "", "message_id = ? AND "+listed, f.MessageID)
	add(f.Recipient != "", "recipient = ? AND "+listed, f.Recipient)
	add(f.Sender != "", "sender = ? AND "+listed, f.Sender)
	if f.About != "" {
		cond, with := about(f.About)
		where, args = append(where, cond), append(args, with...)
	}
	add(!f.Since.IsZero(), "last >= ?", micros(f.Since))
	add(!f.Until.IsZero(), "last < ?", micros(f.Until))
	if f.Limit <= 0 {
		f.Limit = 100
	}
	query, args := everywhere(strings.Join(where, " AND "), args)
	return query + ` ORDER BY last DESC, seq DESC LIMIT ?`, append(args, min(f.Limit, 10000))
}

// Query gives the entries that fit, the newest first.
func (l *Ledger) Query(ctx context.Context, f Filter) ([]Entry, error) {
	return Query(ctx, l.db.Read(), f)
}

// Query reads the ledger of a database that any process may have open (store.Beside).
func Query(ctx context.Context, db *sql.DB, f Filter) ([]Entry, error) {
	query, args := f.query()
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("query ledger: %w", err)
	}
	defer rows.Close()
	var out []Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, fmt.Errorf("query ledger: %w", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("query ledger: %w", err)
	}
	return out, nil
}

// RuleCount is how often a rule chose a route with an outcome, and when last.
type RuleCount struct {
	Rule, Route string
	Outcome     Outcome
	Count       int
	Newest      time.Time
}

// Rules counts the rows whose last attempt was at since or later, the most frequent first.
func Rules(ctx context.Context, db *sql.DB, since time.Time) ([]RuleCount, error) {
	rows, err := db.QueryContext(ctx, `SELECT rule, route, outcome, count(*) AS n, max(last) FROM ledger_entries WHERE last >= ?
		GROUP BY rule, route, outcome ORDER BY n DESC, rule, route, outcome`, micros(since))
	if err != nil {
		return nil, fmt.Errorf("count rules in ledger: %w", err)
	}
	defer rows.Close()
	var out []RuleCount
	for rows.Next() {
		var r RuleCount
		var newest int64
		if err := rows.Scan(&r.Rule, &r.Route, &r.Outcome, &r.Count, &newest); err != nil {
			return nil, fmt.Errorf("count rules in ledger: %w", err)
		}
		r.Newest = instant(newest)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count rules in ledger: %w", err)
	}
	return out, nil
}

// Entry gives one row by its number.
func (l *Ledger) Entry(ctx context.Context, seq int64) (Entry, error) {
	e, err := scanEntry(l.db.Read().QueryRowContext(ctx, `SELECT seq, `+columns+` FROM ledger_entries WHERE seq = ?`, seq))
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNoEntry
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read ledger entry %d: %w", seq, err)
	}
	return e, nil
}

// Counts gives the number of rows by outcome whose last attempt was at since or later.
func (l *Ledger) Counts(ctx context.Context, since time.Time) (map[Outcome]int, error) {
	rows, err := l.db.Read().QueryContext(ctx, `SELECT outcome, count(*) FROM ledger_entries WHERE last >= ? GROUP BY outcome`, micros(since))
	if err != nil {
		return nil, fmt.Errorf("count ledger entries: %w", err)
	}
	defer rows.Close()
	out := map[Outcome]int{}
	for rows.Next() {
		var o Outcome
		var n int
		if err := rows.Scan(&o, &n); err != nil {
			return nil, fmt.Errorf("count ledger entries: %w", err)
		}
		out[o] = n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count ledger entries: %w", err)
	}
	return out, nil
}

// stale is after which silence a client no longer waits: Postfix repeats at least every 67 minutes (maximal_backoff_time).
const stale = 6 * time.Hour

// OldestWaiting gives, for each reason noted with "later", the first attempt of the recipient that waits longest. It reads
// memory only.
func (l *Ledger) OldestWaiting() map[string]time.Time {
	since := l.cfg.Now().Add(-stale).UnixMicro()
	oldest := map[string]time.Time{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.index {
		if m.served || m.last < since {
			continue
		}
		if at, ok := oldest[m.why()]; !ok || instant(m.first).Before(at) {
			oldest[m.why()] = instant(m.first)
		}
	}
	return oldest
}
