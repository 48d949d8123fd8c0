package smime

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
)

// way is one recipient of a message that is one of our keys.
type way struct {
	key    Key
	name   string
	unwrap func(size int) ([]byte, error)
}

// maxWays bounds the operations with private keys that one message can ask for.
const maxWays = 8

// recipients reads the recipients and keeps those that are ours. Those of other kinds (passwords, shared keys) are nobody's here.
func (b *ber) recipients(keys []Key, most int) (ways []way) {
	b.enter(tagSet)
	for count := 0; b.more(); count++ {
		if count == most {
			b.fail(errors.New("more recipients than the limit"))
		}
		der := b.value()
		if b.err != nil {
			return nil
		}
		switch der[0] {
		case tagSequence:
			ways = append(ways, transported(der, keys)...)
		case explicit + 1:
			ways = append(ways, agreed(der, keys)...)
		}
		ways = ways[:min(len(ways), maxWays)]
	}
	b.leave()
	return ways
}

// contentKey gives the key of size bytes by the first way that leads to one. PKCS#1 v1.5 always leads to one, so it comes last.
func contentKey(ways []way, size int) ([]byte, way) {
	slices.SortStableFunc(ways, func(a, b way) int {
		last := map[bool]int{true: 1}
		return last[a.name == wrapPKCS1] - last[b.name == wrapPKCS1]
	})
	for _, w := range ways {
		if key, err := w.unwrap(size); err == nil && len(key) == size {
			return key, w
		}
	}
	return nil, way{}
}

const wrapPKCS1, wrapOAEP, wrapECDH = "RSA-PKCS1", "RSA-OAEP", "ECDH"

