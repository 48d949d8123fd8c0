package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"passerelle/crypto/seal"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// schemaRefusal: what a recipient says against a message, and what the page shows of its sender before a code is proved.
const schemaRefusal = `
ALTER TABLE vault_deposits ADD COLUMN face BLOB; -- what the link's page shows of the sender, sealed under the server key; NULL for nothing
CREATE TABLE vault_refusals (
	deposit TEXT NOT NULL,
	kind    TEXT NOT NULL,              -- not me, blocked
	at      INTEGER NOT NULL,
	told    INTEGER NOT NULL DEFAULT 0, -- its sender took the mail about it
	PRIMARY KEY (deposit, kind)
);
CREATE TABLE vault_blocks (
	sender    TEXT NOT NULL, -- addresses as message.Address.Key
	recipient TEXT NOT NULL,
	at        INTEGER NOT NULL,
	PRIMARY KEY (recipient, sender)
);`

// Refusal is what a recipient says against a message.
type Refusal string

// NotMe: the mailbox belongs to somebody else than who was meant. BlockSender: he wants no more of this sender's links.
const (
	NotMe       Refusal = "not me"
	BlockSender Refusal = "blocked"
)

// Face is what the notice and the link's page tell of a sender beside the clinic, before anything was proved: who reads the mailbox reads it.
// Word is no secret that opens anything; it tells the patient that the notice is no fraud.
type Face struct {
	Name string `json:"name,omitempty"`
	Word string `json:"word,omitempty"`
}

func (v *Vault) sealFace(id string, f Face) ([]byte, error) {
	if f == (Face{}) {
		return nil, nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return seal.Value(v.cfg.Key, "face", id, b)
}

// face gives what the page may show of a sender, and nothing where it cannot be read: the page is of use without it.
func (v *Vault) face(r *row) (f Face) {
	if r.face == nil {
		return Face{}
	}
	b, err := seal.OpenValue(v.cfg.Key, "face", r.id, r.face)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		v.cfg.Log.Error("what a page shows of its sender does not open", "deposit", r.id, "err", err)
		return Face{}
	}
	return f
}

// Refuse notes what the recipient of a link says against its message, which needs no code: who was written to by mistake gets none. It ends
// the reminders, of all messages of the sender where he is blocked; the content stays, for its sender to withdraw. told is true where
// the sender was told of it before.
func (v *Vault) Refuse(ctx context.Context, link string, kind Refusal) (s Status, told bool, err error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return Status{}, false, err
	}
	if r.staff || r.sender.IsNull() {
		return Status{}, false, errors.New("refuse deposit: it has no sender who could be told")
	}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		now := ms(v.cfg.Now())
		if kind == BlockSender {
			if _, err := tx.Exec(`INSERT INTO vault_blocks (sender, recipient, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, r.sender.Key(), r.recipient.Key(), now); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`INSERT INTO vault_refusals (deposit, kind, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, r.id, kind, now); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT told FROM vault_refusals WHERE deposit = ? AND kind = ?`, r.id, kind).Scan(&told)
	})
	if err != nil {
		return Status{}, false, fmt.Errorf("refuse deposit %s: %w", r.id, err)
	}
	return v.status(r), told, nil
}

// RefusalTold notes that the sender took the mail about a refusal.
func (v *Vault) RefusalTold(ctx context.Context, id string, kind Refusal) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		return one(tx.Exec(`UPDATE vault_refusals SET told = 1 WHERE deposit = ? AND kind = ?`, id, kind))
	})
	if err != nil {
		return fmt.Errorf("note refusal of deposit %s: %w", id, err)
	}
	return nil
}

// Refused tells whether the recipient of a deposit is not to be reminded of it: it is not for him, or he has its sender blocked now.
func (v *Vault) Refused(ctx context.Context, d *Deposit) (yes bool, err error) {
	err = v.db.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM vault_refusals WHERE deposit = ? AND kind = ?)`, d.ID, NotMe).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for a refusal of deposit %s: %w", d.ID, err)
	}
	if yes {
		return true, nil
	}
	return v.Blocked(ctx, d.Sender, d.Recipient)
}

// Blocked tells whether a recipient wants no links of a sender.
func (v *Vault) Blocked(ctx context.Context, sender, recipient message.Address) (yes bool, err error) {
	err = v.db.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM vault_blocks WHERE recipient = ? AND sender = ?)`, recipient.Key(), sender.Key()).Scan(&yes)
	if err != nil {
		err = fmt.Errorf("look for a blocked sender: %w", err)
	}
	return yes, err
}

// Unblock lets a sender write again; what was not blocked is no error.
func (v *Vault) Unblock(ctx context.Context, sender, recipient message.Address) error {
	err := v.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`DELETE FROM vault_blocks WHERE recipient = ? AND sender = ?`, recipient.Key(), sender.Key())
		return err
	})
	if err != nil {
		return fmt.Errorf("unblock a sender: %w", err)
	}
	return nil
}

// BlockedBy tells whether the recipient of a link has blocked its sender.
func (v *Vault) BlockedBy(ctx context.Context, link string) (bool, error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return false, err
	}
	return v.Blocked(ctx, r.sender, r.recipient)
}

// UnblockBy lets the sender of a link's message write again.
func (v *Vault) UnblockBy(ctx context.Context, link string) error {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return err
	}
	return v.Unblock(ctx, r.sender, r.recipient)
}
