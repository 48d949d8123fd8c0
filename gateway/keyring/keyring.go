// Package keyring keeps the public keys of correspondents: certificates for S/MIME and OpenPGP keys. It takes keys from whoever found
// them, with where and how surely, gives those that mail to an address may be sealed to now, and knows nothing of how they are found, of
// MIME or of routes.
//
// They lie in a database file of their own, which a serving gateway and the command line have open side by side: what one of them writes
// the other sees within about a second.
package keyring

import (
	"slices"
	"time"
)

// Kind is what a key is for.
type Kind string

// The kinds.
const (
	SMIME   Kind = "smime"
	OpenPGP Kind = "openpgp"
)

// Source is where a key was found.
type Source string

// The sources.
const (
	Import    Source = "import" // by the operator: passerelle keys import
	WKD       Source = "wkd"
	LDAP      Source = "ldap"
	Harvested Source = "harvested" // from signed mail that arrived
)

// Trust is how sure it is that a key is its address's. Each word says more than the one before.
type Trust string

// The trusts, lowest first.
const (
	Rejected   Trust = "rejected"   // by the operator: never used, whoever finds it again
	Seen       Trust = "seen"       // in mail that it signed itself
	Discovered Trust = "discovered" // told by the domain's own server over TLS: WKD, LDAP
	Verified   Trust = "verified"   // a certificate whose chain was verified
	Confirmed  Trust = "confirmed"  // the operator said so
)

var trusts = []Trust{Rejected, Seen, Discovered, Verified, Confirmed}

// Valid tells whether t is one of the words.
func (t Trust) Valid() bool { return slices.Contains(trusts, t) }

// AtLeast tells whether t says as much as least; a word that is none says nothing and is never reached.
func (t Trust) AtLeast(least Trust) bool {
	return t.Valid() && least.Valid() && t.rank() >= least.rank()
}

func (t Trust) rank() int { return slices.Index(trusts, t) }

// Key is one key under one address. The same key may stand under several.
type Key struct {
	// Address in key form (lower case, A-label), or "@domain" for all of a partner organisation.
	Address string
	Kind    Kind
	// Fingerprint in lower-case hex: SHA-256 of the certificate's DER, or the OpenPGP fingerprint (version 4: 40 digits, 6: 64).
	Fingerprint string
	// Data is the certificate in DER with the chain behind it, leaf first, or the transferable public key in binary.
	Data   []byte
	Name   string // who it says it is: the certificate's subject, the first user ID
	Source Source
	Trust  Trust
	Why    string // one line: who said so, which chain
	// Fixed: the operator set the trust; what is found later does not change it.
	Fixed bool

	Added   time.Time
	Seen    time.Time // last found again, wherever
	Checked time.Time // revocation last asked for, or the key's source; zero: never
	// NotBefore and NotAfter are the key's own; a zero NotAfter is without end.
	NotBefore, NotAfter time.Time
	// Until is when the operator ended it; zero: he did not.
	Until time.Time
	// Revoked is why it is revoked, "" where it is not as far as known.
	Revoked string
}

// Ends is when the key is not used any more, by itself or by the operator's word; zero: never.
func (k *Key) Ends() time.Time {
	if k.NotAfter.IsZero() || !k.Until.IsZero() && k.Until.Before(k.NotAfter) {
		return k.Until
	}
	return k.NotAfter
}

// State is what keeps a key from being used, whatever its trust.
type State string

// The states.
const (
	Valid   State = "valid"
	Early   State = "not yet valid"
	Expired State = "expired"
	Revoked State = "revoked"
)

// State at a time.
func (k *Key) State(now time.Time) State {
	end := k.Ends()
	switch {
	case k.Revoked != "":
		return Revoked
	case !end.IsZero() && !now.Before(end):
		return Expired
	case now.Before(k.NotBefore):
		return Early
	}
	return Valid
}

// Usable tells whether mail may be sealed to the key.
func (k *Key) Usable(now time.Time, least Trust) bool {
	return k.Trust != Rejected && k.Trust.AtLeast(least) && k.State(now) == Valid
}

// Error says why a key is not taken. Its text is for the operator.
type Error struct {
	// Fingerprint is "" where nothing could be read.
	Fingerprint string
	Reason      string
	Err         error
}

func (e *Error) Error() string {
	if e.Fingerprint == "" {
		return e.Reason
	}
	return "key " + Short(e.Fingerprint) + ": " + e.Reason
}

func (e *Error) Unwrap() error { return e.Err }

// Short is as much of a fingerprint as people compare by eye to find it again; it proves nothing.
func Short(fingerprint string) string { return fingerprint[:min(16, len(fingerprint))] }
