package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Ask names one recipient of one attempt. Two attempts are the same for a recipient when all four are equal.
type Ask struct {
	Client, Sender string
	Recipient      string // as the client wrote it
	Body           [32]byte
}

// key is the HMAC under which the memory knows a recipient of an attempt, cut to 28 octets, and which copy it is: who can read the
// database learns neither address nor content from it.
type key [32]byte

const hashed = 28

func (k key) copy(nth uint32) key {
	binary.BigEndian.PutUint32(k[hashed:], nth)
	return k
}

// nth tells which of several copies in hand at one time it is.
func (k key) nth() uint32 { return binary.BigEndian.Uint32(k[hashed:]) }

// maxCopies bounds the copies of one message in hand at one time.
const maxCopies = 1 << 16

// derive separates this use of the server key from every other.
func derive(server [32]byte) (k [32]byte) {
	m := hmac.New(sha256.New, server[:])
	m.Write([]byte("passerelle ledger memory v1"))
	m.Sum(k[:0])
	return k
}

func hashAsk(under [32]byte, a Ask) (k key) {
	m := hmac.New(sha256.New, under[:])
	m.Write(encodeAsk(a))
	var sum [sha256.Size]byte
	copy(k[:hashed], m.Sum(sum[:0]))
	return k
}

// encodeAsk writes each text with its length in front, so that no two asks have the same bytes.
func encodeAsk(a Ask) []byte {
	b := make([]byte, 0, 3*8+len(a.Client)+len(a.Sender)+len(a.Recipient)+len(a.Body))
	for _, s := range []string{a.Client, a.Sender, a.Recipient} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, a.Body[:]...)
}
