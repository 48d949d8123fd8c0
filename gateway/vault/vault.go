// Package vault keeps sealed deposits and their life: codes, expiry, revocation. It takes a message's text and files with the
// addresses of its sender and recipient, gives a link, the notice that brings it, and the content back to whoever proved a code;
// and knows nothing of rules, sockets of mail or pages.
//
// A deposit's content is sealed so that neither the database nor the link alone opens it (crypto/seal). Its life:
//
//	pending -> waiting -> opened           Deposit, Activate (the notice was accepted), Prove
//	   |  held /  |          |             Hold (its telephone is not known), Complete
//	 (gone)    expired | revoked | destroyed   Sweep, Revoke, Destroy: the key header is removed, the blob deleted
//
// The deposits of one message are a sending (sending.go): its sender is told of all of them at once, and withdraws one or all.
package vault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // people read Europe/Paris, also in a container without zone files

	"passerelle/crypto/seal"
	"passerelle/gateway/brand"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// Database is what the vault needs of a store: closures that commit durably before Write returns, and may be run more than once.
type Database interface {
	Write(ctx context.Context, f func(store.Tx) error) error
	Read() *sql.DB
	Migrate(ctx context.Context, room string, steps ...string) error
}

// Blob is a stored payload.
type Blob interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// Blobs is the blob place. Put is durable before it returns; Delete of what is not there is no error. List gives all ids, some at a time.
type Blobs interface {
	Put(ctx context.Context, id string, r io.Reader) error
	Open(id string) (Blob, error)
	Delete(ctx context.Context, ids ...string) error
	List(ctx context.Context, f func(ids []string) error) error
}

// Clinic is how the clinic presents itself to patients.
type Clinic struct {
	Name string
	// Phone is the number to call back, as it shall be read.
	Phone string
}

// Mode is the way in which a code reaches the patient.
type Mode string

// The code comes by SMS when the patient asks for it, or the sender tells it by telephone; or it comes to the mailbox that the link came to; or
// there is none, and a phrase agreed with the recipient proves him, or an OpenID provider alone.
const (
	BySMS    Mode = "sms"
	BySender Mode = "sender"
	BySecret Mode = "secret"
	ByEmail  Mode = "email"
	ByOIDC   Mode = "oidc"
)

