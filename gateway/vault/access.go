package vault

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

const (
	wrongPerLock = 5                // so many wrong codes lock for
	lockStep     = 5 * time.Minute  // and the next for twice as long, up to
	longestLock  = 24 * time.Hour   // ; after
	wrongInAll   = 20               // every code is void
	sessionLife  = 60 * time.Minute // of a proved code in a browser
)

// View is what a link's page may show before a code was proved.
type View struct {
	ID          string
	Mode        Mode
	MaskedPhone string
	Lang        string
	Expires     time.Time
	// CodeSent: a code is valid now. By SMS it has left; by the sender it can be told.
	CodeSent bool
	// LockedUntil is in the future while codes are not looked at.
	LockedUntil time.Time
	// Patient and Professional: there is an identity to compare with what a provider of theirs shows.
	Patient, Professional bool
	Face                  Face
	// Refusable: its sender can be told that it is not wanted.
	Refusable bool
}

// LinkLength is the length of the secret in a link.
const LinkLength = token.LinkLength

// ParseLink gives the one spelling of a link's secret, as find forgives it; it tells nothing of whether there is such a link.
func ParseLink(s string) (secret string, ok bool) { return token.ParseLink(s) }

// find gives the living deposit of a link. Wrong and unknown links take the same path: one HMAC, one look-up.
func (v *Vault) find(ctx context.Context, link string) (*row, string, error) {
	secret, ok := token.ParseLink(link)
	if !ok {
		secret = noLink // is looked for like every other, and found as little
	}
	r, err := v.row(ctx, `link = ?`, v.linkMark(secret))
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return nil, "", &Error{Reason: NotFound}
	}
	return r, secret, r.check(v.cfg.Now())
}

// noLink is as long as a link's secret and none: its letters are not in the alphabet.
const noLink = "uuuuuuuuuuuuuuuuuuuuuuuuuu"

// Typed gives the link's secret for the code that its recipient typed in its place. It is no proof: what opens is asked for behind it.
func (v *Vault) Typed(ctx context.Context, typed string, from netip.Addr) (link string, err error) {
	short, ok := token.ParseShort(typed)
	whole, long := token.ParseLink(typed)
	if !ok && !long {
		return "", &Error{Reason: NotFound}
	}
	if !v.peers.Allow(Range(from), v.cfg.Now()) {
		return "", &Error{Reason: SlowDown}
	}
	if long {
		_, _, err := v.find(ctx, whole)
		return whole, err
	}
	var id string
	var sealed []byte
	err = v.db.Read().QueryRowContext(ctx, `SELECT id, short_link FROM vault_deposits WHERE short = ?`, v.shortMark(short)).Scan(&id, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return "", &Error{Reason: NotFound}
	}
	if err != nil {
		return "", fmt.Errorf("find what was typed: %w", err)
	}
	secret, err := seal.OpenValue(v.shortKey(short), "short", id, sealed)
	if err != nil {
		return "", &Error{Reason: Broken, Err: fmt.Errorf("open the short form of deposit %s: %w", id, err)}
	}
	return string(secret), nil
}

// Look tells what a link's page may show. It changes nothing, however often and by whomever it is called.
func (v *Vault) Look(ctx context.Context, link string) (*View, error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return nil, err
	}
	now := v.cfg.Now()
	w := &View{ID: r.id, Mode: r.mode, Lang: r.lang, Expires: fromMS(r.expires), CodeSent: r.codeValid(now), MaskedPhone: v.masked(r)}
	if r.locked > ms(now) {
		w.LockedUntil = fromMS(r.locked)
	}
	who := v.identity(r)
	w.Patient, w.Professional = who.Patient(), who.Professional()
	w.Face, w.Refusable = v.face(r), !r.staff && !r.sender.IsNull()
	return w, nil
}

