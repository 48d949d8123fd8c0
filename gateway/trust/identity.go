package trust

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
)

// IdentityConfig says who of the clinic writes as which mailbox of the trust space.
type IdentityConfig struct {
	// Table is a CSV file (see readTable), read again when it changed; "" where there is none.
	Table string
	// Mailboxes maps addresses of the clinic to mailboxes; "" or "-" refuses the address. The table's own row wins.
	Mailboxes map[string]string
	// Delegates maps an address of the clinic to those who may write in its name, beside those of its row.
	Delegates map[string][]string
	// Pattern ("{local}@clinique.mssante.example") gives a mailbox to who has no row and whose domain is among Domains: there a local
	// part names the same person in each. Inbound mail goes to the first of them.
	Pattern string
	Domains []string
	// ClinicDomains are those of the people, OwnDomains those of the mailboxes.
	ClinicDomains, OwnDomains []string
	Now                       func() time.Time
	Log                       *slog.Logger
}

// Kinds of mailbox (TRE_R257), which shape the From label.
const (
	Person       = "PER"
	Organisation = "ORG"
	Application  = "APP"
)

// Account is who an address of the clinic is in the trust space.
type Account struct {
	Address message.Address
	Mailbox message.Address // null: refused
	Label   string          // of From, "" where nobody said
	By      string          // table, pattern, own address
}

// Identities is the mapping between people and mailboxes, safe for concurrent use. It asks nobody: whether a mailbox exists is for
// its caller to verify.
type Identities struct {
	cfg         IdentityConfig
	own, clinic map[string]bool
	pattern     func(local string) message.Address
	domains     []string                   // of the pattern
	fixed       rows                       // of the config
	delegates   map[string]map[string]bool // of the config: by key of the author, keys of the writers

	mu      sync.RWMutex
	rows    rows
	fault   error // of the table as it is now
	checked time.Time
	seen    stamp
	pending stamp
}

// row is one address of the table.
type row struct {
	Account
	delegates map[string]bool // by key
}

// rows are the table and the config together.
type rows struct {
	byAddress map[string]*row
	byMailbox map[string]*row // the first of each
}

// NewIdentities reads the table; one that cannot be read is a fault.
func NewIdentities(cfg IdentityConfig) (*Identities, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	x := &Identities{cfg: cfg, own: map[string]bool{}, clinic: map[string]bool{}, delegates: map[string]map[string]bool{}}
	for into, list := range map[*map[string]bool][]string{&x.own: cfg.OwnDomains, &x.clinic: cfg.ClinicDomains} {
		for _, name := range list {
			d, err := message.ParseDomain(name)
			if err != nil {
				return nil, fmt.Errorf("identities: domain %q: %w", name, err)
			}
			(*into)[d] = true
		}
	}
	for _, name := range cfg.Domains {
		d, err := message.ParseDomain(name)
		if err != nil || !x.clinic[d] {
			return nil, fmt.Errorf("identities: %q is no domain of the clinic", name)
		}
		x.domains = append(x.domains, d)
	}
	if err := x.parsePattern(); err != nil {
		return nil, err
	}
	for author, list := range cfg.Delegates {
		r, err := x.newRow(author, "")
		if err == nil {
			err = r.delegate(strings.Join(list, " "))
		}
		if err != nil {
			return nil, fmt.Errorf("identities: delegates of %s: %w", author, err)
		}
		if x.delegates[r.Address.Key()] != nil {
			return nil, fmt.Errorf("identities: delegates of %s stand twice, in other cases of letters", author)
		}
		x.delegates[r.Address.Key()] = r.delegates
	}
	var err error
	if x.fixed, err = x.fixedRows(); err != nil {
		return nil, err
	}
	if err := x.Reload(); err != nil {
		return nil, err
	}
	return x, nil
}