// Config sets up a vault. Key, PublicURL and Clinic.Name are required.
type Config struct {
	// Key is the server key. It lives outside of the state folder.
	Key seal.Key
	// PublicURL is the portal's address as patients reach it, without the final slash.
	PublicURL string
	// Expiry is a deposit's life; 0 means 30 days.
	Expiry time.Duration
	// Keep is how long after its end the status of a deposit is kept; 0 means 400 days. The ledger stays.
	Keep time.Duration
	// Strict leaves out the resend record: with database, blobs and server key stolen together nothing opens without the link.
	Strict bool
	// Reminders are the ages at which a deposit that nobody opened is told of again; Report is the age at which its sender hears that it
	// is not opened, 0 for never.
	Reminders []time.Duration
	Report    time.Duration
	Clinic    Clinic
	// Brand is the clinic's colours and words; nil is the house's own.
	Brand *brand.Brand
	// NoticeLabel is the neutral display name of the notice's From; "" means "Messagerie sécurisée".
	NoticeLabel string
	// NoticeFrom is the address in From of what the vault itself sends to recipients; null means the sender's own.
	NoticeFrom message.Address
	// SMS sends a code to a telephone; nil means that every code is told by the sender.
	SMS SMS
	// ToSender hands a mail to the clinic's own server and returns when it was accepted. It brings a sender the new code after too
	// many wrong ones; nil means that the patient is asked to call.
	ToSender func(ctx context.Context, to message.Address, body *message.Body) error
	// TellPhrase tells a passphrase again, by SMS where Phone is set, else by mail to the sender, and returns when it was accepted; nil means that
	// none is told again. Its error must hold neither number nor words.
	TellPhrase func(context.Context, Phrase) error
	// ToRecipient hands a mail to the server of a recipient's mailbox, for ByEmail; nil means that no code goes there.
	ToRecipient func(ctx context.Context, to message.Address, body *message.Body) error
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// State is where a deposit stands.
type State string

// The states of a deposit.
const (
	Pending   State = "pending"
	Held      State = "held" // sealed, its notice waits for a telephone number
	Waiting   State = "waiting"
	Opened    State = "opened"
	Expired   State = "expired"
	Revoked   State = "revoked"
	Destroyed State = "destroyed"
)

// keeps tells whether there is content in that state, other than one that nobody was told of.
func (s State) keeps() bool { return s == Held || s == Waiting || s == Opened }

// Reason says why the vault did not do what a person asked for.
type Reason string

// The reasons of an Error.
const (
	NotFound  Reason = "not found"           // no such link, or not yet active
	Gone      Reason = "gone"                // expired, revoked or destroyed
	WrongCode Reason = "wrong code"          // not one of the last two, or out of date
	SlowDown  Reason = "slow down"           // too fast, not looked at
	Locked    Reason = "locked"              // too many wrong ones, until Until
	CodeVoid  Reason = "code void"           // no code is valid: a new one must be asked for
	Limited   Reason = "limited"             // enough codes were sent for now
	NotSent   Reason = "not sent"            // the code could not be handed over
	NotSame   Reason = "not the same person" // the identity shown is not the one that the sender gave
	NoSession Reason = "not proved"          // the code was not proved, or too long ago
	Broken    Reason = "does not open"       // the sealed bytes do not open
)

// Error is what a patient's request ended in.
type Error struct {
	Reason Reason
	Until  time.Time // of Locked and Limited: when to try again, zero where nobody knows
	Err    error
	fresh  bool // of Locked and CodeVoid: this very try did it
}

func (e *Error) Error() string {
	if e.Err != nil {
		return "vault: " + string(e.Reason) + ": " + e.Err.Error()
	}
	return "vault: " + string(e.Reason)
}

func (e *Error) Unwrap() error { return e.Err }

// Why gives the reason in err, or "" where it is no *Error.
func Why(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// Vault keeps deposits. It has no goroutine of its own: its owner calls Sweep.
type Vault struct {
	db    Database
	blobs Blobs
	cfg   Config
	paris *time.Location
	links *Limiter
	peers *Limiter
	swept *atomic.Int64 // when all was last looked at
	// sweepTime is the constant; tests shorten it.
	sweepTime time.Duration
}

const schema = `
CREATE TABLE vault_deposits (
	id         TEXT PRIMARY KEY,
	link       BLOB NOT NULL UNIQUE, -- HMAC of the link's secret
	header     BLOB,                 -- age header: without it the payload is noise
	resend     BLOB,                 -- the link's secret, sealed; NULL with strict
	phone      BLOB,                 -- sealed
	phone_mark BLOB,                 -- HMAC, to count messages to one number
	created    INTEGER NOT NULL,     -- times are milliseconds since 1970, UTC
	expires    INTEGER NOT NULL,
	changed    INTEGER NOT NULL,
	next_due   INTEGER NOT NULL,
	state      TEXT NOT NULL,
	sender     TEXT NOT NULL,
	recipient  TEXT NOT NULL,
	lang       TEXT NOT NULL,
	mode       TEXT NOT NULL,
	size       INTEGER NOT NULL DEFAULT 0,
	code1      BLOB, code1_until INTEGER NOT NULL DEFAULT 0, -- HMACs of the last two codes
	code2      BLOB, code2_until INTEGER NOT NULL DEFAULT 0,
	wrong      INTEGER NOT NULL DEFAULT 0, -- wrong codes since the last new one
	locked     INTEGER NOT NULL DEFAULT 0,
	opened     INTEGER NOT NULL DEFAULT 0, -- first time
	openings   INTEGER NOT NULL DEFAULT 0,
	answers    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX vault_deposits_due ON vault_deposits (next_due);
CREATE TABLE vault_codes (
	deposit TEXT NOT NULL,
	phone   BLOB,
	at      INTEGER NOT NULL
);
CREATE INDEX vault_codes_deposit ON vault_codes (deposit, at);
CREATE INDEX vault_codes_phone ON vault_codes (phone, at);
CREATE INDEX vault_codes_at ON vault_codes (at);`

const schemaLife = `
ALTER TABLE vault_deposits ADD COLUMN sending TEXT NOT NULL DEFAULT '';
ALTER TABLE vault_deposits ADD COLUMN short BLOB;      -- HMAC of the code that is typed in the place of the link
ALTER TABLE vault_deposits ADD COLUMN short_link BLOB; -- the link's secret, sealed under that code and the server key
ALTER TABLE vault_deposits ADD COLUMN staff INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vault_deposits ADD COLUMN reminders INTEGER NOT NULL DEFAULT 0; -- sent so far
ALTER TABLE vault_deposits ADD COLUMN level TEXT NOT NULL DEFAULT '';       -- how the first opening was proved
ALTER TABLE vault_deposits ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;     -- when the content went
ALTER TABLE vault_deposits ADD COLUMN code_at INTEGER NOT NULL DEFAULT 0;   -- when a code was handed over last
ALTER TABLE vault_deposits ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;    -- no answer is taken any more
ALTER TABLE vault_deposits ADD COLUMN noted TEXT NOT NULL DEFAULT '';       -- the state that the ledger was told of
CREATE UNIQUE INDEX vault_deposits_short ON vault_deposits (short) WHERE short IS NOT NULL;
CREATE INDEX vault_deposits_sending ON vault_deposits (sending);
CREATE INDEX vault_deposits_pair ON vault_deposits (recipient, sender);
CREATE INDEX vault_deposits_state ON vault_deposits (state, created, size);
CREATE INDEX vault_deposits_created ON vault_deposits (created);
UPDATE vault_deposits SET noted = state WHERE state IN ('opened', 'expired', 'revoked', 'destroyed');
CREATE INDEX vault_deposits_unnoted ON vault_deposits (changed) WHERE noted <> state AND state IN ('opened', 'expired', 'revoked', 'destroyed');
CREATE TABLE vault_sendings (
	id         TEXT PRIMARY KEY,
	mark       BLOB NOT NULL,    -- HMAC of sender and content: a repeated attempt is the same sending
	sender     TEXT NOT NULL,
	message_id TEXT NOT NULL,
	created    INTEGER NOT NULL,
	told       INTEGER NOT NULL DEFAULT 0, -- the last summary that its sender was told
	next_due   INTEGER NOT NULL
);
CREATE INDEX vault_sendings_mark ON vault_sendings (mark, created);
CREATE INDEX vault_sendings_due ON vault_sendings (next_due);`

const schemaProofs = `
ALTER TABLE vault_deposits ADD COLUMN identity BLOB;                    -- who the recipient is, sealed
ALTER TABLE vault_deposits ADD COLUMN proof TEXT NOT NULL DEFAULT '';   -- the proof that a rule asks for
ALTER TABLE vault_deposits ADD COLUMN locks INTEGER NOT NULL DEFAULT 0; -- each is twice as long as the one before
ALTER TABLE vault_deposits ADD COLUMN asked INTEGER NOT NULL DEFAULT 0; -- codes asked for since the last proof
ALTER TABLE vault_codes ADD COLUMN ask BLOB;                            -- HMAC of what the browser got that asked for it
ALTER TABLE vault_codes ADD COLUMN code BLOB;                           -- HMAC of the code
ALTER TABLE vault_codes ADD COLUMN until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vault_codes ADD COLUMN wrong INTEGER NOT NULL DEFAULT 0;    -- of that browser`

// New opens the vault on a database and a blob place.
func New(ctx context.Context, db Database, blobs Blobs, cfg Config) (*Vault, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	if err := db.Migrate(ctx, "vault", schema, schemaLife, schemaProofs); err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	if err := db.Migrate(ctx, "vault phrases", phraseSchema); err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	if err := db.Migrate(ctx, "vault refusals", schemaRefusal); err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	if err := db.Migrate(ctx, "vault answers", schemaAnswers, schemaInHand, schemaLease); err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	if err := db.Migrate(ctx, "vault keep", schemaKeep, schemaClosed); err != nil {
		return nil, fmt.Errorf("new vault: %w", err)
	}
	v := &Vault{db: db, blobs: blobs, cfg: cfg, paris: paris,
		links: NewLimiter(codeEvery, codeBurst), peers: NewLimiter(peerEvery, peerBurst), swept: new(atomic.Int64), sweepTime: sweepTime}
	if err := v.count(ctx); err != nil { // a database that several gateways share may be away
		v.cfg.Log.Warn("deposits are not counted yet", "err", err)
	}
	return v, nil
}

// Unopened gives a vault without a database: it writes mails and words about made-up deposits, and nothing else may be asked of it.
func Unopened(cfg Config) (*Vault, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("unopened vault: %w", err)
	}
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		return nil, fmt.Errorf("unopened vault: %w", err)
	}
	return &Vault{cfg: cfg, paris: paris}, nil
}

