package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/crypto/smime"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

var mSigned = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_signed_total",
	Help: "Letters on a route of sign.smime.routes, by what became of their signature."}, []string{"result"}) // signed, form (must not be by its form), no-key, unclear, failed

const noKey = "no key for the author"

// signer is the key for one letter, and why there is none: form where the message must not be signed by its form.
type signer struct {
	key  smime.Key
	ok   bool
	form bool
	why  string // "" where nobody asked for a signature
}

// signs tells whether sign.smime names the way.
func (s *settings) signs(route policy.Route) bool {
	return slices.Contains(s.sign.Routes, string(route))
}

// signerOf finds the key that signs for the author of a header as it leaves.
func (g *Gateway) signerOf(m *mail, h message.Header, route policy.Route, patient bool) (signer, error) {
	s := g.set.sign
	if !g.set.signs(route) {
		return signer{}, nil
	}
	author, one := onlyAddress(h, "From")
	if len(s.From) > 0 && !matchesAny(s.From, author.Key()) {
		return signer{}, nil
	}
	x, err := m.parts()
	if err != nil {
		return signer{}, err
	}
	switch {
	case m.env.Sender.IsNull():
		return signer{form: true, why: "a report"}, nil
	case patient: // Mon espace sante takes documents out of a message's own parts
		return signer{form: true, why: "for a patient's mailbox"}, nil
	}
	if why, form := protect.Unsignable(m.body, x); why != "" {
		return signer{form: form, why: why}, nil
	}
	if s.XDM == "leave" && (len(xdmParts(x)) > 0 || m.holdsXDM()) {
		return signer{form: true, why: "health documents"}, nil
	}
	if !one || author.IsNull() {
		return signer{why: "its author is unclear"}, nil
	}
	key, ok := g.keys.smimeSigner(author)
	if !ok {
		return signer{why: noKey}, nil
	}
	return signer{key: key, ok: true}, nil
}

// holdsXDM tells whether health documents were found in it, under whatever name.
func (m *mail) holdsXDM() bool {
	m.reading.Lock()
	defer m.reading.Unlock()
	return m.xdm != nil && m.xdm.XDM != nil
}

func matchesAny(globs []string, a string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(strings.ToLower(glob), a)
		return err == nil && ok
	})
}

// says is what ledger and explain tell.
func (s *signer) says() string {
	switch {
	case s.ok:
		return ", signed by " + cut(s.key.Cert.Subject.String(), 240)
	case s.why != "":
		return ", not signed: " + s.why
	}
	return ""
}

// signLetter signs a letter of the message's own body where sign.smime says so. done gives back what it made, once the letter is handed on.
func (g *Gateway) signLetter(ctx context.Context, m *mail, l relay.Letter, route policy.Route, ways []way, group []int) (_ relay.Letter, done func(), err error) {
	nothing := func() {}
	if l.Body != m.body || !g.set.signs(route) { // a report is written anew
		return l, nothing, nil
	}
	from := l.Body
	if l.Offset > 0 { // the header was written anew, above the old body
		from = message.BytesBody(l.Header)
	}
	h, _, err := message.ReadHeader(from, 2*g.set.maxHeader)
	if err != nil {
		return l, nil, err
	}
	body, says, err := g.signBody(ctx, m, h, route, ways[group[0]].facts.PatientINS)
	if err != nil {
		return l, nil, err
	}
	for _, i := range group {
		ways[i].decision.Reason += says
	}
	if body == nil {
		return l, nothing, nil
	}
	if l.Offset > 0 {
		l.Header = nil
	}
	l.Body, l.Offset = body, 0
	return l, func() { body.Close() }, nil
}