// parsePattern makes a function of the pattern. A local part that is more than a plain word has no mailbox by it: what `a+b` or a quoted
// one means is the clinic server's secret. Addresses of machines are never a person's.
func (x *Identities) parsePattern() error {
	if x.cfg.Pattern == "" {
		return nil
	}
	before, after, ok := strings.Cut(x.cfg.Pattern, "{local}")
	a, err := message.ParseAddress(before+"x"+after, false)
	if !ok || err != nil || !x.own[a.Domain] {
		return fmt.Errorf("identities: pattern %q must be {local}@ and one of the own domains", x.cfg.Pattern)
	}
	x.pattern = func(local string) message.Address {
		lower := strings.ToLower(local)
		if !plainLocal(lower) || len(lower) != len(local) || machines[lower] { // the Kelvin sign becomes a k
			return message.Address{}
		}
		m, err := message.ParseAddress(before+lower+after, false)
		if err != nil {
			return message.Address{}
		}
		return m
	}
	return nil
}

// machines are local parts behind which no person stands (RFC 2142, and what mail servers write).
var machines = map[string]bool{"mailer-daemon": true, "double-bounce": true, "postmaster": true, "root": true, "nobody": true, "abuse": true, "noreply": true, "no-reply": true}

func plainLocal(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '-' || c == '_')) {
			return false
		}
	}
	return s != ""
}

// newRow checks one pair; mailbox "" or "-" refuses the address.
func (x *Identities) newRow(address, mailbox string) (*row, error) {
	a, err := message.ParseAddress(strings.TrimSpace(address), true)
	if err != nil || a.IsNull() {
		return nil, errors.New("is no mail address")
	}
	if !x.clinic[a.Domain] {
		return nil, errors.New("is in none of clinic.domains")
	}
	r := &row{Account: Account{Address: a, By: "table"}, delegates: map[string]bool{}}
	if mailbox = strings.TrimSpace(mailbox); mailbox == "" || mailbox == "-" {
		return r, nil
	}
	if r.Mailbox, err = message.ParseAddress(mailbox, false); err != nil {
		return nil, errors.New("its mailbox is no mail address")
	}
	if !x.own[r.Mailbox.Domain] {
		return nil, errors.New("its mailbox is in none of trust.own_domains")
	}
	return r, nil
}

func (r *row) delegate(list string) error {
	for _, s := range strings.FieldsFunc(list, func(c rune) bool { return c == ' ' || c == ',' || c == ';' || c == '|' }) {
		a, err := message.ParseAddress(s, true)
		if err != nil || a.IsNull() {
			return errors.New("a delegate is no mail address")
		}
		r.delegates[a.Key()] = true
	}
	return nil
}

// Of tells who an address is in the trust space; ok is false where it is nobody there, by a refusal of the table or because nothing maps it.
func (x *Identities) Of(a message.Address) (_ Account, ok bool) {
	if a.IsNull() {
		return Account{}, false
	}
	r := x.current()
	if one := r.byAddress[a.Key()]; one != nil {
		return one.Account, !one.Mailbox.IsNull()
	}
	if x.own[a.Domain] {
		id := Account{Address: a, Mailbox: a, By: "own address"}
		if one := r.byMailbox[a.Key()]; one != nil {
			id.Label = one.Label
		}
		return id, true
	}
	return x.byPattern(r, a)
}

// byPattern gives nobody the mailbox that a row gives to somebody else, nor what the row of the same person in another of the domains does
// not give him.
func (x *Identities) byPattern(r rows, a message.Address) (Account, bool) {
	if x.pattern == nil || !slices.Contains(x.domains, a.Domain) {
		return Account{}, false
	}
	m := x.pattern(a.Local)
	taken := r.byMailbox[m.Key()] != nil
	for _, d := range x.domains {
		switch one := r.byAddress[message.Address{Local: a.Local, Domain: d}.Key()]; {
		case one == nil:
		case one.Mailbox.Key() != m.Key():
			return Account{Address: a, By: "table"}, false
		default:
			taken = false
		}
	}
	if taken {
		m = message.Address{}
	}
	return Account{Address: a, Mailbox: m, By: "pattern"}, !m.IsNull()
}

