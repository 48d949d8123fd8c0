package vault

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

var phrasesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_vault_phrases_total", Help: "Passphrases of sealed mail that were asked for again, by result.",
}, []string{"result"}) // sms, sender, limited, failed

// Phrase is the passphrase of a ZIP or PDF that left by mail, kept so that its recipient can be told it again. It is sealed under the server key
// together with the link's secret, which stands in that mail alone: with the database, or with the mail, nobody has it.
type Phrase struct {
	Sender, Recipient message.Address // Sender may be null: there is nobody to ask then
	Words             string          // "" where it was agreed: there is nothing to tell
	Phone             string          // E.164 of a mobile; "" where the sender tells it
	Lang              string
}

// PhraseView is what the page of a phrase's link may show. AskSender: the sender can be asked to tell it.
type PhraseView struct {
	Mode        Mode // BySMS, BySender, BySecret
	MaskedPhone string
	Expires     time.Time
	AskSender   bool
}

const phraseSchema = `
CREATE TABLE vault_phrases (
	id         TEXT PRIMARY KEY,
	link       BLOB NOT NULL UNIQUE, -- HMAC of the link's secret
	words      BLOB,                 -- sealed under the link's secret and the server key; NULL where it was agreed
	phone      BLOB,                 -- sealed
	phone_mark BLOB,                 -- HMAC, to count messages to one number, codes among them
	sender     TEXT NOT NULL,
	recipient  TEXT NOT NULL,
	lang       TEXT NOT NULL,
	expires    INTEGER NOT NULL
);
CREATE INDEX vault_phrases_expires ON vault_phrases (expires);`

// PhraseLink is the page of a phrase.
func (v *Vault) PhraseLink(secret string) string { return v.cfg.PublicURL + "/m/" + secret }

