package smime

import (
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	oidRSA          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidOAEP         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256       = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECPublic     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidStdDH256     = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}             // dhSinglePass-stdDH-sha256kdf-scheme, RFC 5753 section 7.1.4
	oidAESWrap      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45} // id-aes256-wrap, RFC 3565 section 2.3.2
	oidAES256GCM    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46} // RFC 5084 section 3.2
	oidAES256CBC    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidCapabilities = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}
)

// recipientInfo wraps the content key for the certificate's owner (RFC 5652 section 6.2).
func recipientInfo(c *x509.Certificate, key []byte, suite Suite) (der []byte, err error) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return transport(c, k, key, suite == Modern || announces(c, oidOAEP))
	case *ecdsa.PublicKey:
		return agreement(c, k, key)
	}
	return nil, errors.New("no such key") // Usable has looked
}

// issuerAndSerial names the certificate; every reader finds it by that, not every one by a key identifier.
func issuerAndSerial(c *x509.Certificate) ([]byte, error) {
	serial, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return tlv(tagSequence, c.RawIssuer, serial), nil
}

// transport is KeyTransRecipientInfo: RSA-OAEP with SHA-256 (RFC 3560), or PKCS#1 v1.5 (RFC 3370 section 4.2.1).
func transport(c *x509.Certificate, pub *rsa.PublicKey, key []byte, oaep bool) ([]byte, error) {
	who, err := issuerAndSerial(c)
	if err != nil {
		return nil, err
	}
	algorithm := tlv(tagSequence, oid(oidRSA), null)
	var wrapped []byte
	if oaep {
		hash := tlv(tagSequence, oid(oidSHA256), null)
		algorithm = tlv(tagSequence, oid(oidOAEP), tlv(tagSequence, // RFC 4055 section 4.1
			tlv(explicit, hash), tlv(explicit+1, tlv(tagSequence, oid(oidMGF1), hash))))
		wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, key, nil)
	} else {
		//lint:ignore SA1019 what most certificates in use can be written to with; the weakness is the reader's oracle, which mail does not offer
		wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, pub, key)
	}
	if err != nil {
		return nil, fmt.Errorf("wrap the key by RSA: %w", err)
	}
	return tlv(tagSequence, number(0), who, algorithm, tlv(tagOctets, wrapped)), nil
}

// agreement is KeyAgreeRecipientInfo: one-pass ECDH with a fresh key, X9.63 KDF with SHA-256, AES-256 key wrap (RFC 5753 section 3.1).
func agreement(c *x509.Certificate, pub *ecdsa.PublicKey, key []byte) ([]byte, error) {
	who, err := issuerAndSerial(c)
	if err != nil {
		return nil, err
	}
	theirs, err := pub.ECDH()
	if err != nil {
		return nil, fmt.Errorf("key on a curve: %w", err)
	}
	ours, err := theirs.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("fresh key: %w", err)
	}
	secret, err := ours.ECDH(theirs)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	defer clear(secret)
	wrap := tlv(tagSequence, oid(oidAESWrap)) // RFC 3565 section 2.3.2: no parameters
	// ECC-CMS-SharedInfo, RFC 5753 section 7.2: which cipher the key is for, and its bits.
	info := tlv(tagSequence, wrap, tlv(explicit+2, tlv(tagOctets, binary.BigEndian.AppendUint32(nil, 256))))
	kek := sha256.New() // X9.63: one round gives the 32 octets
	kek.Write(secret)
	kek.Write([]byte{0, 0, 0, 1})
	kek.Write(info)
	wrapped, err := wrapKey(kek.Sum(nil), key)
	if err != nil {
		return nil, err
	}
	point := append([]byte{0}, ours.PublicKey().Bytes()...) // a BIT STRING without unused bits
	// The curve is the recipient's own: left out, as RFC 5753 section 3.1.1 allows and OpenSSL does.
	originator := tlv(explicit+1, tlv(tagSequence, oid(oidECPublic)), tlv(tagBits, point))
	return tlv(explicit+1, number(3), tlv(explicit, originator), tlv(tagSequence, oid(oidStdDH256), wrap),
		tlv(tagSequence, tlv(tagSequence, who, tlv(tagOctets, wrapped)))), nil
}

// wrapKey is RFC 3394 section 2.2.1.
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(key) / 8
	out := append([]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, key...)
	var b [16]byte
	copy(b[:8], out)
	for t := uint64(1); t <= uint64(6*n); t++ {
		r := out[8+(t-1)%uint64(n)*8:][:8]
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		copy(r, b[8:])
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
	}
	copy(out, b[:8])
	return out, nil
}