// Internal gives the address of the clinic that a mailbox's mail goes to: that of its first row, else the pattern's, unless the table says
// something else of that address.
func (x *Identities) Internal(mailbox message.Address) (message.Address, bool) {
	if !x.own[mailbox.Domain] {
		return message.Address{}, false
	}
	r := x.current()
	if one := r.byMailbox[mailbox.Key()]; one != nil {
		return one.Address, true
	}
	if x.pattern == nil || len(x.domains) == 0 {
		return message.Address{}, false
	}
	before, after, _ := strings.Cut(x.cfg.Pattern, "{local}")
	local, ok := strings.CutPrefix(mailbox.Key(), strings.ToLower(before))
	if ok {
		local, ok = strings.CutSuffix(local, strings.ToLower(after))
	}
	a := message.Address{Local: local, Domain: x.domains[0]}
	if id, has := x.Of(a); !ok || !has || id.Mailbox.Key() != mailbox.Key() {
		return message.Address{}, false
	}
	return a, true
}

// Own tells whether a domain is one of the mailboxes'.
func (x *Identities) Own(domain string) bool { return x.own[domain] }

// Why a message may not leave as anybody's.
const (
	NoMailbox   = "no-mailbox"   // the author has none
	Refused     = "refused"      // the table refuses the author
	Foreign     = "foreign"      // the author is not of the clinic
	NotDelegate = "not-delegate" // who wrote may not write in the author's name
)

// Writing is what a message says of who wrote it.
type Writing struct {
	Envelope message.Address // of MAIL
	Author   message.Address // of From; null: nothing stands there
	Sender   message.Address // of Sender; null: no such field
	Login    message.Address // who was logged in; null: nobody said
}

// As is the mailbox that a message leaves from.
type As struct {
	Account
	// Writer wrote in the author's name; null where the author did.
	Writer message.Address
	// Sender is the writer's own mailbox, for the Sender field: null where there is none, or it is the author's.
	Sender message.Address
}

// String names mailbox and persons for the ledger.
func (a As) String() string {
	s := "as " + a.Mailbox.String() + " by " + a.By
	if a.Address != a.Mailbox {
		s += " for " + a.Address.String()
	}
	if !a.Writer.IsNull() {
		s += ", written by " + a.Writer.String()
	}
	return s
}

// WritesAs finds the mailbox of a message's author and holds everybody whom the message names as its writer against it: each must be the
// author, share his mailbox or be his delegate. Where that fails, refusal is one of the constants above.
func (x *Identities) WritesAs(w Writing) (as As, refusal string) {
	author := w.Author
	if author.IsNull() {
		author = w.Envelope
	}
	id, ok := x.Of(author)
	if !ok {
		if id.By == "table" {
			return As{}, Refused
		}
		if !x.clinic[author.Domain] {
			return As{}, Foreign
		}
		return As{}, NoMailbox
	}
	as = As{Account: id}
	for _, who := range []message.Address{w.Login, w.Sender, w.Envelope} { // the surest word first
		if who.IsNull() || who.Key() == author.Key() || who.Key() == id.Mailbox.Key() {
			continue
		}
		own, has := x.Of(who)
		shares := has && own.Mailbox.Key() == id.Mailbox.Key()
		switch {
		case !shares && !x.mayWriteFor(who, author):
			return As{}, NotDelegate
		case !as.Writer.IsNull():
		case has && !shares:
			as.Writer, as.Sender = who, own.Mailbox
		default:
			as.Writer = who
		}
	}
	return as, ""
}

// mayWriteFor tells whether who is a delegate of author; where the author wrote his mailbox, of whoever the mailbox is.
func (x *Identities) mayWriteFor(who, author message.Address) bool {
	r := x.current()
	one := r.byAddress[author.Key()]
	if one == nil {
		one = r.byMailbox[author.Key()]
	}
	if one != nil && one.delegates[who.Key()] {
		return true
	}
	if x.delegates[author.Key()][who.Key()] {
		return true
	}
	in, ok := x.Internal(author)
	return ok && x.delegates[in.Key()][who.Key()]
}
