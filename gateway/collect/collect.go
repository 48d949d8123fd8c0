// Package collect brings new mail of the clinic's mailboxes at its MSSanté operator to the clinic. It takes mailboxes with their credentials,
// gives each new message once, in whole, to whoever hands it on, and knows nothing of routes, hops or the config.
//
// Life of one message in a folder:
//
//	list     its UID is above what was brought, and the state does not know it
//	fetch    in pieces, into a body under the shared budget
//	take     the gateway hands it on and notes it; "later" leaves it where it is
//	settle   the state notes durably that it was taken, or refused for good
//	act      on the server: flagged, moved or deleted; what was refused stays, flagged, and the postmaster is told
//
// Nothing is done to a message on the server before it is settled. A process that dies in between finds it again: take knows by the
// message's identity (mailbox, folder, UIDVALIDITY, UID) what it has handed on, the state what is owed to the server.
package collect

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
)

// After is what becomes of a message on the server once the clinic has it.
type After string

const (
	Flag   After = "flag"   // \Seen and, where the server takes it, $PasserelleCollected
	Move   After = "move"   // to Box.MoveTo
	Delete After = "delete" // for good
)

// Auth is a SASL mechanism.
type Auth string

const (
	External    Auth = "external"    // RFC 4422 appendix A: by the client certificate
	XOAuth2     Auth = "xoauth2"     // the older of the two token mechanisms
	OAuthBearer Auth = "oauthbearer" // RFC 7628
)

// Box is one folder of one mailbox.
type Box struct {
	// Name stands in logs and metrics. Mailbox is who we log in as; with Folder it names what was brought, so a new Name changes nothing.
	Name, Mailbox, Folder string
	Addr                  string // host:port
	Implicit              bool   // TLS from the first byte, else STARTTLS
	Auth                  Auth
	After                 After
	MoveTo                string
	Every                 time.Duration // from one look to the next, also behind IDLE: under 29 min (RFC 2177)
	// DeliverTo is the recipient of what is brought.
	DeliverTo message.Address
	// Same tells whether two boxes with this word have the same settings; Apply keeps those running.
	Same string

	// TLS gives the settings of the moment; it must verify the server. Token and Evict are those of trust.Tokens.
	TLS   func() (*tls.Config, error)
	Token func(context.Context) (string, error)
	Evict func(string)
}

func (b *Box) key() string { return strings.ToLower(b.Mailbox) + "/" + b.Folder }

// ID names a message for ever: UIDs are never used again under one validity (RFC 3501 section 2.3.1.1).
type ID struct {
	Box           string
	Validity, UID uint32
}

// Verdict is what became of a message at the clinic.
type Verdict struct {
	Code int // 2xx taken, 4xx later, 5xx refused for good
	// Settled is called once the state has noted it, or could not: then the message comes again. nil is allowed.
	Settled func(noted bool)
}

// Fate is what the state knows of a message.
type Fate string

const (
	Taken   Fate = "taken"
	Refused Fate = "refused"
)

// Print tells a message when its folder has got new UIDs: Received, Message-ID, Date and size. A zero one tells none.
type Print [16]byte

// Owed is a message that is settled while the server was not told.
type Owed struct {
	UID  uint32
	Fate Fate
}

// Place is how far a folder was brought.
type Place struct {
	Floor uint32 // every UID up to it is settled
	// Adopt: below it a UID may be an old message under a new number, because the validity changed.
	Adopt uint32
	Owed  []Owed
}

// State keeps what was brought; each method returns when it is durable.
type State interface {
	// Open gives the place in a folder. A validity that is new to it begins a new count, and so does a next below the place: the folder was
	// made anew under its old validity. next is the UID that the next new message will have, 0 where that is not known.
	Open(ctx context.Context, box string, validity, next uint32) (Place, error)
	// Known gives those of uids that are settled.
	Known(ctx context.Context, box string, validity uint32, uids []uint32) (map[uint32]bool, error)
	// Adopt looks for a message that was settled under another validity, and takes it over under this one: once for each. Its fate is "" where
	// there is none. The server is owed again what a taken one is owed.
	Adopt(ctx context.Context, id ID, p Print) (Fate, error)
	Settle(ctx context.Context, id ID, p Print, f Fate) error
	// Done notes that the server was told of a settled message.
	Done(ctx context.Context, id ID) error
	Reach(ctx context.Context, box string, validity, floor uint32) error
	// Sweep forgets what was settled long ago and is in the folder no more; held tells which of some UIDs still are.
	Sweep(ctx context.Context, box string, validity uint32, held func(uids []uint32) (map[uint32]bool, error)) error
}

// Config is what a Set needs.
type Config struct {
	State State
	// Take hands a message on. It closes nothing, is not ended by ctx once it has begun to hand on, and may take minutes.
	Take func(ctx context.Context, b *Box, id ID, body *message.Body) Verdict
	// Tell tells the postmaster of a message that stays refused in its mailbox; an error means that he is to be told later.
	Tell func(ctx context.Context, b *Box, id ID) error
	// Budget holds the bodies. Max is the largest message.
	Budget *message.Budget
	Max    int64
	Log    *slog.Logger

	// Patience is how long the server may be silent while it owes an answer: 2 min. BackoffMin (5 s) is doubled for each failure in a
	// row up to BackoffMax (15 min).
	Patience, BackoffMin, BackoffMax time.Duration
}

// Set runs the boxes. Apply and Stop are called one at a time.
type Set struct {
	cfg     Config
	running map[string]*running // by Box.key
}

type running struct {
	box  Box
	stop context.CancelFunc
	done sync.WaitGroup
}

// New gives a set without boxes.
func New(cfg Config) *Set {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Patience, 2 * time.Minute}, {&cfg.BackoffMin, 5 * time.Second}, {&cfg.BackoffMax, 15 * time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return &Set{cfg: cfg, running: map[string]*running{}}
}

// Apply runs these boxes and no others. Boxes that changed, or are gone, finish the message in hand first.
func (s *Set) Apply(boxes []Box) {
	want := map[string]Box{}
	for _, b := range boxes {
		want[b.key()] = b
	}
	var ended []*running
	for key, r := range s.running {
		if b, ok := want[key]; !ok || b.Same != r.box.Same {
			r.stop()
			ended = append(ended, r)
			delete(s.running, key)
		}
	}
	for _, r := range ended {
		r.done.Wait()
		forget(r.box.Name)
	}
	for key, b := range want {
		if s.running[key] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		r := &running{box: b, stop: cancel}
		s.running[key] = r
		c := &collector{cfg: s.cfg, box: b, late: map[ID]bool{}, log: s.cfg.Log.With("collect", b.Name)}
		r.done.Go(func() { c.run(ctx) })
	}
}

// Stop ends all boxes; each finishes the message in hand.
func (s *Set) Stop() { s.Apply(nil) }
