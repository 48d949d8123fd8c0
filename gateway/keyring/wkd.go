package keyring

import (
	"context"
	"crypto/sha1"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"passerelle/crypto/openpgp"
	"passerelle/gateway/message"
)

// WebDirectory asks the Web Key Directory of an address's own domain for its OpenPGP key (draft-koch-openpgp-webkey-service-19). All that vouches for
// an answer is the web server's certificate. It is safe for concurrent use.
//
// It says to a stranger's server, and to who watches the network, that somebody here writes to the address: it is asked only where
// the operator wants that.
type WebDirectory struct {
	cfg   WKDConfig
	http  webGetter
	hosts *hostGuard
}

// WKDConfig is how directories are asked. The zero value will do.
type WKDConfig struct {
	// CA is a PEM file that verifies servers in the place of the system's roots: a closed network's own.
	CA string
	// Networks may be connected to although they are not of the public Internet, in CIDR notation.
	Networks []string
	// Timeout bounds a question, with all that belongs to it; 0 is 5 s.
	Timeout time.Duration
	// Port is 443 where 0.
	Port     int
	Resolver *net.Resolver
	Now      func() time.Time
}

const (
	wkdTimeout = 5 * time.Second
	wkdLargest = 64 << 10 // octets of an answer
)

// WKDAnswer is a directory's word on an address. That nobody could be asked is an error in its place.
type WKDAnswer struct {
	Key         []byte   // binary, with the user ID of the address alone; nil: there is none
	Fingerprint string   // lower-case hex
	Why         string   // why there is no key, for the operator
	Refused     bool     // something was given, and it is not believed or of no use
	Revoked     []string // fingerprints of keys that it shows to be taken back by their owner
}

// Unasked is why a directory could not be asked: it may answer soon.
type Unasked struct{ Err error }

func (e *Unasked) Error() string { return "ask web key directory: " + e.Err.Error() }
func (e *Unasked) Unwrap() error { return e.Err }

// NewWKD reads the authority's file; it connects to nobody.
func NewWKD(cfg WKDConfig) (*WebDirectory, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = wkdTimeout
	}
	if cfg.Port == 0 {
		cfg.Port = 443
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h, err := newWebGetter(cfg)
	if err != nil {
		return nil, fmt.Errorf("web key directory: %w", err)
	}
	return &WebDirectory{cfg: cfg, http: h, hosts: newHostGuard(cfg.Now)}, nil
}

// Find asks the directory of the address's domain, not longer than the timeout. The error is an *Unasked.
func (w *WebDirectory) Find(ctx context.Context, a message.Address) (WKDAnswer, error) {
	if !hasDirectory(a.Domain) {
		return WKDAnswer{Why: "its domain can have no directory"}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	leave, err := w.hosts.enter(ctx, a.Domain)
	if err != nil {
		return WKDAnswer{}, &Unasked{err}
	}
	ans, err := w.find(ctx, a)
	leave(err)
	if err != nil {
		return WKDAnswer{}, &Unasked{err}
	}
	return ans, nil
}

// find asks by the advanced method, or by the direct one where the name openpgpkey does not exist (section 3.1): whatever else goes wrong
// there, falling back would let who disturbs the one choose the other.
func (w *WebDirectory) find(ctx context.Context, a message.Address) (WKDAnswer, error) {
	for _, host := range []string{"openpgpkey." + a.Domain, a.Domain} {
		_, err := w.cfg.Resolver.LookupNetIP(ctx, "ip", host+".")
		if none := new(net.DNSError); errors.As(err, &none) && none.IsNotFound {
			continue
		}
		if err != nil {
			return WKDAnswer{}, fmt.Errorf("look up host: %w", err)
		}
		body, why, err := w.http.get(ctx, w.url(host, a))
		switch {
		case err != nil:
			return WKDAnswer{}, err
		case why.text != "":
			return WKDAnswer{Why: why.text, Refused: why.refused}, nil
		}
		return readWKD(body, a, w.cfg.Now()), nil
	}
	return WKDAnswer{Why: "its domain has no web server"}, nil
}

// url is where the key of an address is on a host. The local part is mapped to lower case in ASCII alone, and goes as written beside
// its hash.
func (w *WebDirectory) url(host string, a message.Address) string {
	sum := sha1.Sum([]byte(lowerASCII(a.Local)))
	path := "/.well-known/openpgpkey/"
	if host != a.Domain {
		path += a.Domain + "/"
	}
	if w.cfg.Port != 443 {
		host = net.JoinHostPort(host, fmt.Sprint(w.cfg.Port))
	}
	return "https://" + host + path + "hu/" + zbase32.EncodeToString(sum[:]) + "?l=" + strings.ReplaceAll(url.QueryEscape(a.Local), "+", "%20")
}

// zbase32 is RFC 6189 section 5.1.6; SHA-1 only makes a file's name here.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// hasDirectory: an address literal has none, and a name without a dot is of this network.
func hasDirectory(domain string) bool {
	return strings.Contains(domain, ".") && !strings.HasPrefix(domain, "[")
}

// readWKD takes the key of the address out of a directory's answer. One that bears no such user ID is refused (section 3.1); what it shows
// beside may be revoked, so that everybody learns it.
func readWKD(body []byte, a message.Address, now time.Time) (ans WKDAnswer) {
	defer func() {
		if p := recover(); p != nil { // a stranger's bytes; a library's panic stays with them
			ans = WKDAnswer{Why: "the answer cannot be read", Refused: true}
		}
	}()
	k, raw, err := openpgp.Pick(body, bears(a), now)
	if err == nil {
		ans.Key, ans.Fingerprint = raw, strings.ToLower(k.Fingerprint())
	} else {
		ans.Why, ans.Refused = err.Error(), true
	}
	all, _ := openpgp.ReadKeys(body)
	for _, k := range all {
		if k.Revoked(now) {
			ans.Revoked = append(ans.Revoked, strings.ToLower(k.Fingerprint()))
		}
	}
	return ans
}

// bears tells whether an address of a key or a certificate is this one, in the form that we compare in.
func bears(a message.Address) func(string) bool {
	want := a.Key()
	return func(s string) bool {
		got, err := message.ParseAddress(s, true)
		return err == nil && !got.IsNull() && got.Key() == want
	}
}