// Prove compares a code with the last two and gives a session where it fits. Wrong codes slow down, lock for a while and at last
// void the codes; they never touch the content. What is refused by a limit or a lock was not compared.
//
// asked is what Ask gave to this browser, "" where it gave nothing. Who asked for a code has a few tries of his own at it, which no lock or void
// of others takes away: the code is on the patient's telephone, and who guesses must have one sent, which is limited, for each few tries.
func (v *Vault) Prove(ctx context.Context, link, code, asked string, from netip.Addr) (session string, err error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return "", err
	}
	now := v.cfg.Now()
	read := token.ParseCode
	if r.mode == BySecret {
		read = parsePhrase
	}
	code, ok := read(code)
	if !ok { // what is no code is no guess: an empty form that a scanner sends costs the patient nothing
		return "", &Error{Reason: WrongCode}
	}
	var own *ask
	if own, err = v.asked(ctx, r.id, asked, now); err != nil {
		return "", err
	}
	bucket := r.id
	if own != nil {
		bucket += asked
	}
	if !v.peers.Allow(Range(from), now) || !v.links.Allow(bucket, now) {
		codesTotal.WithLabelValues("slowed").Inc()
		return "", &Error{Reason: SlowDown, Until: now.Add(codeEvery)}
	}
	var outcome error
	switch { // looked at again below; here it spares a guesser's thousands their place among the writers
	case own != nil:
	case r.locked > ms(now):
		outcome = &Error{Reason: Locked, Until: fromMS(r.locked)}
	case !r.codeValid(now):
		outcome = &Error{Reason: CodeVoid}
	}
	if outcome != nil {
		v.counted(r.id, outcome, from)
		return "", fmt.Errorf("prove code: %w", outcome)
	}
	mark := v.codeMark(r.id, code)
	var was State
	err = v.db.Write(ctx, func(tx store.Tx) error {
		outcome, was = nil, ""
		r, err := readRow(tx.QueryRow, `id = ?`, r.id)
		if err != nil {
			return err
		}
		if outcome = r.check(now); outcome != nil {
			return nil
		}
		fits := token.Equal(mark, r.code1) && ms(now) < r.code1Until
		fits = token.Equal(mark, r.code2) && ms(now) < r.code2Until || fits
		mine, err := own.take(tx)
		if err != nil {
			return err
		}
		switch {
		case mine && (fits || token.Equal(mark, own.code)), !mine && fits && r.locked <= ms(now):
			was = r.state
			return v.opened(tx, r, string(r.mode), now)
		case mine:
			outcome = &Error{Reason: WrongCode}
			return nil
		case r.locked > ms(now):
			outcome = &Error{Reason: Locked, Until: fromMS(r.locked)}
			return nil
		case !r.codeValid(now):
			outcome = &Error{Reason: CodeVoid}
			return nil
		}
		e := &Error{Reason: WrongCode}
		outcome = e
		return v.wrong(tx, r, e, now)
	})
	if err == nil {
		err = outcome
	}
	if err != nil {
		v.counted(r.id, err, from)
		return "", fmt.Errorf("prove code: %w", err)
	}
	codesTotal.WithLabelValues("right").Inc()
	moved(was, Opened)
	return v.session(r.id, now.Add(sessionLife)), nil
}

// wrong counts a wrong proof: each fifth locks, the twentieth makes the codes void. e is told what became of it.
func (v *Vault) wrong(tx store.Tx, r *row, e *Error, now time.Time) error {
	r.wrong++
	switch {
	case r.wrong >= wrongInAll && r.mode != BySecret: // of a phrase there is no other one to ask for
		e.Reason, e.fresh, r.code1, r.code2, r.wrong = CodeVoid, true, nil, nil, 0
	case r.wrong%wrongPerLock == 0:
		e.Reason, e.fresh, e.Until = Locked, true, now.Add(min(longestLock, lockStep<<min(r.locks, 16)))
		r.locked = max(r.locked, ms(e.Until))
		r.locks++
	}
	return one(tx.Exec(`UPDATE vault_deposits SET wrong = ?, locked = ?, locks = ?, code1 = ?, code2 = ?, changed = ? WHERE id = ?`,
		r.wrong, r.locked, r.locks, r.code1, r.code2, ms(now), r.id))
}

