package gateway

import (
	"context"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
	"passerelle/policy"
)

// What is weighed in the budget before it is done. The figures are of the most that a step holds at once beside the bodies themselves,
// rounded up: a header is there as bytes, as fields, as what the rules read and as what leaves; an index keeps what its parts' headers
// say, of which message.Parse takes 512 KiB at most; deflate and the tables of the ciphers are fixed.
const (
	weighMessage = 16 << 10  // envelope, facts, ways, lines of the ledger, and a usual index
	weighHeader  = 6         // times the header
	weighIndex   = 512 << 10 // at most; a message cannot have more parts than bytes
	weighKey     = 256 << 10 // S/MIME, OpenPGP
	weighZIP     = 1536 << 10
	weighDeposit = 256 << 10
	weighText    = 4 // times the texts that a page shows, which are read into memory
)

// room takes the memory that a message needs while it is in hand, and what it may need until it is decided. decided gives the
// second part back: an index is small but for hostile messages, and a slow hop must not hold what others need to be read.
func (g *Gateway) room(ctx context.Context, body *message.Body) (release func(), decided func(*message.Index), err error) {
	most := min(body.Size(), weighIndex)
	hand, index, err := g.budget.ReserveTwo(ctx, weighMessage+weighHeader*int64(message.HeaderLen(body, g.set.maxHeader)), most)
	if err != nil {
		return nil, nil, err
	}
	release = func() { index(); hand() }
	return release, func(x *message.Index) {
		if x == nil || x.Weight < weighMessage {
			index()
		}
	}, nil
}

// sealingRoom takes what sealing one copy needs, beyond room. It is given back before the copy is handed on: a slow hop holds none.
func (g *Gateway) sealingRoom(ctx context.Context, m *mail, w *way) (release func(), err error) {
	n := int64(weighKey)
	switch {
	case w.decision.Route == policy.Pickup, w.sealed:
		n = weighDeposit + weighText*min(m.body.Size(), 2*g.set.maxText)
		if g.shared != nil {
			n += store.BucketMemory
		}
	case w.decision.Form == policy.FormZIP, w.decision.Form == policy.FormPDF: // protect.PDF weighs the PDF of a message that it takes apart
		n = weighZIP
	}
	return g.budget.Reserve(ctx, min(n, g.budget.HalfWork())) // the message's own room is held meanwhile
}
