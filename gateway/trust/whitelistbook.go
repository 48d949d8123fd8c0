package trust

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"passerelle/gateway/message"
)

// The names of a domain come from two places: what the operator wrote (Config.Domains), and the white list. A domain is listed exactly
// or not at all: no wildcard, no inheritance.

// lookUp asks the config and one state of the list: what is said of a domain is said of one moment.
//
// names are those who may speak for it, without those of a list that is too old. doubt is why nothing can be said of it: no list was ever
// loaded, or it stands in one that is too old; a domain of the config is in no doubt.
func (s *Space) lookUp(domain string) (names []distinguished, listed bool, doubt error) {
	d, err := message.ParseDomain(domain)
	if err != nil {
		return nil, false, nil
	}
	static, fixed := s.names[d]
	if s.lister == nil {
		return static, fixed, nil
	}
	l, doubt := s.lister.inForce()
	if fixed && doubt != nil {
		return static, true, nil
	}
	if l == nil {
		return nil, false, doubt
	}
	signed, there := l.names[d]
	switch {
	case !there:
		return static, fixed, nil
	case doubt != nil:
		return nil, true, doubt
	}
	return slices.Concat(static, signed), true, nil
}

// Ask tells whether a domain is in the white list or stands in the config, and why that cannot be relied on: where no list was ever loaded,
// no domain can be said to be unlisted; a domain in a list that is too old has to wait.
func (s *Space) Ask(domain string) (listed bool, doubt error) {
	_, listed, doubt = s.lookUp(domain)
	return listed, doubt
}

// Listed is Ask without the doubt.
func (s *Space) Listed(domain string) bool {
	_, listed, _ := s.lookUp(domain)
	return listed
}

// Doubt is Ask's doubt alone.
func (s *Space) Doubt(domain string) error {
	_, _, doubt := s.lookUp(domain)
	return doubt
}

// anyone tells whether a peer bears the name of some domain.
func (s *Space) anyone(p *proof) (bool, error) {
	for _, dns := range s.names {
		if p.bears(dns) {
			return true, nil
		}
	}
	if s.lister == nil {
		return false, nil
	}
	l, doubt := s.lister.inForce()
	if doubt != nil {
		return false, doubt
	}
	return p.bears(l.all), nil
}

// doubtful is the error of a peer that the list in force says nothing certain about.
func doubtful(err error) error { return &Error{ListUnknown, true, err} }

var errNeverLoaded = errors.New("the white list was never loaded")

// inForce gives the list, and why what it says cannot be relied on.
func (l *lister) inForce() (*whiteList, error) {
	list := l.force.Load()
	if list == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fault != "" {
			return nil, fmt.Errorf("%w: %s", errNeverLoaded, l.fault)
		}
		return nil, errNeverLoaded
	}
	if age := l.space.cfg.Now().Sub(list.date); age > l.cfg.MaxAge {
		return list, fmt.Errorf("the white list of %s is older than %s", list.date.Format(time.RFC3339), l.cfg.MaxAge)
	}
	return list, nil
}

// WhiteListStatus is what the operator sees.
type WhiteListStatus struct {
	Source                  string // the host
	Date                    time.Time
	Age                     time.Duration
	Domains, Names, Skipped int
	Signer                  string
	SignerUntil             time.Time
	Doubt                   string // why trust mail waits
	Alarm                   bool   // older than AlarmAge, or none
	AlarmAge, MaxAge        time.Duration
	Checked, Tried, Next    time.Time
	Failed                  time.Time // the last look that did not go well
	Fault                   string    // of the last look
	Waiting                 *WaitingList
}

// WaitingList is a good list that lost too many domains to be taken without a word of the operator.
type WaitingList struct {
	Date        time.Time `json:"date"`
	Domains     int       `json:"domains"`
	Added, Lost int
}

// WhiteList tells of the list; nil where none is configured.
func (s *Space) WhiteList() *WhiteListStatus {
	l := s.lister
	if l == nil {
		return nil
	}
	list, doubt := l.inForce()
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.st
	out := &WhiteListStatus{Source: hostOf(l.cfg.URL), Alarm: true, AlarmAge: l.cfg.AlarmAge, MaxAge: l.cfg.MaxAge,
		Checked: st.Checked, Tried: st.Tried, Next: st.Next, Failed: st.Failed, Fault: st.Fault, Waiting: st.Waiting}
	if list != nil {
		out.Date, out.Age = list.date, s.cfg.Now().Sub(list.date)
		out.Domains, out.Names, out.Skipped = len(list.names), len(list.all), list.odd
		out.Signer, out.SignerUntil = list.signer, list.until
		out.Alarm = out.Age > l.cfg.AlarmAge
	}
	if doubt != nil {
		out.Doubt = doubt.Error()
	}
	return out
}

// Show gives the DNs that may speak for a domain, as they were read, with where each comes from ("config", "white list").
func (s *Space) Show(domain string) (names [][2]string, err error) {
	d, err := message.ParseDomain(domain)
	if err != nil {
		return nil, err
	}
	for _, dn := range s.names[d] {
		names = append(names, [2]string{dn.String(), "config"})
	}
	if s.lister != nil {
		if l := s.lister.force.Load(); l != nil {
			for _, dn := range l.names[d] {
				names = append(names, [2]string{dn.String(), "white list"})
			}
		}
	}
	return names, s.Doubt(d)
}
