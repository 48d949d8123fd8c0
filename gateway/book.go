package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"passerelle/config"
	"passerelle/gateway/addressbook"
	"passerelle/gateway/directory"
	"passerelle/gateway/vault"
)

// How fast one client may search the address book, by its two doors together: as somebody types, and no faster; and over the day as much
// as a terminal server's secretaries need, at which a walk through a book of a million takes weeks. The limit outlives a reload.
const (
	searchEvery  = 2 * time.Second // after a burst of
	searchBurst  = 30
	searchSteady = 20 * time.Second // after a burst of
	searchDay    = 3000
)

type searchLimit struct{ typing, walking *vault.Limiter }

func newSearchLimit() searchLimit {
	return searchLimit{vault.NewLimiter(searchEvery, searchBurst), vault.NewLimiter(searchSteady, searchDay)}
}

func (l searchLimit) allow(client netip.Addr, now time.Time) bool {
	key := client.String()
	return l.typing.Allow(key, now) && l.walking.Allow(key, now)
}

// newBook shows the directory of g to the people who write.
func (g *Gateway) newBook(cfg *config.Config) (*addressbook.Book, error) {
	page, err := bookNetworks("listen.addressbook", cfg.Listen.Addressbook.Networks, cfg)
	if err != nil {
		return nil, err
	}
	ldap, err := bookNetworks("listen.ldap", cfg.Listen.LDAP.Networks, cfg)
	if err != nil {
		return nil, err
	}
	return addressbook.New(addressbook.Config{Finder: finder{g.directory}, PageNetworks: page, LDAPNetworks: ldap, Proxies: localProxies,
		Allow: g.searches.allow, Clinic: cfg.Clinic.Name, Base: cfg.Listen.LDAP.Base, Now: g.now, Log: g.log})
}

func bookNetworks(key string, own []string, cfg *config.Config) ([]netip.Prefix, error) {
	if len(own) == 0 {
		own = cfg.Clinic.Networks
	}
	nets, err := prefixes("listen.addressbook.networks", own)
	if err != nil {
		return nil, fmt.Errorf("%s.networks: %w", key, err)
	}
	return nets, nil
}

// finder shows the address book what the directory may show: its own list's people are nobody's business there.
type finder struct{ d *directory.Directory }

func (f finder) Find(ctx context.Context, text string, limit int) ([]addressbook.Entry, error) {
	found, err := f.d.Search(ctx, directory.Query{Text: text, Limit: limit})
	if errors.Is(err, directory.ErrNothingAsked) { // "docteur" alone
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []addressbook.Entry
	for _, r := range found {
		if r.RedList || r.Inactive {
			continue
		}
		places := r.Places
		if len(places) == 0 {
			places = []directory.Place{{Structure: r.Structure, Service: r.Service, Profession: r.Profession, Speciality: r.Speciality, City: r.City, PostalCode: r.PostalCode}}
		}
		for _, p := range places {
			out = append(out, addressbook.Entry{Address: r.Address, FirstName: r.FirstName, LastName: r.LastName, Structure: p.Structure, Service: p.Service,
				Profession: p.Profession, Speciality: p.Speciality, City: p.City, PostalCode: p.PostalCode})
		}
	}
	return out, nil
}

func (f finder) AsOf() time.Time { return f.d.Status().AsOf }
