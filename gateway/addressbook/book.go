// Package addressbook shows the directory's mailboxes to the people who write: a search page in the browser, and a read-only LDAP server
// that Outlook and Thunderbird take as an address book. It takes requests and a Finder, gives few entries at a time, and knows nothing
// of messages on their way, of rules or of how a directory is kept.
//
// Both doors are for the clinic's network, ask nobody who he is, and share one limit per client. What was searched for is in no log.
package addressbook

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var searches = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_addressbook_searches_total",
	Help: "Searches in the address book, by door and result."}, []string{"door", "result"})

// Entry is one mailbox at one place; a mailbox with several places has several entries.
type Entry struct {
	Address             string
	FirstName, LastName string // of a person; both empty for an organisation
	Structure, Service  string
	Profession          string
	Speciality          string
	City, PostalCode    string
}

// Name is the person's, else the organisation's.
func (e Entry) Name() string {
	if n := strings.TrimSpace(e.FirstName + " " + e.LastName); n != "" {
		return n
	}
	for _, n := range []string{e.Structure, e.Service} {
		if n != "" {
			return n
		}
	}
	return e.Address
}

// Finder is the directory. What it must not show (red list, ended practices) it does not give.
type Finder interface {
	// Find gives the entries of at most limit mailboxes, best first, for a text as a person types it; none is no error. An error: the
	// directory cannot be asked.
	Find(ctx context.Context, text string, limit int) ([]Entry, error)
	// AsOf is the directory's date; zero where there is none.
	AsOf() time.Time
}

// MaxFound is how many mailboxes one search gives; there is no next page.
const MaxFound = 20

// maxAsked is how many the directory is asked for: an LDAP filter keeps some of them only.
const maxAsked = 3 * MaxFound

// minLetters is the shortest search; maxText, in octets, the longest that is looked at.
const (
	minLetters = 3
	maxText    = 200
)

// searchTime bounds the directory's answer.
const searchTime = 5 * time.Second

// Config sets up a Book. Finder and Allow are required.
type Config struct {
	Finder Finder
	// Allow takes one search of a client's share, and tells whether there was one left.
	Allow func(client netip.Addr, now time.Time) bool
	// PageNetworks and LDAPNetworks may search.
	PageNetworks, LDAPNetworks []netip.Prefix
	// Proxies are the reverse proxies whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	Clinic  string // name on the page
	Base    string // distinguished name that LDAP clients search below
	Now     func() time.Time
	Log     *slog.Logger
}

// Book answers searches. It is safe for concurrent use, and an http.Handler (page.go); Server (server.go) serves it by LDAP.
type Book struct {
	cfg  Config
	base string // normalised
}

// New gives a Book.
func New(cfg Config) (*Book, error) {
	if cfg.Finder == nil || cfg.Allow == nil {
		return nil, errors.New("new address book: no directory or no limit")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Base == "" {
		cfg.Base = "o=annuaire"
	}
	return &Book{cfg: cfg, base: normalDN(cfg.Base)}, nil
}

// Why a search gave nothing. A Finder's error is none of these.
var (
	errShort = errors.New("fewer than three letters")
	errBusy  = errors.New("too many searches")
)

// search asks the directory once for each text and gives the entries of at most max mailboxes for which keep holds; more tells that
// there are others. The texts are alternatives.
func (b *Book) search(ctx context.Context, door string, client netip.Addr, texts []string, max int, keep func([]Entry) bool) (found [][]Entry, more bool, err error) {
	result := "none"
	defer func() { searches.WithLabelValues(door, result).Inc() }()
	if texts = long(texts); len(texts) == 0 {
		result = "short"
		return nil, false, errShort
	}
	if !b.cfg.Allow(clientKey(client), b.cfg.Now()) {
		result = "limited"
		return nil, false, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	seen := map[string]int{}
	for _, text := range texts {
		entries, err := b.cfg.Finder.Find(ctx, text, maxAsked)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if result = "unavailable"; ctx.Err() != nil {
				result = "timeout"
			}
			b.cfg.Log.Warn("address book: the directory cannot be asked", "door", door, "err", err)
			return nil, false, err
		}
		before := len(found)
		for _, e := range entries {
			key := strings.ToLower(e.Address)
			if i, ok := seen[key]; ok {
				found[i] = append(found[i], e)
				continue
			}
			seen[key] = len(found)
			found = append(found, []Entry{e})
		}
		more = more || len(found)-before >= maxAsked
	}
	kept := found[:0]
	for _, mailbox := range found {
		if keep == nil || keep(mailbox) {
			kept = append(kept, mailbox)
		}
	}
	if len(kept) > max {
		kept, more = kept[:max], true
	}
	if len(kept) > 0 {
		result = "found"
	}
	return kept, more, nil
}

// long leaves the texts that have letters enough.
func long(texts []string) (out []string) {
	for _, t := range texts {
		if len(t) <= maxText && letters(fold(t)) >= minLetters {
			out = append(out, t)
		}
	}
	return out
}

func within(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// clientKey is what one client is counted by: an IPv4 address, or the /64 of an IPv6 one, of which every host has as many as it wants.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}