// isNamed tells whether a recipient's or signer's identifier is the certificate: issuerAndSerialNumber or, under [0], its key's identifier.
func isNamed(id []byte, c *x509.Certificate) bool {
	if len(id) == 0 {
		return false
	}
	if id[0] == tagSequence {
		own, err := issuerAndSerial(c)
		return err == nil && bytes.Equal(id, own)
	}
	_, ski := split(id)
	if id[0] != implicit || len(ski) == 0 {
		return false
	}
	if len(c.SubjectKeyId) > 0 {
		return bytes.Equal(ski, c.SubjectKeyId)
	}
	var public struct { // RFC 5280 section 4.2.1.2 (1), where the certificate says none
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if unmarshal(c.RawSubjectPublicKeyInfo, &public, "") != nil {
		return false
	}
	own := sha1.Sum(public.Key.Bytes)
	return bytes.Equal(ski, own[:])
}

// transported is KeyTransRecipientInfo.
func transported(der []byte, keys []Key) (ways []way) {
	var info struct {
		Version   int
		Who       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if unmarshal(der, &info, "") != nil {
		return nil
	}
	for _, k := range keys {
		private, ok := k.Private.(*rsa.PrivateKey)
		if !ok || !isNamed(info.Who.FullBytes, k.Cert) {
			continue
		}
		switch {
		case info.Algorithm.Algorithm.Equal(oidRSA):
			ways = append(ways, way{k, wrapPKCS1, func(size int) ([]byte, error) { return unwrapPKCS1(private, info.Key, size) }})
		case info.Algorithm.Algorithm.Equal(oidOAEP):
			options, err := oaepOptions(info.Algorithm.Parameters.FullBytes)
			if err == nil {
				ways = append(ways, way{k, wrapOAEP, func(int) ([]byte, error) { return private.Decrypt(nil, info.Key, options) }})
			}
		}
	}
	return ways
}

// unwrapPKCS1 gives, where the padding is wrong, a key that only ours and this message lead to: nothing tells that from a broken content,
// also not who asks again (Bleichenbacher).
func unwrapPKCS1(private *rsa.PrivateKey, wrapped []byte, size int) ([]byte, error) {
	secret := sha256.Sum256(private.D.Bytes())
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(wrapped)
	key := mac.Sum(nil)[:size]
	//lint:ignore SA1019 what most senders write
	err := rsa.DecryptPKCS1v15SessionKey(nil, private, wrapped, key)
	return key, err
}

// hashes by their object identifiers.
var hashes = map[string]crypto.Hash{
	"1.3.14.3.2.26":          crypto.SHA1, // inside OAEP alone, where nothing rests on collisions
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// oaepOptions reads RSAES-OAEP-params, RFC 4055 section 4.1.
func oaepOptions(der []byte) (*rsa.OAEPOptions, error) {
	var p struct {
		Hash  pkix.AlgorithmIdentifier `asn1:"explicit,tag:0,optional"`
		MGF   pkix.AlgorithmIdentifier `asn1:"explicit,tag:1,optional"`
		Label pkix.AlgorithmIdentifier `asn1:"explicit,tag:2,optional"`
	}
	if len(der) > 0 && !bytes.Equal(der, null) {
		if err := unmarshal(der, &p, ""); err != nil {
			return nil, err
		}
	}
	o := &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	if len(p.Hash.Algorithm) > 0 {
		o.Hash = hashes[p.Hash.Algorithm.String()]
	}
	if len(p.MGF.Algorithm) > 0 {
		var mgf pkix.AlgorithmIdentifier
		if !p.MGF.Algorithm.Equal(oidMGF1) || unmarshal(p.MGF.Parameters.FullBytes, &mgf, "") != nil {
			return nil, errBER
		}
		o.MGFHash = hashes[mgf.Algorithm.String()]
	}
	if len(p.Label.Algorithm) > 0 {
		if err := unmarshal(p.Label.Parameters.FullBytes, &o.Label, ""); err != nil {
			return nil, err
		}
	}
	if o.Hash == 0 || o.MGFHash == 0 {
		return nil, errBER
	}
	return o, nil
}

// The ECDH schemes, RFC 5753 section 7.1.4: for our curves, whose cofactor is 1, both families are one.
var schemes = map[string]crypto.Hash{
	"1.3.133.16.840.63.0.2": crypto.SHA1, "1.3.132.1.11.1": crypto.SHA256, "1.3.132.1.11.2": crypto.SHA384, "1.3.132.1.11.3": crypto.SHA512,
	"1.3.133.16.840.63.0.3": crypto.SHA1, "1.3.132.1.14.1": crypto.SHA256, "1.3.132.1.14.2": crypto.SHA384, "1.3.132.1.14.3": crypto.SHA512,
}

// wraps are AES key wraps, RFC 3565 section 2.3.2, with the bytes of their keys.
var wraps = map[string]int{"2.16.840.1.101.3.4.1.5": 16, "2.16.840.1.101.3.4.1.25": 24, "2.16.840.1.101.3.4.1.45": 32}

// agreed is KeyAgreeRecipientInfo with a fresh key of the sender's (RFC 5753 section 3.1).
func agreed(der []byte, keys []Key) (ways []way) {
	var info struct {
		Version    int
		Originator asn1.RawValue
		UKM        []byte `asn1:"optional,explicit,tag:1"`
		Algorithm  pkix.AlgorithmIdentifier
		Keys       []struct {
			Who asn1.RawValue
			Key []byte
		}
	}
	var fresh struct {
		Algorithm pkix.AlgorithmIdentifier
		Point     asn1.BitString
	}
	var wrap pkix.AlgorithmIdentifier
	if unmarshal(der, &info, "tag:1") != nil || unmarshal(info.Originator.Bytes, &fresh, "tag:1") != nil ||
		unmarshal(info.Algorithm.Parameters.FullBytes, &wrap, "") != nil {
		return nil
	}
	hash, size := schemes[info.Algorithm.Algorithm.String()], wraps[wrap.Algorithm.String()]
	if hash == 0 || size == 0 {
		return nil
	}
	shared := [][]byte{info.Algorithm.Parameters.FullBytes} // ECC-CMS-SharedInfo, section 7.2
	if len(info.UKM) > 0 {
		shared = append(shared, tlv(explicit, tlv(tagOctets, info.UKM)))
	}
	shared = append(shared, tlv(explicit+2, tlv(tagOctets, binary.BigEndian.AppendUint32(nil, uint32(8*size)))))
	for _, r := range info.Keys {
		who := r.Who.FullBytes
		if who[0] == explicit { // RecipientKeyIdentifier: the identifier, and perhaps a date and more
			var id []byte
			if _, err := asn1.Unmarshal(r.Who.Bytes, &id); err == nil {
				who = tlv(implicit, id)
			}
		}
		for _, k := range keys {
			if private, ok := k.Private.(*ecdsa.PrivateKey); ok && isNamed(who, k.Cert) {
				ways = append(ways, way{k, wrapECDH, func(int) ([]byte, error) {
					secret, err := agree(private, fresh.Point.Bytes)
					if err != nil {
						return nil, err
					}
					defer clear(secret)
					kek := x963(hash, secret, tlv(tagSequence, shared...), size)
					defer clear(kek)
					return unwrapKey(kek, r.Key)
				}})
			}
		}
	}
	return ways
}

func agree(private *ecdsa.PrivateKey, point []byte) ([]byte, error) {
	ours, err := private.ECDH()
	if err != nil {
		return nil, err
	}
	theirs, err := ours.Curve().NewPublicKey(point) // on the curve, or an error
	if err != nil {
		return nil, err
	}
	return ours.ECDH(theirs)
}

// x963 is the KDF of ANSI X9.63 (SEC 1 section 3.6.1).
func x963(hash crypto.Hash, secret, info []byte, size int) (out []byte) {
	for i := uint32(1); len(out) < size; i++ {
		h := hash.New()
		h.Write(secret)
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		h.Write(info)
		out = h.Sum(out)
	}
	return out[:size]
}

// unwrapKey is RFC 3394 section 2.2.2.
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)/8 - 1
	if len(wrapped)%8 != 0 || n < 2 || n > 8 {
		return nil, errBER
	}
	out := slices.Clone(wrapped[8:])
	var b [16]byte
	copy(b[:8], wrapped)
	for t := uint64(6 * n); t > 0; t-- {
		r := out[(t-1)%uint64(n)*8:][:8]
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[8:])
	}
	if subtle.ConstantTimeCompare(b[:8], bytes.Repeat([]byte{0xa6}, 8)) != 1 {
		return nil, errors.New("wrong key")
	}
	return out, nil
}
