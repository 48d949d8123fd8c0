package vault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// DepositRequest is what shall be kept for one recipient.
type DepositRequest struct {
	Sender, Recipient message.Address
	// Phone is the recipient's number as it was given, "" where none is known. Where it cannot receive an SMS, or the vault has no
	// way to send one, the code is told by the sender.
	Phone string
	// Mode asks for a way of the code; "" means by SMS where possible, else by the sender.
	Mode Mode
	// Secret is the phrase of BySecret, which must have one. It lives as long as the deposit; blanks in it count as one.
	Secret string
	// Identity is who the recipient is, for who proves himself by an OpenID provider: beside every mode, and alone with ByOIDC.
	Identity Identity
	// Proof is the proof that a rule asks for, "" where none does; a deposit that would open by another is refused.
	Proof Mode
	Lang  string // "fr" or "en", "" where unknown
	// Expiry overrides the vault's.
	Expiry time.Duration
	// Sending is the message that this is one recipient's copy of: what SendingKey gave, "" where nobody is told of it.
	Sending string
	// Hold: its notice waits for a telephone number. It gets neither mode nor code before Complete.
	Hold bool
	// Staff: it is for a member of the clinic's staff, about a message from the trust space.
	Staff bool
	// Face is what is told of the sender beside the clinic before a code is proved.
	Face Face

	Subject, FromLabel, MessageID string
	Date                          time.Time
	Text, HTML                    string
	Files                         []File
}

// Deposit is a deposit as its maker holds it. Link and Code exist nowhere else in clear: neither goes into a log or a ledger.
type Deposit struct {
	ID                string
	Link              string // URL of the patient's page
	Short             string // what is typed on the page of PublicURL/retrait in the place of the link; with strict the link's own secret
	Code              string // BySender: the code to be told; else ""
	Mode              Mode
	Lang              string
	Created, Expires  time.Time
	Sender, Recipient message.Address
	MaskedPhone       string
	Phone             string // BySender: the number to tell it to, E.164, "" where none is known; else ""
	Size              int64  // of the sealed payload
	Staff, Held       bool
	Sending           string // its id, "" for none
	Face              Face
}

// errGone tells a closure's caller that no row was in the state it needed.
var errGone = errors.New("the deposit is not in that state")