// counted tells the metrics and the log of a proof that failed.
func (v *Vault) counted(id string, err error, from netip.Addr) {
	switch Why(err) {
	case WrongCode, NotSame:
		codesTotal.WithLabelValues("wrong").Inc()
	case Locked:
		codesTotal.WithLabelValues("locked").Inc()
		if e := (*Error)(nil); errors.As(err, &e) && e.fresh {
			v.cfg.Log.Warn("locked after wrong codes", "deposit", id, "from", Range(from), "until", e.Until)
		}
	case CodeVoid:
		codesTotal.WithLabelValues("void").Inc()
		if e := (*Error)(nil); errors.As(err, &e) && e.fresh {
			v.cfg.Log.Warn("no code is valid any more", "deposit", id, "from", Range(from))
		}
	}
}

// opened notes that a proof was given, and at which level the first one.
func (v *Vault) opened(tx store.Tx, r *row, level string, now time.Time) error {
	first := r.opened == 0
	if first {
		r.opened, r.level, r.state = ms(now), level, Opened
	}
	if err := one(tx.Exec(`UPDATE vault_deposits SET state = ?, wrong = 0, asked = 0, opened = ?, level = ?, openings = openings + 1, changed = ?, next_due = ? WHERE id = ?`,
		Opened, r.opened, r.level, ms(now), v.nextDue(r), r.id)); err != nil || !first {
		return err
	}
	return v.settled(tx, ms(now), r.id)
}

// session is a proof that a browser shows again: end and HMAC. What ends a deposit ends its sessions, because every use looks at
// the row.
func (v *Vault) session(id string, end time.Time) string {
	e := strconv.FormatInt(end.Unix(), 16)
	return e + "." + hex.EncodeToString(seal.Mark(v.cfg.Key, "session", id, e))
}

func (v *Vault) sessionValid(id, session string, now time.Time) bool {
	e, mac, ok := strings.Cut(session, ".")
	got, err := hex.DecodeString(mac)
	if !ok || err != nil || !token.Equal(got, seal.Mark(v.cfg.Key, "session", id, e)) {
		return false
	}
	end, err := strconv.ParseInt(e, 16, 64)
	return err == nil && now.Unix() < end
}

// Content is an open deposit. It must be closed.
type Content struct {
	*Manifest
	ID                string
	Sender, Recipient message.Address
	Expires           time.Time
	// Level is how the first opening was proved.
	Level string
	// Closed: the exchange takes no answer any more. Staff: it is for a member of the staff.
	Closed, Staff bool
	plain         io.ReaderAt
	blob          Blob
}

// File reads the i-th file from any offset.
func (c *Content) File(i int) *io.SectionReader {
	f := c.Files[i]
	return io.NewSectionReader(c.plain, f.Offset, f.Size)
}

// Close gives the payload back.
func (c *Content) Close() error { return c.blob.Close() }

// Open gives the content to a browser that proved the code.
func (v *Vault) Open(ctx context.Context, link, session string) (*Content, error) {
	r, secret, err := v.find(ctx, link)
	if err != nil {
		return nil, err
	}
	if !v.sessionValid(r.id, session, v.cfg.Now()) {
		return nil, &Error{Reason: NoSession}
	}
	lock, err := seal.NewLock(v.cfg.Key, []byte(secret), r.id)
	if err != nil {
		return nil, fmt.Errorf("open deposit %s: %w", r.id, err)
	}
	blob, err := v.blobs.Open(r.id)
	if err != nil {
		return nil, &Error{Reason: Broken, Err: fmt.Errorf("open deposit %s: %w", r.id, err)}
	}
	plain, size, err := seal.Open(lock, r.header, blob, blob.Size())
	if err == nil {
		var m *Manifest
		if m, err = readManifest(plain, size); err == nil {
			return &Content{Manifest: m, ID: r.id, Sender: r.sender, Recipient: r.recipient, Expires: fromMS(r.expires), Level: r.level, Closed: r.closed, Staff: r.staff, plain: plain, blob: blob}, nil
		}
	}
	blob.Close()
	return nil, &Error{Reason: Broken, Err: fmt.Errorf("open deposit %s: %w", r.id, err)}
}
