package smime

import (
	"errors"
	"io"
	"time"
)

// Micalg is the parameter of multipart/signed (RFC 8551 section 3.5.3.2) that goes with Sign.
const Micalg = "sha-256"

// Sign writes the detached signature (SignedData in DER: smime.p7s) of entity, a MIME entity with CRLF line ends, of which nothing but the
// digest is held. It is RSA PKCS#1 v1.5 or ECDSA, with SHA-256, and holds the whole chain of the key.
func Sign(w io.Writer, entity io.Reader, key Key, now time.Time) error {
	return errors.New("sign: not yet")
}
