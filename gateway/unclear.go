package gateway

import (
	"errors"

	"passerelle/policy"
)

// unclear refuses, where encrypt.unclear says so, to protect a message that mail programs may take apart differently. What is only packed
// (uuencode, winmail.dat) is not among them: it is unpacked, or sealed as it is.
func (g *Gateway) unclear(m *mail, w *way) error {
	if r := w.decision.Route; !g.set.refuseUnclear || r != policy.Encrypt && r != policy.Pickup {
		return nil
	}
	x, err := m.parts()
	if err != nil {
		return err
	}
	why := x.Unclear
	if !x.Whole() {
		if x.Check(m.body) == nil {
			return nil
		}
		why = "a part's encoding is broken"
	}
	return refuse(550, [3]int{5, 6, 0}, "Structure du message ambigue: ecrivez un nouveau message et joignez-y les documents (pas de transfert), ou un PDF", errors.New(why))
}
