package keyring

import "time"

// Material is a key as a file holds it, not yet under an address.
type Material struct {
	Kind        Kind
	Fingerprint string
	Data        []byte // as Key.Data
	Name        string
	// Addresses that it names itself, in key form: the certificate's, the user IDs'.
	Addresses           []string
	NotBefore, NotAfter time.Time
	Revoked             string
	// Fault is why nothing can be sealed to it now; nil where it can.
	Fault error
}

// Read gives the keys of a file: certificates in PEM, DER or PKCS#7, OpenPGP keys armoured or binary. Certificates of authorities
// stand behind the leaf that they issued and are none of their own. A private key in it is an *Error, as is a file without a key.
func Read(file []byte, now time.Time) ([]Material, error) { panic("TODO") }

func readOne(kind Kind, data []byte, now time.Time) (*Material, error) { panic("TODO") }