// Deposit seals the content and returns when row and payload are durable. The deposit is pending: until Activate it opens for
// nobody, and a sweep removes it after an hour. The row is written first, so that a payload without a row is always an orphan.
func (v *Vault) Deposit(ctx context.Context, r DepositRequest) (*Deposit, error) {
	if r.Recipient.IsNull() {
		return nil, errors.New("deposit: no recipient")
	}
	now := v.cfg.Now()
	if r.Expiry <= 0 {
		r.Expiry = v.cfg.Expiry
	}
	var raw [16]byte
	rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	secret := token.NewLink()
	short, typed := token.NewShort(), ""
	if v.cfg.Strict { // 80 bits could be tried at home by who stole database and server key: there the link itself is typed
		short, typed = "", secret
	}
	d := &Deposit{ID: id, Link: v.cfg.PublicURL + "/r/" + secret, Short: short + typed, Mode: BySender, Lang: r.Lang, Sender: r.Sender, Recipient: r.Recipient, Staff: r.Staff, Held: r.Hold, Face: r.Face,
		Created: now.UTC().Truncate(time.Millisecond), Expires: now.Add(r.Expiry).UTC().Truncate(time.Millisecond)}

	var phone, phoneMark, resend, code []byte
	var codeUntil int64
	var err error
	if e164, mobile, perr := ParsePhone(r.Phone); perr == nil {
		if phone, err = seal.Value(v.cfg.Key, "phone", id, []byte(e164)); err != nil {
			return nil, fmt.Errorf("deposit %s: %w", id, err)
		}
		phoneMark = v.phoneMark(e164)
		d.MaskedPhone = MaskPhone(e164)
		if mobile && v.cfg.SMS != nil && (r.Mode == "" || r.Mode == BySMS) {
			d.Mode = BySMS
		}
	}
	if r.Mode == BySecret {
		phrase, ok := parsePhrase(r.Secret)
		if !ok {
			return nil, errors.New("deposit: the agreed phrase is empty or too long")
		}
		d.Mode, code, codeUntil = BySecret, v.codeMark(id, phrase), ms(d.Expires)
	}
	identity, err := v.sealIdentity(id, r.Identity)
	if err != nil {
		return nil, fmt.Errorf("deposit %s: %w", id, err)
	}
	switch {
	case r.Mode == ByEmail && v.cfg.ToRecipient == nil:
		return nil, errors.New("deposit: no code goes by e-mail")
	case r.Mode == ByOIDC && identity == nil:
		return nil, errors.New("deposit: the recipient's identity is not known")
	case r.Mode == ByEmail: // its limits are the mailbox's
		d.Mode, phoneMark = ByEmail, seal.Mark(v.cfg.Key, "mailbox", r.Recipient.Key())
	case r.Mode == ByOIDC:
		d.Mode = ByOIDC
	}
	if r.Proof != "" && r.Proof != d.Mode && !r.Hold {
		return nil, fmt.Errorf("deposit: it would open by %s, and %s is asked for", d.Mode, r.Proof)
	}
	if d.Mode == BySender && !r.Hold { // told once, so it lives as long as the deposit
		d.Code, d.Phone = token.NewCode(), v.phone(id, phone)
		code, codeUntil = v.codeMark(id, d.Code), ms(d.Expires)
	}
	if !v.cfg.Strict || r.Hold { // a held one has no notice yet: the record goes with it
		if resend, err = seal.Value(v.cfg.Key, "resend", id, []byte(secret+short)); err != nil {
			return nil, fmt.Errorf("deposit %s: %w", id, err)
		}
	}
	var shortMark, shortLink []byte
	if short != "" {
		shortMark = v.shortMark(short)
		if shortLink, err = seal.Value(v.shortKey(short), "short", id, []byte(secret)); err != nil {
			return nil, fmt.Errorf("deposit %s: %w", id, err)
		}
	}
	lock, err := seal.NewLock(v.cfg.Key, []byte(secret), id)
	if err != nil {
		return nil, fmt.Errorf("deposit %s: %w", id, err)
	}
	header, payload, err := seal.Split(lock, container(Manifest{Subject: r.Subject, From: r.FromLabel, Date: r.Date, MessageID: r.MessageID,
		Text: r.Text, HTML: r.HTML}, r.Files))
	if err != nil {
		return nil, fmt.Errorf("deposit %s: %w", id, err)
	}
	face, err := v.sealFace(id, r.Face)
	if err != nil {
		return nil, fmt.Errorf("deposit %s: %w", id, err)
	}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		var err error
		if d.Sending, err = v.join(tx, &r, d.Created); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO vault_deposits
			(id, link, header, resend, phone, phone_mark, created, expires, changed, next_due, state, sender, recipient, lang, mode, code1, code1_until, sending, staff, short, short_link, identity, proof, face)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, v.linkMark(secret), header, resend, phone, phoneMark, ms(d.Created), ms(d.Expires), ms(d.Created), ms(d.Created.Add(pendingLife)),
			Pending, r.Sender.String(), r.Recipient.String(), r.Lang, d.Mode, code, codeUntil, d.Sending, r.Staff, shortMark, shortLink, identity, r.Proof, face)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("deposit %s: %w", id, err)
	}
	moved("", Pending)
	if err := v.blobs.Put(ctx, id, payload); err != nil {
		// The caller's context may be what ended; the sweep would do the same in an hour.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("deposit %s: %w", id, err), v.Destroy(clean, id))
	}
	return d, nil
}

