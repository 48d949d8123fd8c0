package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

// documents are the rules for health documents on their way into the trust space (trust.documents).
type documents struct {
	product string // X-MSS-NIL of mail that bears none; "": not added
	refuse  bool   // what does not fit its documents is refused, not only noted
	fill    bool   // X-MSS-CODECDA and X-MSS-INS are added where they are missing
}

// xdm is what the message's IHE_XDM.ZIP says, read once: nil where there is none. fault is why it cannot be read.
type xdm struct {
	*trust.XDM
	fault error
}

// readXDM finds and reads IHE_XDM.ZIP. err is ours ("later"); what is wrong with the file is in fault.
func (g *Gateway) readXDM(m *mail) (*xdm, error) {
	m.reading.Lock() // several lanes may ask at once
	defer m.reading.Unlock()
	if m.xdm != nil {
		return m.xdm, nil
	}
	index, err := m.parts()
	if err != nil {
		return nil, err
	}
	m.xdm = &xdm{}
	for _, p := range index.Parts {
		if !strings.EqualFold(p.Name, trust.XDMName) || len(p.Children) > 0 {
			continue
		}
		if m.xdm.XDM != nil || m.xdm.fault != nil {
			m.xdm.XDM, m.xdm.fault = nil, errors.New("several "+trust.XDMName)
			break
		}
		file, err := decoded(g.budget, m.body, p)
		if errors.Is(err, message.ErrNoRoom) {
			m.xdm = nil
			return nil, err
		}
		if err == nil {
			m.xdm.XDM, err = trust.ReadXDM(file, file.Size())
			file.Close()
		}
		m.xdm.fault = err
	}
	return m.xdm, nil
}

// decoded is a part without its transfer encoding, in memory or an encrypted temp file.
func decoded(budget *message.Budget, b *message.Body, p message.Part) (*message.Body, error) {
	w := budget.NewWriter(p.Size() * 3 / 4)
	if _, err := io.Copy(w, message.DecodePart(b, p)); err != nil {
		w.Abort()
		return nil, err
	}
	return w.Body()
}

// inSpace holds a message for the trust space against the documents in it, and gives the fields that are put on top of it. What does not fit
// is noted with the decision, and refused where trust.documents says so; another patient's documents never reach a patient.
func (g *Gateway) inSpace(ctx context.Context, m *mail, ways []way, group []int) (top []byte, err error) {
	d := g.set.documents
	add := func(name, value string) error {
		if value == "" || len(m.header.Values(name)) > 0 {
			return nil
		}
		f, err := message.FormatField(name, value)
		top = append(top, f...)
		return err
	}
	if err := add("X-MSS-NIL", d.product); err != nil {
		return nil, err
	}
	if w := &ways[group[0]]; w.facts.PatientINS && closing(m.header) {
		w.decision.Reason += ", closes the exchange"
	}
	x, err := g.readXDM(m)
	if err != nil {
		return nil, err
	}
	if x.XDM == nil && x.fault == nil {
		return top, nil
	}
	var faults []string
	if x.fault != nil {
		faults = []string{"it cannot be read"}
		g.log.Warn("health documents cannot be read", "id", m.env.ID, "err", x.fault)
	} else {
		ins := ""
		if ways[group[0]].facts.PatientINS {
			ins = m.env.Recipients[group[0]].Local
		}
		var wrong bool
		if faults, wrong = x.Check(m.header, ins); wrong {
			return nil, refuse(550, [3]int{5, 7, 1}, "Le document joint (IHE_XDM.ZIP) est celui d'un autre patient que le destinataire, verifiez le destinataire", nil)
		}
		if d.fill && len(x.Codes) > 0 {
			if err := errors.Join(add("X-MSS-CODECDA", strings.Join(x.Codes, ",")), add("X-MSS-INS", map[bool]string{true: "O", false: "N"}[x.Qualified])); err != nil {
				return nil, err
			}
		}
	}
	said := trust.XDMName + " fits the message"
	if len(faults) > 0 {
		said = trust.XDMName + ": " + strings.Join(faults, ", ")
		if d.refuse {
			return nil, refuse(550, [3]int{5, 6, 0}, "IHE_XDM.ZIP ou son objet ne suit pas les regles MSSante, a corriger dans le logiciel metier (passerelle explain dit quoi)", fmt.Errorf("%s", said))
		}
	}
	for _, i := range group {
		ways[i].decision.Reason += ", " + said
	}
	return top, nil
}
