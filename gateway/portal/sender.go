package portal

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"passerelle/gateway/vault"
)

// senders serves the page that a sender's receipts lead to: how his message stands, and what he may do about it. Nothing of the content
// is on it. What cannot be undone wants a word typed by hand, which no scanner types.
func (p *Portal) senders(mux *http.ServeMux) {
	mux.HandleFunc("GET /s/{link}", p.sending)
	for name, do := range map[string]func(*http.Request, *vault.Sending, *vault.Status) (done, fault string, err error){
		"retirer": p.revoke, "renvoyer": p.resend, "numero": p.complete, "debloquer": p.unlock, "clore": p.closeExchange, "rouvrir": p.reopen,
	} {
		mux.HandleFunc("POST /s/{link}/"+name, func(w http.ResponseWriter, r *http.Request) { p.act(w, r, do) })
		mux.HandleFunc("GET /s/{link}/"+name, func(w http.ResponseWriter, r *http.Request) { p.toSending(w, r, "") })
	}
}

func (p *Portal) sending(w http.ResponseWriter, r *http.Request) {
	s, err := p.cfg.Vault.SendingOf(r.Context(), r.PathValue("link"))
	if vault.Why(err) == vault.NotFound {
		p.lost(w, r)
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	d := page{}
	switch done := r.URL.Query().Get("fait"); done {
	case "revoked", "resent", "unlocked", "completed", "closed", "reopened":
		d.Done = "done." + done
	}
	p.showSending(w, r, http.StatusOK, s, d)
}

func (p *Portal) showSending(w http.ResponseWriter, r *http.Request, code int, s *vault.Sending, d page) {
	d.Path, d.Sending, d.stands = p.base+"/s/"+r.PathValue("link"), s, p.cfg.Vault.Stands
	d.CanResend = p.cfg.Resend != nil
	p.render(w, r, code, "sender", d)
}

// act does one thing to one deposit of a sending, or to all of them where its form names none.
func (p *Portal) act(w http.ResponseWriter, r *http.Request, do func(*http.Request, *vault.Sending, *vault.Status) (done, fault string, err error)) {
	s, err := p.cfg.Vault.SendingOf(r.Context(), r.PathValue("link"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	id := r.PostFormValue("depot")
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		p.hurry(w, 0)
	}
	var one *vault.Status
	for i := range s.Deposits {
		if s.Deposits[i].ID == id {
			one = &s.Deposits[i]
		}
	}
	if one == nil && id != "tous" {
		p.showSending(w, r, http.StatusBadRequest, s, page{Fault: "fault.ended"})
		return
	}
	done, fault, err := do(r, s, one)
	if err != nil {
		p.cfg.Log.Warn("what a sender asked for was not done", "sending", s.ID, "err", err)
	}
	if fault != "" {
		if now, err := p.cfg.Vault.SendingOf(r.Context(), r.PathValue("link")); err == nil {
			s = now
		}
		p.showSending(w, r, http.StatusConflict, s, page{Fault: fault})
		return
	}
	p.toSending(w, r, done)
}

func (p *Portal) toSending(w http.ResponseWriter, r *http.Request, done string) {
	q := r.URL.Query()
	q.Del("fait")
	if done != "" {
		q.Set("fait", done)
	}
	to := p.base + "/s/" + r.PathValue("link")
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	count("sender", http.StatusSeeOther)
}

// revoke destroys one recipient's content, or everybody's.
func (p *Portal) revoke(r *http.Request, s *vault.Sending, one *vault.Status) (done, fault string, err error) {
	if !confirmed(r, "retirer", "withdraw") {
		return "", "fault.confirm", nil
	}
	for i := range s.Deposits {
		if d := &s.Deposits[i]; one == nil || d.ID == one.ID {
			if err = errors.Join(err, p.cfg.Vault.Revoke(context.WithoutCancel(r.Context()), d.ID)); err != nil {
				return "", "broken", err
			}
		}
	}
	return "revoked", "", nil
}

func (p *Portal) resend(r *http.Request, _ *vault.Sending, one *vault.Status) (done, fault string, err error) {
	switch {
	case !confirmed(r, "renvoyer", "resend"):
		return "", "fault.confirm", nil
	case one == nil || p.cfg.Resend == nil || one.State != vault.Waiting:
		return "", "fault.ended", nil
	case !one.Linked:
		return "", "snd.nolink", nil
	}
	if fault, err := p.blocked(r, one); fault != "" {
		return "", fault, err
	}
	if !p.again.Allow(one.ID, p.cfg.Vault.Now()) {
		return "", "fault.often", nil
	}
	if err := p.cfg.Resend(r.Context(), one.ID); err != nil {
		return "", "fault.resend", err
	}
	return "resent", "", nil
}

// blocked is what a sender reads whose recipient wants no more of his links: trying again would bring nothing.
func (p *Portal) blocked(r *http.Request, one *vault.Status) (fault string, err error) {
	switch yes, err := p.cfg.Vault.Blocked(r.Context(), one.Sender, one.Recipient); {
	case err != nil:
		return "fault.resend", err
	case yes:
		return "fault.blocked", nil
	}
	return "", nil
}

// unlock ends what wrong codes did, as resend does, for a deposit whose link is with its recipient alone: he has called, and still has his notice.
func (p *Portal) unlock(r *http.Request, _ *vault.Sending, one *vault.Status) (done, fault string, err error) {
	switch {
	case !confirmed(r, "débloquer", "debloquer", "unlock"):
		return "", "fault.confirm", nil
	case one == nil || one.State != vault.Waiting:
		return "", "fault.ended", nil
	case !p.again.Allow(one.ID, p.cfg.Vault.Now()):
		return "", "fault.often", nil
	}
	if err := p.cfg.Vault.Unlock(r.Context(), one.ID); err != nil {
		return "", "broken", err
	}
	return "unlocked", "", nil
}

func (p *Portal) complete(r *http.Request, _ *vault.Sending, one *vault.Status) (done, fault string, err error) {
	if one == nil || p.cfg.Complete == nil || one.State != vault.Held {
		return "", "fault.ended", nil
	}
	number := strings.TrimSpace(r.PostFormValue("numero"))
	switch strings.ToLower(number) {
	case "": // a robot's empty form
		return "", "fault.phone", nil
	case "téléphone", "telephone":
		number = ""
	}
	if fault, err := p.blocked(r, one); fault != "" {
		return "", fault, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), handOnTime)
	defer cancel()
	err = p.cfg.Complete(ctx, one.ID, number)
	switch {
	case errors.Is(err, vault.ErrPhone):
		return "", "fault.phone", nil
	case errors.Is(err, vault.ErrMobile):
		return "", "fault.mobile", nil
	case err != nil:
		return "", "fault.resend", err
	}
	return "completed", "", nil
}

func (p *Portal) closeExchange(r *http.Request, s *vault.Sending, one *vault.Status) (done, fault string, err error) {
	return p.exchange(r, s, one, true)
}

func (p *Portal) reopen(r *http.Request, s *vault.Sending, one *vault.Status) (done, fault string, err error) {
	return p.exchange(r, s, one, false)
}

func (p *Portal) exchange(r *http.Request, s *vault.Sending, one *vault.Status, closed bool) (done, fault string, err error) {
	if !confirmed(r, map[bool][]string{true: {"clore", "close"}, false: {"rouvrir", "reopen"}}[closed]...) {
		return "", "fault.confirm", nil
	}
	if one == nil {
		return "", "fault.ended", nil
	}
	if err := p.cfg.Vault.CloseExchange(r.Context(), s.Sender, one.Recipient, closed); err != nil {
		return "", "broken", err
	}
	if closed {
		return "closed", "", nil
	}
	return "reopened", "", nil
}
