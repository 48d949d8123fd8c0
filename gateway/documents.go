package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
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

// readXDM finds and reads IHE_XDM.ZIP; on the way to a patient also one of another name, or below a signature. err is ours ("later"); what is
// wrong with the file is in fault.
func (g *Gateway) readXDM(m *mail, patient bool) (*xdm, error) {
	m.reading.Lock() // several lanes may ask at once; a patient is alone in his message
	defer m.reading.Unlock()
	if m.xdm != nil {
		return m.xdm, nil
	}
	index, err := m.parts()
	if err != nil {
		return nil, err
	}
	if patient && slices.ContainsFunc(index.Parts, func(p message.Part) bool { return p.Type == "multipart/signed" }) {
		inside := message.DefaultLimits
		inside.Signed = true
		if index, err = message.Parse(m.body, inside); err != nil {
			return nil, err
		}
	}
	found := &xdm{}
	for _, p := range index.Parts {
		named := strings.EqualFold(p.Name, trust.XDMName) || strings.EqualFold(p.Params["name"], trust.XDMName)
		if len(p.Children) > 0 || !named && !(patient && archive(m.body, p)) {
			continue
		}
		one, fault, err := g.openXDM(m.body, p, named)
		if err != nil {
			return nil, err
		}
		if one == nil && fault == nil {
			continue
		}
		if found.XDM != nil || found.fault != nil {
			found.XDM, found.fault = nil, errors.New("several "+trust.XDMName)
			break
		}
		found.XDM, found.fault = one, fault
	}
	m.xdm = found
	return found, nil
}

// openXDM reads one file; nothing where it is not named as health documents and holds none.
func (g *Gateway) openXDM(b *message.Body, p message.Part, named bool) (x *trust.XDM, fault, err error) {
	file, err := decoded(g.budget, b, p)
	switch {
	case errors.Is(err, message.ErrNoRoom), errors.As(err, new(*fs.PathError)): // no temp file
		return nil, nil, err
	case err != nil && named:
		return nil, err, nil
	case err != nil:
		return nil, nil, nil
	}
	defer file.Close()
	if !named && !trust.HoldsXDM(file, file.Size()) {
		return nil, nil, nil
	}
	x, fault = trust.ReadXDM(file, file.Size())
	return x, fault, nil
}

// archive tells whether a part begins as a ZIP file does (APPNOTE 4.3.7).
func archive(b *message.Body, p message.Part) bool {
	var begin [4]byte
	_, err := io.ReadFull(message.DecodePart(b, p), begin[:])
	return err == nil && string(begin[:]) == "PK\x03\x04"
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
	w := &ways[group[0]]
	if w.facts.PatientINS && g.namesOthers(m.header, m.env.Recipients[group[0]].Local) {
		return nil, refuse(550, [3]int{5, 7, 1}, "Mon espace sante: un autre patient est nomme dans les champs A, Cc ou Repondre a, renvoyez le message a chacun separement", nil)
	}
	if w.facts.PatientINS && closing(m.header) {
		w.decision.Reason += ", closes the exchange"
	}
	x, err := g.readXDM(m, w.facts.PatientINS)
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
		if w.facts.PatientINS { // whose documents they are is not known
			return nil, refuse(550, [3]int{5, 6, 0}, "Les documents joints (IHE_XDM.ZIP) sont illisibles ou en plusieurs fichiers: un seul fichier valide par patient, a corriger dans le logiciel metier", x.fault)
		}
	} else {
		ins := ""
		if w.facts.PatientINS {
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