// With gives the same vault under other settings: the same deposits, and the same memory of who tried too often. Deposits keep the expiry that
// they were made with.
func (v *Vault) With(cfg Config) (*Vault, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("change vault: %w", err)
	}
	w := *v
	w.cfg = cfg
	return &w, nil
}

// complete checks the settings and fills in the defaults.
func (cfg Config) complete() (Config, error) {
	u, err := url.Parse(cfg.PublicURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return cfg, errors.New("the public URL must be https://host[/path]")
	}
	if cfg.Key == (seal.Key{}) {
		return cfg, errors.New("the server key is missing")
	}
	if cfg.Clinic.Name == "" {
		return cfg, errors.New("the clinic's name is missing")
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	if cfg.Expiry <= 0 {
		cfg.Expiry = 30 * 24 * time.Hour
	}
	if cfg.Keep <= 0 {
		cfg.Keep = defaultKeep
	}
	if cfg.NoticeLabel == "" {
		cfg.NoticeLabel = "Messagerie sécurisée"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// Clinic is how the clinic presents itself.
func (v *Vault) Clinic() Clinic { return v.cfg.Clinic }

// PublicURL is the portal's address without the final slash.
func (v *Vault) PublicURL() string { return v.cfg.PublicURL }

// Now is the vault's clock.
func (v *Vault) Now() time.Time { return v.cfg.Now() }

// Local gives a time as people read it, in Paris.
func (v *Vault) Local(t time.Time) time.Time { return t.In(v.paris) }

func ms(t time.Time) int64 { return t.UnixMilli() }

func fromMS(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
