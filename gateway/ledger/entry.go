package ledger

import (
	"crypto/rand"
	"database/sql"
	"strings"
	"time"
)

// Outcome is what became of a recipient in an attempt.
type Outcome string

const (
	Delivered Outcome = "delivered" // the next hop, or the vault, has it
	Deferred  Outcome = "deferred"  // "later": the client keeps it and repeats
	Failed    Outcome = "failed"    // the next hop refused it for good, or its time ran out
	Refused   Outcome = "refused"   // by the clinic's rules
	Bounced   Outcome = "bounced"   // failed, and its sender was told by a bounce that was accepted
	Reported  Outcome = "reported"  // delivered, and its sender was told by a report of success that was accepted
)

// final tells whether no further attempt is wanted.
func (o Outcome) final() bool {
	return o == Delivered || o == Failed || o == Refused || o == Bounced || o == Reported
}

// Entry is one row of the ledger: one recipient, one outcome.
type Entry struct {
	I                            int // index of the recipient in the claim; not stored
	MessageID, Sender, Recipient string
	Route, Rule                  string
	Reason                       string // of a deferred recipient: a short label of a closed set, it becomes a metric's label
	Source                       string
	AsOf                         time.Time
	Outcome                      Outcome
	Code                         int
	Enhanced, Text, Hop          string
	PeerSubject, PeerFingerprint string
	TLS, DepositID               string
	Clear                        bool
	Size                         int64
	// First and Last are the same for a final outcome; a deferred recipient's row runs from its first attempt to its last, and
	// Count counts them. Zero values are set by Note.
	First, Last           time.Time
	Count                 int
	Form, HeaderMessageID string

	// Set by the ledger.
	Seq     int64
	Salt    [16]byte
	Bounced bool // of Served: the bounce, or the report of success, was accepted, do not hand it over again
}

const (
	columns = `salt, message_id, sender, recipient, route, rule, reason, source, as_of, outcome, code, enhanced, text, hop,
	peer_subject, peer_fingerprint, tls, deposit_id, clear, size, form, header_message_id, first, last, count`
	insertEntry = `INSERT INTO ledger_entries (seq, ` + columns + `, listed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0)`
	// maxText bounds what a peer's words may take in a row.
	maxText = 1024
)

// complete gives an entry its salt and times, and cuts what strangers wrote.
func complete(e Entry, now time.Time) Entry {
	rand.Read(e.Salt[:])
	if e.First.IsZero() {
		e.First = now
	}
	if e.Last.IsZero() {
		e.Last = e.First
	}
	if e.Count == 0 {
		e.Count = 1
	}
	for _, s := range []*string{&e.MessageID, &e.Sender, &e.Recipient, &e.Route, &e.Rule, &e.Reason, &e.Source, &e.Enhanced, &e.Text,
		&e.Hop, &e.PeerSubject, &e.PeerFingerprint, &e.TLS, &e.DepositID, &e.Form, &e.HeaderMessageID} {
		*s = clean(*s)
	}
	return e
}

func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?") // a shared database takes no NUL
}

// insert writes a row under its number.
func insert(st *sql.Stmt, seq int64, e *Entry) error {
	_, err := st.Exec(seq, e.Salt[:], e.MessageID, e.Sender, e.Recipient, e.Route, e.Rule, e.Reason, e.Source, micros(e.AsOf), string(e.Outcome),
		e.Code, e.Enhanced, e.Text, e.Hop, e.PeerSubject, e.PeerFingerprint, e.TLS, e.DepositID, e.Clear, e.Size, e.Form,
		e.HeaderMessageID, micros(e.First), micros(e.Last), e.Count)
	return err
}

type scanner interface{ Scan(...any) error }

func scanEntry(s scanner) (Entry, error) {
	var e Entry
	var salt []byte
	var asOf, first, last int64
	err := s.Scan(&e.Seq, &salt, &e.MessageID, &e.Sender, &e.Recipient, &e.Route, &e.Rule, &e.Reason, &e.Source, &asOf, &e.Outcome, &e.Code,
		&e.Enhanced, &e.Text, &e.Hop, &e.PeerSubject, &e.PeerFingerprint, &e.TLS, &e.DepositID, &e.Clear, &e.Size, &e.Form, &e.HeaderMessageID,
		&first, &last, &e.Count)
	copy(e.Salt[:], salt)
	e.AsOf, e.First, e.Last = instant(asOf), instant(first), instant(last)
	return e, err
}

// micros and instant map times to whole microseconds since 1970, UTC; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
