package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"passerelle/config"
	"passerelle/gateway/addressbook"
	"passerelle/gateway/clamd"
	"passerelle/gateway/collect"
	"passerelle/gateway/directory"
	"passerelle/gateway/duties"
	"passerelle/gateway/keyring"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/smtpd"
	"passerelle/gateway/store"
	"passerelle/gateway/trust"
	"passerelle/gateway/vault"
	"passerelle/policy"
)

// Gateway is the house with its rooms, as one config file wants it. Open (wire.go) builds it, Run (serve.go) opens its doors. It never
// changes: Reload (reload.go) makes another one on the same lasting rooms, and a message stays with the one that it began under.
type Gateway struct {
	*lasting
	cfg        *config.Config
	set        settings
	log        *slog.Logger
	now        func() time.Time
	clock      *clock
	budget     *message.Budget
	directory  *directory.Directory
	policy     *policy.Policy
	certs      *certificates      // nil: correspondents' chains are not judged
	discovery  *discovery         // nil: nobody is asked for keys
	harvester  *keyring.Harvester // nil: none is taken of mail
	space      *trust.Space       // nil where the clinic is not in the trust space
	mailboxes  *identities        // nil where senders write with their own addresses
	submission *submission        // nil where it is no operator's client
	relay      *relay.Relay
	timeouts   relay.Timeouts // zero: the relay's own
	traffic    *traffic
	ledger     *ledger.Ledger
	vault      *vault.Vault // nil where nothing can go to pickup
	sms        vault.SMS    // nil where none is configured
	portal     http.Handler
	clamd      *clamd.Client // nil where answers are not searched
	portalCert *portalCert   // where it is got by ACME
	book       *addressbook.Book
	collect    []collect.Box
	// collectCerts are the mailboxes' own certificates, by the names of their boxes.
	collectCerts map[string]*keyPair
	tls          map[string]listenerTLS // of the doors, by their names
	keys         *ownKeys               // the clinic's private keys
}

// lasting is what every state of a gateway shares.
type lasting struct {
	key        [32]byte // the server key
	db         *store.DB
	shared     *store.Postgres         // where deposits lie; nil: in db
	ring       *keyring.Ring           // of correspondents' keys; nil where a subcommand has none to look into
	sockets    map[string]net.Listener // handed over instead of bound, by door
	ready      func()                  // told once all doors serve
	serving    atomic.Bool             // between Run's begin and its end
	inForce    atomic.Pointer[Gateway] // what new messages begin under
	reloading  sync.Mutex
	searches   searchLimit // of the address book, by client
	pledges    pledges
	tokens     tokenSources
	reloaded   chan struct{} // another state is in force
	exchangers *exchangers
	harvest    harvester       // of certificates on signed mail; nil: nobody wants to know
	evidence   *trust.Evidence // of revocation; nil outside the trust space
	queue      *duties.Queue   // what the vault has to do later; nil without one
	completing completing
	mailedBack mailedBack
	keyPort    int // of Web Key Directories; 0: 443
	closers    []func() error
}

// current is the state in force. What was not made by Open has no other.
func (g *Gateway) current() *Gateway {
	if g.lasting != nil {
		if n := g.inForce.Load(); n != nil {
			return n
		}
	}
	return g
}

// Outbound carries one message of the clinic: every recipient by exactly one way, and an answer for each.
func (g *Gateway) Outbound(ctx context.Context, c smtpd.Client, lmtp bool, env *message.Envelope, body *message.Body) smtpd.Outcome {
	kind := wholeReply
	if lmtp {
		kind = ownReplies
	}
	return g.journey(ctx, c, kind, env, body, func(m *mail, r message.Recipient) (way, error) {
		if g.repliesHere(r) {
			return replyWay(), nil
		}
		w, err := g.settle(ctx, m, r, g.policy.Decide)
		if err == nil {
			mDecided.WithLabelValues(string(w.decision.Route)).Inc()
		}
		if err == nil && w.decision.Route == policy.Local && !g.internal(m) {
			err = g.open(ctx, m, &w, g.names(r, message.Address{}))
		}
		return w, err
	})
}

// Inbound carries one message from the trust space to the clinic's Postfix, marked with who sent it and how that was verified.
func (g *Gateway) Inbound(ctx context.Context, c smtpd.Client, env *message.Envelope, body *message.Body) smtpd.Outcome {
	from := g.peerOf(c.TLS)
	return g.journey(ctx, c, strangersReply, env, body, func(m *mail, r message.Recipient) (way, error) {
		return g.arrive(ctx, m, r, from, "inbound", "received from the trust space for a domain of the clinic")
	})
}

