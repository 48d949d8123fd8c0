package directory

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"passerelle/gateway/message"
)

// LDAPConfig is where a clinic's or a region's LDAP directory is and how its entries are read. Nothing about it is standard: the
// operator says all of it.
type LDAPConfig struct {
	URL  string // ldap:// or ldaps://host[:port]
	Base string // a DN; its whole subtree is searched
	// Filter holds %s once, where the address is put in, escaped (RFC 4515): (&(objectClass=person)(mail=%s)).
	Filter string
	// BindDN is who asks, "" for an anonymous question; its password is Password or what PasswordFile holds.
	BindDN       string
	Password     Secret
	PasswordFile string
	// StartTLS begins TLS on an ldap:// connection before anything is said. Without it every word is in clear, which loopback may
	// always have and another host if Clear says so.
	StartTLS, Clear bool
	CA              string // PEM file that verifies the server in the place of the system's roots
	Timeout         time.Duration
	SizeLimit       int // entries for one address; more are an error
	// MSS tells which entries are MSSanté mailboxes: an attribute that they have, attribute=value, or * where all are. Others are not
	// listed.
	MSS        string
	Attributes LDAPAttributes
}

// LDAPAttributes names the attribute for each field of a record; "" where the directory has none. Address must be the one that the
// filter compares.
type LDAPAttributes struct {
	Address, Kind                    string
	Title, LastName, FirstName       string
	RPPS                             string
	Profession, Category, Speciality string
	Structure, StructureID, Service  string
	City, PostalCode, Department     string
	RedList, Inactive                string // LDAP booleans
	// Certificate holds certificates in DER (RFC 4523), OpenPGPKey public keys, armoured or binary. Any may be several.
	Certificate, OpenPGPKey string
}

// ldapSource asks an LDAP directory (RFC 4511) about one address at a time. It is safe for concurrent use.
type ldapSource struct {
	cfg      LDAPConfig
	now      func() time.Time
	pool     *ldapPool
	names    []string // the attributes to ask for
	mss      string   // "" where every entry is a mailbox
	mssValue string
}

const (
	defaultLDAPTimeout   = 2 * time.Second
	defaultLDAPSizeLimit = 20
)

// newLDAP checks the settings, the authority's file and the password's; it connects to nobody.
func newLDAP(cfg LDAPConfig, now func() time.Time) (remote, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultLDAPTimeout
	}
	if cfg.SizeLimit <= 0 {
		cfg.SizeLimit = defaultLDAPSizeLimit
	}
	pool, err := newLDAPPool(cfg)
	if err != nil {
		return nil, fmt.Errorf("open ldap directory: %w", err)
	}
	cfg.Password = "" // the pool has it
	l := &ldapSource{cfg: cfg, now: now, pool: pool, names: cfg.Attributes.names()}
	switch name, value, _ := strings.Cut(cfg.MSS, "="); {
	case strings.Count(cfg.Filter, "%s") != 1:
		return nil, errors.New("open ldap directory: the filter must hold %s once")
	case cfg.Attributes.Address == "":
		return nil, errors.New("open ldap directory: attributes.address must be set")
	case name == "":
		return nil, errors.New("open ldap directory: mss must say which entries are mailboxes of MSSante")
	case cfg.MSS != "*":
		l.mss, l.mssValue = name, value
		l.names = append(l.names, name)
	}
	if _, err := ldap.CompileFilter(l.filter(message.Address{Local: "a", Domain: "b"})); err != nil {
		return nil, errors.New("open ldap directory: the filter is not one of RFC 4515")
	}
	return l, nil
}

func (l *ldapSource) name() string { return "ldap" }

func (l *ldapSource) close() error { return l.pool.close() }

// filter puts the address in. EscapeFilter makes every octet that could end a value, and every one above 0x7f, a \xx.
func (l *ldapSource) filter(a message.Address) string {
	return strings.Replace(l.cfg.Filter, "%s", ldap.EscapeFilter(a.Key()), 1)
}

