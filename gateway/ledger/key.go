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

// key is the HMAC under which the memory knows a recipient of an attempt: who can read the database learns neither address nor
// content from it.
type key [sha256.Size]byte

// derive separates this use of the server key from every other.
func derive(server [32]byte) (k [32]byte) {
	m := hmac.New(sha256.New, server[:])
	m.Write([]byte("passerelle ledger memory v1"))
	m.Sum(k[:0])
	return k
}

// keys gives the key of each ask. A client may name one recipient twice in a message and gets two replies for it: the second is
// counted, so that each has a life of its own.
func (l *Ledger) keys(asks []Ask) []key {
	out := make([]key, len(asks))
	seen := make(map[key]struct{}, len(asks))
	for i, a := range asks {
		for nth := uint32(0); ; nth++ {
			out[i] = hashAsk(l.key, a, nth)
			if _, twice := seen[out[i]]; !twice {
				break
			}
		}
		seen[out[i]] = struct{}{}
	}
	return out
}

func hashAsk(under [32]byte, a Ask, nth uint32) (k key) {
	m := hmac.New(sha256.New, under[:])
	m.Write(encodeAsk(a, nth))
	m.Sum(k[:0])
	return k
}

// encodeAsk writes each text with its length in front, so that no two asks have the same bytes.
func encodeAsk(a Ask, nth uint32) []byte {
	b := make([]byte, 0, 3*8+len(a.Client)+len(a.Sender)+len(a.Recipient)+len(a.Body)+4)
	for _, s := range []string{a.Client, a.Sender, a.Recipient} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, a.Body[:]...)
	return binary.BigEndian.AppendUint32(b, nth)
}