// Activate opens a deposit to its recipient: the notice was accepted. What is open already is no error, as of Hold: who does not know whether it was
// done repeats it.
func (v *Vault) Activate(ctx context.Context, id string) error {
	if err := v.begin(ctx, id, Waiting); err != nil {
		return fmt.Errorf("activate deposit %s: %w", id, err)
	}
	return nil
}

// Hold keeps a deposit whose notice waits for a telephone number: its sender is asked for it in the next summary, which is due now. Complete
// goes on with it; after HoldLife it ends.
func (v *Vault) Hold(ctx context.Context, id string) error {
	if err := v.begin(ctx, id, Held); err != nil {
		return fmt.Errorf("hold deposit %s: %w", id, err)
	}
	return nil
}

// reopenQuery wants the recipient and the sender.
const reopenQuery = `UPDATE vault_deposits INDEXED BY vault_deposits_closed SET closed = 0 WHERE recipient = ? AND sender = ? AND closed = 1`

// begin takes a deposit out of Pending. Of the same two people no exchange is closed any more: who writes again opens it.
func (v *Vault) begin(ctx context.Context, id string, to State) error {
	b, err := v.blobs.Open(id)
	if err != nil {
		return err
	}
	size := b.Size()
	b.Close()
	err = v.db.Write(ctx, func(tx store.Tx) error {
		r, err := readRow(tx.QueryRow, `id = ?`, id)
		if err != nil {
			return err
		}
		r.state = to
		if err := one(tx.Exec(`UPDATE vault_deposits SET state = ?, size = ?, changed = ?, next_due = ? WHERE id = ? AND state = ?`,
			to, size, ms(v.cfg.Now()), v.nextDue(r), id, Pending)); err != nil {
			return err
		}
		if _, err = tx.Exec(reopenQuery, r.recipient.String(), r.sender.String()); err != nil {
			return err
		}
		return v.joined(tx, r.sending)
	})
	if (errors.Is(err, store.ErrUnknown) || errors.Is(err, errGone)) && v.stands(ctx, id, to) {
		err = nil
	}
	if err != nil {
		return err
	}
	moved(Pending, to)
	bytesGauge.Add(float64(size))
	return nil
}

// stands tells whether a deposit is in that state, for who does not know whether his write was done. Else a message that its recipient has in hand
// by now would be destroyed, and sent again.
func (v *Vault) stands(ctx context.Context, id string, state State) (yes bool) {
	err := v.db.Write(ctx, func(tx store.Tx) error { // behind the unknown one, which a look at the rows beside it might be too early for
		var now State
		err := tx.QueryRow(`SELECT state FROM vault_deposits WHERE id = ?`, id).Scan(&now)
		yes = err == nil && (now == state || state == Waiting && now == Opened) // its reader was faster
		return err
	})
	return yes && err == nil
}

// Destroy takes back a deposit whose notice was not accepted: no trace of it stays. Of one that somebody was told of the content is gone for good.
// What is destroyed already is no error.
func (v *Vault) Destroy(ctx context.Context, id string) error {
	if err := v.end(ctx, id, Destroyed); err != nil {
		return fmt.Errorf("destroy deposit %s: %w", id, err)
	}
	return nil
}

// Revoke is Destroy by the sender's or the operator's will; the patient's page tells that the message is no longer there.
func (v *Vault) Revoke(ctx context.Context, id string) error {
	if err := v.end(ctx, id, Revoked); err != nil {
		return fmt.Errorf("revoke deposit %s: %w", id, err)
	}
	return nil
}

// forget is the part of an UPDATE that removes every key and every secret of a row.
const forget = `header = NULL, resend = NULL, short = NULL, short_link = NULL, phone = NULL, phone_mark = NULL, face = NULL, code1 = NULL, code2 = NULL, identity = NULL`