// journey is doc.go on one screen: know that you can note, take in hand, decide for each recipient, hand on, note, reply.
func (g *Gateway) journey(ctx context.Context, c smtpd.Client, kind replyKind, env *message.Envelope, body *message.Body,
	decide func(*mail, message.Recipient) (way, error)) (out smtpd.Outcome) {
	g.postmasters(env)
	defer g.directory.Hold()()               // a reload does not close what this message is asked about
	if err := g.ledger.Ready(); err != nil { // before any hop is contacted
		return g.outcome(nil, all(env, laterNote(err)))
	}
	release, decided, err := g.room(ctx, body)
	if err != nil {
		return g.outcome(nil, all(env, err))
	}
	room := &shared{n: 1, free: release}
	defer room.let()
	m, err := g.read(env, body)
	if err != nil {
		return g.outcome(nil, all(env, err))
	}
	m.room = room
	defer func() {
		if m.own != nil {
			m.own.Close()
		}
		for _, o := range m.openings {
			o.close()
		}
	}()
	m.reports = kind != strangersReply
	claim, err := g.ledger.Claim(ctx, m.asks(), c.Here)
	if err != nil {
		return g.outcome(nil, all(env, laterNote(err)))
	}
	defer func() { // a panic must not leave the recipients in hand
		if out.Settled == nil {
			claim.Release()
		}
	}()
	if m.reports {
		if err := g.takePhones(m); err != nil {
			return g.outcome(nil, all(env, err))
		}
	}
	ways := make([]way, len(env.Recipients))
	for i, r := range env.Recipients {
		if e, served := claim.Served(i); served { // an earlier attempt did this; its reply never arrived
			ways[i] = way{done: true, entry: e}
			continue
		}
		if ways[i], err = decide(m, r); err != nil {
			ways[i].fault = asFault(err)
		}
	}
	decided(m.index)
	g.redirect(m, ways)
	s := &session{client: env.Client, sessions: c.Sessions, kind: kind, log: g.log.With("id", env.ID, "client", env.Client), claim: claim, told: make(chan struct{})}
	defer close(s.told)
	return g.finish(ctx, s.log, kind, m, claim, g.handOnFor(ctx, s, m, ways))
}

// mail is one message in hand.
type mail struct {
	env    *message.Envelope
	body   *message.Body
	room   *shared        // of the budget, also for what goes on behind the reply
	header message.Header // of the message as received
	start  int64          // offset of the body behind the header
	index  *message.Index // nil until somebody needs the parts
	trace  []byte         // our Received field and loop mark
	marks  []byte         // our mark, on mail for the clinic
	origin protect.Origin // what it says
	beside string         // what inbound.unpack_xdm did, for the ledger
	own    *message.Body  // body, where it is another than the one received: closed behind the journey
	asCame *asCame        // the message before that
	// openings are the message as it was opened, for each set of keys.
	openings []*opening
	facts    *policy.Facts // what the message itself says, the same for every recipient
	writer   *writer       // who writes as which mailbox of the trust space
	// xdm is what health documents in it say, nil until somebody asks.
	xdm     *xdm
	reading sync.Mutex
	// discreet is the trace of what leaves sealed: the same, without the clinic's inner names and addresses.
	discreet []byte
	// reports: who handed the message in is told of success where the next hop will not (relayed.go).
	reports bool
	// phones are what its sender gave for codes.
	phones phones
	// pledge makes what the clinic's server says of it outlive this process: of collected mail.
	pledge *relay.Pledge
	// twins are the recipients of the same mailbox as an earlier one, by a link or an alias (twins.go).
	twins map[int]int
	// sought are the look-ups for its recipients' keys.
	sought sought
	// rewritten: the header differs from the bytes of the body.
	rewritten bool
}

// read looks at the header of a message and refuses loops.
func (g *Gateway) read(env *message.Envelope, body *message.Body) (*mail, error) {
	h, start, err := message.ReadHeader(body, g.set.maxHeader)
	if err != nil {
		return nil, refuse(554, [3]int{5, 6, 0}, "En-tete du message illisible ou trop grand", err)
	}
	if len(h.Values("Received")) > g.set.maxReceived || passes(h, g.set.loopToken) > maxPasses {
		return nil, refuse(554, [3]int{5, 4, 6}, "Boucle de courrier: ce message est deja passe ici, verifiez la configuration du relais", nil)
	}
	loop := protect.LoopField + ": " + g.set.loopToken + "\r\n"
	outside := message.Envelope{Helo: g.set.hostname, Client: "clinic", Protocol: env.Protocol, SMTPUTF8: env.SMTPUTF8}
	return &mail{env: env, body: body, header: h, start: start,
		trace:    append(protect.Trace(env, g.set.hostname, g.now(), env.ID), loop...),
		discreet: append(protect.Trace(&outside, g.set.hostname, g.now(), env.ID), loop...)}, nil
}

// maxPasses is how often one message may come through: an alias of the clinic may lead out again, a circle may not.
const maxPasses = 4

func passes(h message.Header, token string) (n int) {
	for _, v := range h.Values(protect.LoopField) {
		if v == token {
			n++
		}
	}
	return n
}

func (m *mail) asks() []ledger.Ask {
	asks := make([]ledger.Ask, len(m.env.Recipients))
	for i, r := range m.env.Recipients {
		asks[i] = ledger.Ask{Client: m.env.Client, Sender: m.env.Sender.String(), Recipient: r.Raw, Body: m.body.Sum()}
	}
	return asks
}
