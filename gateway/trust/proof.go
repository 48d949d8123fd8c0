package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// proofAge is how long a proof spares the next one. What it must notice sooner (an end of validity, other files) it is told.
	proofAge = time.Minute
	// maxProofs bounds the proofs of one state; a peer has one, or two where it also writes to us.
	maxProofs = 1024
)

// proof is a peer's chain that was found good, and until when that says something.
type proof struct {
	since   time.Time // with the monotonic reading, where the clock has one
	last    time.Time // the latest look at the wall clock
	until   time.Time // the first end among certificates and lists
	gen     uint64    // of the evidence under which it was made
	strict  bool      // its subject is compared to the letter
	subject subject
	odd     error // why the subject cannot be read
}

// proofKey is all that the peer showed, and for which use it was proved.
type proofKey struct {
	shown [sha256.Size]byte
	role  role
}

// proofs remembers good chains, so that a kept connection does not cost its signatures again for each message. They belong to one
// state: other files begin with none. Only success is remembered.
type proofs struct {
	mu   sync.Mutex
	good map[proofKey]*proof
}

// find gives the proof that still holds. The clock is read under the lock: a reading earlier than the last one is a clock that was set
// back, and what was proved until then counts for nothing; nor does what was proved under other evidence.
func (p *proofs) find(k proofKey, gen uint64, clock func() time.Time) *proof {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.good[k]
	if g == nil {
		return nil
	}
	now := clock()
	wall, age := now.Round(0), now.Sub(g.since)
	if wall.Before(g.last) || wall.After(g.until) || age < 0 || age >= proofAge || g.gen != gen {
		delete(p.good, k)
		return nil
	}
	g.last = wall
	return g
}

// keep remembers a proof. A full store is emptied: it is filled again at one proof a peer.
func (p *proofs) keep(k proofKey, g *proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.good == nil || len(p.good) >= maxProofs {
		p.good = map[proofKey]*proof{}
	}
	p.good[k] = g
}

// shown is the SHA-256 of the certificates as they were shown, each behind its length.
func shown(certs []*x509.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range certs {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.Raw))))
		h.Write(c.Raw)
	}
	h.Sum(sum[:0])
	return sum
}
