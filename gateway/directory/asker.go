package directory

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// Asking says how a source over the network is asked.
type Asking struct {
	// Every is the age at which an answer is asked for again in the background; 0 is a day.
	Every time.Duration
	// MaxAge is the age at which an answer is no longer believed; 0 is 21 days.
	MaxAge time.Duration
	// Timeout bounds a question on the mail's way; 0 is 2 s.
	Timeout time.Duration
	// OnMail: an address without a fresh answer is asked about while its mail waits.
	OnMail bool
	// Verifies: the source's word counts for the verdict.
	Verifies bool
	// About says of which domains the source is asked, nil of none: who a clinic writes to is nobody else's business.
	About func(domain string) bool
}

func (a Asking) complete() Asking {
	if a.Every <= 0 {
		a.Every = 24 * time.Hour
	}
	if a.MaxAge <= 0 {
		a.MaxAge = defaultMaxAge
	}
	if a.Timeout <= 0 {
		a.Timeout = 2 * time.Second
	}
	if a.About == nil {
		a.About = func(string) bool { return false }
	}
	return a
}

// asker is a remote with how it is asked.
type asker struct {
	*leased
	Asking
	// key names the source and what exactly it is asked of: answers that another server gave are not its own.
	key  string
	made any // the config that it was made from
}

// concerns tells whether the source is asked about the address at all.
func (r *asker) concerns(a message.Address) bool { return r.About(a.Domain) }

// tellsKeys: the operator said where its keys are.
func (r *asker) tellsKeys() bool {
	c, ok := r.made.(LDAPConfig)
	return ok && (c.Attributes.Certificate != "" || c.Attributes.OpenPGPKey != "")
}

// question asks the source; what panics on a stranger's answer could not be asked.
func (r *asker) question(ctx context.Context, a message.Address) (recs []Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			recs, err = nil, fmt.Errorf("panic: %T", p)
		}
		result := "listed"
		switch {
		case err != nil:
			result = failedBy(err)
		case len(recs) == 0:
			result = "none"
		}
		remoteAsked.WithLabelValues(r.name(), result).Inc()
	}()
	if recs, err = r.ask(ctx, a); err != nil {
		return nil, err
	}
	key := a.Key()
	named := recs[:0:0]
	for _, rec := range recs { // a record that does not name the address proves nothing about it
		if k, err := addressKey(rec.Address); err != nil || k != key {
			continue
		}
		rec.Address, rec.Source = key, r.name()
		rec.flag()
		if named = append(named, rec); len(named) == maxRecords {
			break
		}
	}
	return named, nil
}

// failedBy says in a word why a source could not be asked: timeout, tls, down (no connection, or it broke off), answer (it cannot be used, or
// says that there is none).
func failedBy(err error) string {
	var slow net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	case errors.Is(err, errBeginTLS), errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return "tls"
	case errors.As(err, new(*net.OpError)), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "down"
	}
	return "answer"
}

// remoteSpec is one remote source of the config, and how it is opened.
type remoteSpec struct {
	key    string
	config any
	Asking
	open func(*fhirLimit) (remote, error)
}

// specs are the sources over the network that the config names.
func (c *Config) specs() (specs []remoteSpec) {
	if f := c.FHIR; f != nil && f.URL != "" {
		specs = append(specs, remoteSpec{key: answersOf(sourceFHIR, f.URL), config: *f, Asking: c.FHIRAsking,
			open: func(l *fhirLimit) (remote, error) { return newFHIR(*f, l, c.Now, c.Log) }})
	}
	if l := c.LDAP; l != nil && l.URL != "" {
		specs = append(specs, remoteSpec{key: answersOf(sourceLDAP, l.URL, l.Base, l.Filter, l.MSS, fmt.Sprintf("%+v", l.Attributes)), config: *l, Asking: c.LDAPAsking,
			open: func(*fhirLimit) (remote, error) { return newLDAP(*l, c.Now) }})
	}
	return specs
}

// answersOf tells answers of one server, asked in one way, from others'.
func answersOf(name string, what ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(what, "\x00")))
	return name + " " + hex.EncodeToString(sum[:8])
}

// furnish opens the sources of d's config; those of a former Directory that are the same go on.
func (d *Directory) furnish(ctx context.Context, former *Directory) (err error) {
	specs := d.cfg.remotes
	if specs == nil {
		specs = d.cfg.specs()
	}
	a := d.asking.Load()
	if a == nil && len(specs) > 0 {
		if a, err = openAsking(ctx, d.cfg); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				a.close()
				return
			}
			d.asking.Store(a)
		}()
	}
	for _, s := range specs {
		r := &asker{Asking: s.Asking.complete(), key: s.key, made: s.config}
		if former != nil {
			r.leased = a.same(former.remotes, s)
		}
		if r.leased == nil {
			o, err := s.open(a.limit)
			if err != nil {
				a.abandon(d.remotes)
				return fmt.Errorf("directory: %w", err)
			}
			r.leased = a.own(o)
		}
		d.remotes = append(d.remotes, r)
	}
	return nil
}

// same leases the remote of a former state that was made from the same config, nil where there is none.
func (a *asking) same(former []*asker, s remoteSpec) *leased {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range former {
		if f.key == s.key && reflect.DeepEqual(f.made, s.config) && a.lease(f.leased) {
			return f.leased
		}
	}
	return nil
}

func (a *asking) abandon(rs []*asker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range rs {
		a.letGo(r.leased)
	}
}