// KeepPhrase keeps a phrase for Config.Expiry, under the secret of its link. The same secret keeps the same phrase again: the mail of a repeated
// attempt has the link of the one before.
func (v *Vault) KeepPhrase(ctx context.Context, secret string, p Phrase) (err error) {
	if s, ok := token.ParseLink(secret); !ok || s != secret {
		return errors.New("keep phrase: the link's secret is not one")
	}
	id := v.phraseID(secret)
	var words, phone, phoneMark []byte
	if p.Words != "" {
		if words, err = seal.Value(v.phraseKey(secret), "phrase", id, []byte(p.Words)); err != nil {
			return fmt.Errorf("keep phrase %s: %w", id, err)
		}
		if p.Phone != "" {
			if phone, err = seal.Value(v.cfg.Key, "phone", id, []byte(p.Phone)); err != nil {
				return fmt.Errorf("keep phrase %s: %w", id, err)
			}
			phoneMark = v.phoneMark(p.Phone)
		}
	}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO vault_phrases (id, link, words, phone, phone_mark, sender, recipient, lang, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET words = excluded.words, phone = excluded.phone, phone_mark = excluded.phone_mark, sender = excluded.sender, lang = excluded.lang, expires = excluded.expires`,
			id, v.linkMark(secret), words, phone, phoneMark, p.Sender.String(), p.Recipient.String(), p.Lang, ms(v.cfg.Now().Add(v.cfg.Expiry)))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep phrase %s: %w", id, err)
	}
	return nil
}

// LookPhrase tells what the page of a link may show. It changes nothing.
func (v *Vault) LookPhrase(ctx context.Context, link string) (*PhraseView, error) {
	r, err := v.phrase(ctx, link)
	if err != nil {
		return nil, err
	}
	w := &PhraseView{Mode: BySender, Expires: fromMS(r.expires), AskSender: r.words != nil && !r.sender.IsNull()}
	switch {
	case r.words == nil:
		w.Mode = BySecret
	case r.phone != nil && v.cfg.SMS != nil:
		w.Mode = BySMS
		if phone, err := seal.OpenValue(v.cfg.Key, "phone", r.id, r.phone); err == nil {
			w.MaskedPhone = MaskPhone(string(phone))
		}
	}
	return w, nil
}

// TellPhrase has the passphrase told again, on the recipient's POST: by SMS to the telephone that was known when the mail left, or by the sender,
// who gets it by mail. It never goes to the mailbox that has the link. Limits are those of codes, for each link and each number; what could not be
// handed over does not count.
func (v *Vault) TellPhrase(ctx context.Context, link string, by Mode) error {
	r, err := v.phrase(ctx, link)
	if err != nil {
		return err
	}
	phone := ""
	switch {
	case v.cfg.TellPhrase == nil || r.words == nil,
		by == BySMS && (r.phone == nil || v.cfg.SMS == nil), by == BySender && r.sender.IsNull(), by != BySMS && by != BySender:
		return &Error{Reason: NotSent}
	case by == BySMS:
		p, err := seal.OpenValue(v.cfg.Key, "phone", r.id, r.phone)
		if err != nil {
			return &Error{Reason: Broken, Err: fmt.Errorf("tell phrase %s: %w", r.id, err)}
		}
		phone = string(p)
	default:
		r.phoneMark = nil // nothing goes to the number
	}
	words, err := seal.OpenValue(v.phraseKey(r.secret), "phrase", r.id, r.words)
	if err != nil {
		return &Error{Reason: Broken, Err: fmt.Errorf("tell phrase %s: %w", r.id, err)}
	}
	now := v.cfg.Now()
	var outcome error
	err = v.db.Write(ctx, func(tx store.Tx) error {
		var err error
		if outcome, err = v.limited(ctx, tx, &row{id: r.id, phoneMark: r.phoneMark}, now); outcome != nil || err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO vault_codes (deposit, phone, at) VALUES (?, ?, ?)`, r.id, r.phoneMark, ms(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("tell phrase %s: %w", r.id, err)
	}
	if outcome != nil {
		phrasesTotal.WithLabelValues("limited").Inc()
		return outcome
	}
	sending, done := context.WithTimeout(context.WithoutCancel(ctx), handOverTime) // as of a code: it goes on where the browser has gone
	defer done()
	if err := v.cfg.TellPhrase(sending, Phrase{Sender: r.sender, Recipient: r.recipient, Words: string(words), Phone: phone, Lang: r.lang}); err != nil {
		phrasesTotal.WithLabelValues("failed").Inc()
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		uerr := v.db.Write(clean, func(tx store.Tx) error {
			_, err := tx.Exec(`DELETE FROM vault_codes WHERE deposit = ? AND at = ?`, r.id, ms(now))
			return err
		})
		v.cfg.Log.Warn("passphrase not told again", "phrase", r.id, "by", by, "err", err)
		return &Error{Reason: NotSent, Err: errors.Join(err, uerr)}
	}
	phrasesTotal.WithLabelValues(string(by)).Inc()
	return nil
}

// phraseRow is one phrase as the database holds it, with the secret of the link that led to it.
type phraseRow struct {
	id, secret, lang        string
	words, phone, phoneMark []byte
	sender, recipient       message.Address
	expires                 int64
}

// phrase gives the living phrase of a link. Wrong and unknown links take the same path.
func (v *Vault) phrase(ctx context.Context, link string) (*phraseRow, error) {
	secret, ok := token.ParseLink(link)
	if !ok {
		return nil, &Error{Reason: NotFound}
	}
	r := &phraseRow{secret: secret}
	var sender, recipient string
	err := v.db.Read().QueryRowContext(ctx, `SELECT id, words, phone, phone_mark, sender, recipient, lang, expires FROM vault_phrases WHERE link = ?`, v.linkMark(secret)).
		Scan(&r.id, &r.words, &r.phone, &r.phoneMark, &sender, &recipient, &r.lang, &r.expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &Error{Reason: NotFound}
	}
	if err != nil {
		return nil, fmt.Errorf("read phrase: %w", err)
	}
	if r.sender, err = message.ParseAddress(sender, true); err != nil {
		return nil, fmt.Errorf("read phrase %s: sender: %w", r.id, err)
	}
	if r.recipient, err = message.ParseAddress(recipient, true); err != nil {
		return nil, fmt.Errorf("read phrase %s: recipient: %w", r.id, err)
	}
	if ms(v.cfg.Now()) >= r.expires {
		return nil, &Error{Reason: Gone}
	}
	return r, nil
}

func (v *Vault) sweepPhrases(ctx context.Context, now time.Time) error {
	return v.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`DELETE FROM vault_phrases WHERE expires <= ?`, ms(now))
		return err
	})
}

// phraseID names a phrase in the database and the log; nobody finds the link by it.
func (v *Vault) phraseID(secret string) string {
	return hex.EncodeToString(seal.Mark(v.cfg.Key, "phrase id", secret)[:16])
}

// phraseKey seals the words for who has the link's secret and the server key.
func (v *Vault) phraseKey(secret string) (k seal.Key) {
	copy(k[:], seal.Mark(v.cfg.Key, "phrase key", secret))
	return k
}