// ask gives a record for each entry that names a. It never waits longer than the timeout. Too many entries, a reference to another
// server and an entry whose address cannot be read are errors: what was not seen in whole is not "not listed".
func (l *ldapSource) ask(ctx context.Context, a message.Address) ([]Record, error) {
	if a.IsNull() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	res, err := l.pool.search(ctx, &ldap.SearchRequest{
		BaseDN: l.cfg.Base, Scope: ldap.ScopeWholeSubtree, DerefAliases: ldap.NeverDerefAliases,
		SizeLimit: l.cfg.SizeLimit, EnforceSizeLimit: true, TimeLimit: int(l.cfg.Timeout/time.Second) + 1,
		Filter: l.filter(a), Attributes: l.names,
	})
	if said := new(ldapError); errors.As(err, &said) && said.code == ldap.LDAPResultSizeLimitExceeded {
		return nil, oddAddress{fmt.Errorf("ask ldap: %w", err)}
	}
	if err != nil {
		return nil, fmt.Errorf("ask ldap: %w", err)
	}
	recs, err := l.records(a.Key(), res.Entries)
	if err != nil {
		return nil, fmt.Errorf("ask ldap: %w", err)
	}
	if elsewhere := peopleElsewhere(res.Referrals); len(recs) == 0 && elsewhere {
		return nil, errors.New("ask ldap: a part of the tree lies on another server, which is not asked: set base below it")
	}
	return recs, nil
}

// peopleElsewhere tells whether a search reference leads to where people may be. Active Directory refers every search from a
// domain's root to three partitions that hold none.
func peopleElsewhere(refs []string) bool {
	for _, r := range refs {
		u, err := url.Parse(r)
		if err != nil {
			return true
		}
		dn := strings.ToLower(strings.TrimPrefix(u.Path, "/"))
		if !strings.HasPrefix(dn, "dc=forestdnszones,") && !strings.HasPrefix(dn, "dc=domaindnszones,") && !strings.HasPrefix(dn, "cn=configuration,") {
			return true
		}
	}
	return false
}

// endpoint reads the URL: host:port, and the way to TLS.
func (cfg LDAPConfig) endpoint() (addr string, implicit, start bool, err error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return "", false, false, errors.New("url is not ldap://host or ldaps://host")
	}
	port := u.Port()
	switch u.Scheme {
	case "ldaps":
		if port == "" {
			port = ldap.DefaultLdapsPort
		}
		return net.JoinHostPort(u.Hostname(), port), true, false, nil
	case "ldap":
		if port == "" {
			port = ldap.DefaultLdapPort
		}
		if !cfg.StartTLS && !cfg.Clear && !onLoopback(u.Hostname()) {
			return "", false, false, errors.New("without start_tls it speaks in clear: only to loopback, or where clear is set")
		}
		return net.JoinHostPort(u.Hostname(), port), false, cfg.StartTLS, nil
	}
	return "", false, false, errors.New("url is not ldap://host or ldaps://host")
}

func onLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.Unmap().IsLoopback()
}

// tlsConfig verifies the server by the host of the URL; the file is read again for each connection, so that it can be replaced.
func (cfg LDAPConfig) tlsConfig(addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if cfg.CA == "" {
		return t, nil
	}
	pem, err := readBounded(cfg.CA, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca holds no certificate in PEM")
	}
	return t, nil
}

// credentials gives the password of BindDN. An empty one would be an "unauthenticated bind", which servers answer with success and
// treat as anonymous (RFC 4513 section 5.1.2).
func (cfg LDAPConfig) credentials(pass string) (string, error) {
	if cfg.PasswordFile != "" {
		b, err := readBounded(cfg.PasswordFile, 4096)
		if err != nil {
			return "", fmt.Errorf("read password_file: %w", err)
		}
		pass = string(bytes.TrimRight(b, "\r\n"))
	}
	if (cfg.BindDN == "") != (pass == "") {
		return "", errors.New("bind_dn and its password must be set together")
	}
	return pass, nil
}
