package protect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
)

// IDs are the message ids of both sides of the gateway. One that shows the clinic's inside (its names, a host without a domain) is known
// in the trust space under another, `<p1.TOKEN@own domain>`. The token is the id itself, encrypted under a key of the server: nothing
// is stored, the same id always has the same token, and what comes back in In-Reply-To or References is the old id again, so that
// threads hold on both sides. An id of the trust space that would be taken for one of ours is known inside under `<f1.TOKEN@own domain>`,
// so that an answer bears it again as it was.
type IDs struct {
	enc, mac [32]byte
	names    Names
	host     string
}

// NewIDs takes a key that serves nothing else. Host is a domain of the trust space.
func NewIDs(key [32]byte, names Names, host string) *IDs {
	sub := func(what string) (k [32]byte) {
		m := hmac.New(sha256.New, key[:])
		m.Write([]byte(what))
		copy(k[:], m.Sum(nil))
		return k
	}
	return &IDs{enc: sub("message-id enc v1"), mac: sub("message-id mac v1"), names: names, host: host}
}

const (
	oursOutside   = "p1."
	theirsInside  = "f1."
	maxID         = 400 // longer ids are not reversible: their token is a hash
	hashedOutside = "h1."
)

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// Outside gives the id as the trust space knows it; id is with its angle brackets.
func (x *IDs) Outside(id string) string {
	if theirs, ok := x.open(theirsInside, id); ok {
		return theirs
	}
	if !x.names.In(id) && !nameless(id) {
		return id
	}
	return x.seal(oursOutside, id)
}

// Inside gives an id of In-Reply-To or References as the clinic knows it.
func (x *IDs) Inside(id string) string {
	if ours, ok := x.open(oursOutside, id); ok {
		return ours
	}
	return x.Theirs(id)
}

// Theirs gives the id of a message from the trust space as the clinic gets it.
func (x *IDs) Theirs(id string) string {
	if x.names.In(id) || !nameless(id) || len(id) > maxID {
		return id
	}
	return x.seal(theirsInside, id)
}

// OutsideAll and InsideAll do it for each id of a field's value. What is no id in brackets is left out: it is a comment, or a phrase (RFC 5322
// section 4.5.4).
//
// Of a thread of hundreds the first and the last ids leave: an id outside is longer than inside, and a header has its limits.
func (x *IDs) OutsideAll(value string) string {
	all := strings.Fields(eachID(value, func(id string) string { return id }))
	if len(all) > maxThread {
		all = append(all[:1:1], all[len(all)-maxThread+1:]...)
	}
	for i, id := range all {
		all[i] = x.Outside(id)
	}
	return strings.Join(all, " ")
}

func (x *IDs) InsideAll(value string) string { return eachID(value, x.Inside) }

const maxThread = 100

func eachID(value string, f func(string) string) string {
	var out []string
	for {
		i := strings.IndexByte(value, '<')
		if i < 0 {
			break
		}
		j := strings.IndexByte(value[i:], '>')
		if j < 0 {
			break
		}
		if id := strings.Join(strings.Fields(value[i:i+j+1]), ""); id != "<>" { // folded within: obsolete, and the same id
			out = append(out, f(id))
		}
		value = value[i+j+1:]
	}
	return strings.Join(out, " ")
}

func (x *IDs) tag(kind, id string) []byte {
	m := hmac.New(sha256.New, x.mac[:])
	m.Write([]byte(kind + "\x00" + id))
	return m.Sum(nil)[:aes.BlockSize]
}

// seal is encryption with a synthetic nonce (as RFC 5297): the MAC of the id is the counter's start and proves the id when opened.
func (x *IDs) seal(kind, id string) string {
	tag := x.tag(kind, id)
	if len(id) > maxID {
		return "<" + hashedOutside + idEncoding.EncodeToString(tag) + "@" + x.host + ">"
	}
	return "<" + kind + idEncoding.EncodeToString(append(tag, x.crypt(tag, id)...)) + "@" + x.host + ">"
}

func (x *IDs) open(kind, id string) (string, bool) {
	token, ok := strings.CutPrefix(id, "<"+kind)
	if !ok {
		return "", false
	}
	token, host, _ := strings.Cut(strings.TrimSuffix(token, ">"), "@")
	raw, err := idEncoding.DecodeString(strings.ToLower(token))
	if err != nil || len(raw) <= aes.BlockSize || idEncoding.EncodeToString(raw) != strings.ToLower(token) || !strings.EqualFold(host, x.host) {
		return "", false
	}
	was := string(x.crypt(raw[:aes.BlockSize], string(raw[aes.BlockSize:])))
	return was, hmac.Equal(x.tag(kind, was), raw[:aes.BlockSize])
}

func (x *IDs) crypt(tag []byte, s string) []byte {
	block, err := aes.NewCipher(x.enc[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	out := make([]byte, len(s))
	cipher.NewCTR(block, tag).XORKeyStream(out, []byte(s))
	return out
}

// nameless tells whether what stands behind the @ is no public name: a bare host, an address, a name of a local network.
func nameless(id string) bool {
	at := strings.LastIndexByte(id, '@')
	if at < 0 {
		return true
	}
	host := strings.ToLower(strings.TrimRight(strings.Trim(id[at+1:], "<>[]"), "."))
	if _, err := netip.ParseAddr(strings.TrimPrefix(host, "ipv6:")); err == nil {
		return true
	}
	dot := strings.LastIndexByte(host, '.')
	if dot < 0 {
		return true
	}
	switch host[dot+1:] {
	case "local", "lan", "localdomain", "internal", "intranet", "intra", "corp", "home", "private", "priv", "localhost", "arpa":
		return true
	}
	return false
}