func (v *Vault) end(ctx context.Context, id string, to State) error {
	var from State
	var size int64
	err := v.db.Write(ctx, func(tx store.Tx) error {
		from, size = "", 0
		err := tx.QueryRow(`SELECT state, size FROM vault_deposits WHERE id = ?`, id).Scan(&from, &size)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case from == Pending:
			_, err = tx.Exec(`DELETE FROM vault_deposits WHERE id = ?`, id)
		case from.keeps():
			now := ms(v.cfg.Now())
			if _, err = tx.Exec(`UPDATE vault_deposits SET state = ?, changed = ?, ended = ?, next_due = 0, `+forget+` WHERE id = ?`, to, now, now, id); err == nil {
				err = v.settled(tx, now, id)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	switch from {
	case Pending:
		moved(Pending, "")
	case Held, Waiting, Opened:
		moved(from, to)
		bytesGauge.Sub(float64(size))
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	if err := v.blobs.Delete(ctx, id); err != nil { // its key is gone: what is left is noise
		v.cfg.Log.Warn("the payload of a deposit that has ended stays until the next look at orphans", "deposit", id, "err", err)
	}
	return nil
}

// deleteTime bounds the wait for a payload that nobody can open any more.
const deleteTime = 10 * time.Second

// Reissue gives a living deposit again with its link, for a reminder. It fails where the resend record is absent (strict).
func (v *Vault) Reissue(ctx context.Context, id string) (*Deposit, error) {
	r, err := v.row(ctx, `id = ?`, id)
	if err != nil {
		return nil, fmt.Errorf("reissue deposit %s: %w", id, err)
	}
	if !r.alive(v.cfg.Now()) {
		return nil, fmt.Errorf("reissue deposit %s: %w", id, errGone)
	}
	link, short, err := v.resendRecord(r)
	if err != nil {
		return nil, fmt.Errorf("reissue deposit %s: %w", id, err)
	}
	return &Deposit{ID: id, Link: link, Short: short, Mode: r.mode, Lang: r.lang, Created: fromMS(r.created),
		Expires: fromMS(r.expires), Sender: r.sender, Recipient: r.recipient, MaskedPhone: v.masked(r), Size: r.size, Staff: r.staff, Sending: r.sending, Face: v.face(r)}, nil
}

// resendRecord gives the link and its short form; a deposit of an older version has no short form.
func (v *Vault) resendRecord(r *row) (link, short string, err error) {
	b, err := seal.OpenValue(v.cfg.Key, "resend", r.id, r.resend)
	if err == nil && len(b) < token.LinkLength {
		err = errors.New("the resend record is too short")
	}
	if err != nil {
		return "", "", err
	}
	if short = string(b[token.LinkLength:]); short == "" && v.cfg.Strict {
		short = string(b)
	}
	return v.cfg.PublicURL + "/r/" + string(b[:token.LinkLength]), short, nil
}

// one is nil where exactly one row was changed.
func one(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errGone
	}
	return nil
}

func (v *Vault) linkMark(secret string) []byte { return seal.Mark(v.cfg.Key, "link", secret) }

func (v *Vault) phoneMark(e164 string) []byte { return seal.Mark(v.cfg.Key, "phone", e164) }

func (v *Vault) shortMark(short string) []byte { return seal.Mark(v.cfg.Key, "short", short) }

// shortKey seals the link's secret for who has the short form and the server key.
func (v *Vault) shortKey(short string) (k seal.Key) {
	copy(k[:], seal.Mark(v.cfg.Key, "short key", short))
	return k
}

// parsePhrase is an agreed phrase as it is compared. The word before it tells it from a code of six digits.
func parsePhrase(s string) (string, bool) {
	s = norm.NFC.String(strings.Join(strings.Fields(s), " ")) // of the list and of keyboards, which compose accents as they like
	return "phrase " + s, s != "" && len(s) <= 500
}

func (v *Vault) codeMark(id, code string) []byte { return seal.Mark(v.cfg.Key, "code", id, code) }