// signBody gives the whole message signed under the header h, nil where it is not to be.
func (g *Gateway) signBody(ctx context.Context, m *mail, h message.Header, route policy.Route, patient bool) (*message.Body, string, error) {
	s, err := g.signerOf(m, h, route, patient)
	if err != nil || s.why == "" && !s.ok {
		return nil, "", err
	}
	if !s.ok {
		result := "unclear"
		switch {
		case s.form:
			result = "form"
		case s.why == noKey:
			result = "no-key"
		}
		mSigned.WithLabelValues(result).Inc()
		if g.set.sign.Required && !s.form {
			return nil, "", s.unsigned()
		}
		return nil, s.says(), nil
	}
	release, err := g.budget.Reserve(ctx, min(weighKey, g.budget.HalfWork()))
	if err != nil {
		return nil, "", err
	}
	defer release()
	x, err := m.parts()
	if err != nil {
		return nil, "", err
	}
	o := g.set.protect
	o.Budget = g.budget
	if route != policy.Trust { // it breaks what stands there of another's server, and a dead signature helps nobody
		h = withoutFields(h, "DKIM-Signature")
	}
	body, err := protect.Sign(ctx, h, m.body, x, m.start, func(entity io.Reader) ([]byte, string, error) {
		var der bytes.Buffer
		err := smime.Sign(&der, entity, s.key, g.now())
		return der.Bytes(), smime.Micalg, err
	}, o)
	if err != nil {
		mSigned.WithLabelValues("failed").Inc()
		if errors.Is(err, message.ErrNoRoom) || ctx.Err() != nil {
			return nil, "", err
		}
		return nil, "", later("Signature S/MIME impossible, nouvel essai plus tard", err)
	}
	mSigned.WithLabelValues("signed").Inc()
	return body, s.says(), nil
}

// unsigned is the refusal of sign.smime.required.
func (s *signer) unsigned() *fault {
	err := fmt.Errorf("sign.smime.required: %s", s.why)
	if s.why == noKey {
		return refuse(550, [3]int{5, 7, 0}, "Signature S/MIME obligatoire: aucune cle valide pour votre adresse, l'administrateur peut l'ajouter", err)
	}
	return refuse(550, [3]int{5, 7, 0}, "Signature S/MIME obligatoire: la forme de ce message ne le permet pas, envoyez-le depuis un logiciel de messagerie courant", err)
}

func withoutFields(h message.Header, names ...string) message.Header {
	var out message.Header
	out.AppendRaw(h.Fields()...)
	out.Del(names...)
	return out
}

// signedInside is the message that is encrypted: signed first where sign.smime says so. done gives back what it made.
func (g *Gateway) signedInside(ctx context.Context, m *mail, x *message.Index, w *way) (_ *message.Body, _ *message.Index, done func(), err error) {
	nothing := func() {}
	if f := w.decision.Form; f != policy.FormSMIME && f != policy.FormOpenPGP {
		return m.body, x, nothing, nil
	}
	body, says, err := g.signBody(ctx, m, m.header, policy.Encrypt, false)
	if err != nil {
		return nil, nil, nil, err
	}
	w.decision.Reason += says
	if body == nil {
		return m.body, x, nothing, nil
	}
	if x, err = message.Parse(body, message.DefaultLimits); err != nil {
		body.Close()
		return nil, nil, nil, err
	}
	return body, x, func() { body.Close() }, nil
}

// explainSigning says in an explanation's reason whether the letter would be signed.
func (g *Gateway) explainSigning(ctx context.Context, m *mail, w *way) (string, error) {
	h := m.header
	if w.decision.Route == policy.Trust && g.mailboxes != nil {
		who, err := g.writer(ctx, m)
		if err != nil || who.trouble != "" || who.report {
			return "", err
		}
		h = withoutFields(h, "From")
		if err := h.Append("From", "<"+who.as.Mailbox.String()+">"); err != nil {
			return "", err
		}
	}
	s, err := g.signerOf(m, h, w.decision.Route, w.facts.PatientINS)
	if err != nil {
		return "", err
	}
	if s.why != "" && !s.form && g.set.sign.Required {
		return "", s.unsigned()
	}
	return s.says(), nil
}
