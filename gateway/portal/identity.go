package portal

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"passerelle/gateway/openid"
	"passerelle/gateway/vault"
)

// IdentityPath is where providers send browsers back to, under the public URL.
const IdentityPath = "/identite/retour"

// ticketLife is how long a person may take at the provider's pages.
const ticketLife = 10 * time.Minute

// ticket is what a browser keeps of an attempt, sealed: what the provider needs again, and the link, which the provider never sees.
type ticket struct {
	openid.Ticket
	Provider string `json:"provider"`
	Link     string `json:"link"`
	Until    int64  `json:"until"`
	Lang     string `json:"lang,omitempty"` // as chosen on the page
	Spent    bool   `json:"spent,omitempty"`
}

// providers that can vouch for who a deposit is for.
func (p *Portal) providers(w *vault.View) []*openid.Provider {
	var out []*openid.Provider
	for _, o := range p.cfg.Providers {
		if w != nil && (o.Professionals && w.Professional || !o.Professionals && w.Patient) {
			out = append(out, o)
		}
	}
	return out
}

// identify sends the browser to a provider. It is a link and no form: a form's redirect to another site falls under form-action. Nothing is
// changed by it here, whoever follows it.
func (p *Portal) identify(w http.ResponseWriter, r *http.Request) {
	link := r.PathValue("secret")
	view, err := p.cfg.Vault.Look(r.Context(), link)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	for _, o := range p.providers(view) {
		if o.Name != r.PathValue("name") {
			continue
		}
		to, asked, err := o.Begin(r.Context())
		t := ticket{Ticket: asked, Provider: o.Name, Link: link, Lang: chosenLanguage(r), Until: p.cfg.Vault.Now().Add(ticketLife).Unix()}
		if err == nil {
			err = p.keepTicket(w, t)
		}
		if err != nil {
			p.cfg.Log.Warn("a provider could not be asked", "provider", o.Name, "err", err)
			p.toLink(w, r, t, "away")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, to, http.StatusSeeOther)
		count("identity", http.StatusSeeOther)
		return
	}
	p.fail(w, r, &vault.Error{Reason: vault.NotFound})
}

// identified takes back who was sent to a provider. The state leads to the cookie of the browser that began; without it nothing is asked.
func (p *Portal) identified(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	t, ok := p.ticket(r, q.Get("state"))
	now := p.cfg.Vault.Now()
	switch {
	case !ok: // another browser, or long ago: its link is not known here
		p.render(w, r, http.StatusForbidden, "error", page{Fault: "astray"})
		return
	case t.Spent, now.Unix() > t.Until, !p.tickets.Allow(t.State, now): // the way back in the browser's history; a copied cookie
		p.toLink(w, r, t, "again")
		return
	}
	spent := ticket{Ticket: openid.Ticket{State: t.State}, Link: t.Link, Lang: t.Lang, Until: t.Until, Spent: true}
	if err := p.keepTicket(w, spent); err != nil {
		p.fail(w, r, err)
		return
	}
	view, err := p.cfg.Vault.Look(r.Context(), t.Link)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	for _, o := range p.providers(view) {
		if o.Name == t.Provider {
			p.compare(w, r, o, t, view.ID)
			return
		}
	}
	p.toLink(w, r, t, "again")
}

func (p *Portal) compare(w http.ResponseWriter, r *http.Request, o *openid.Provider, t ticket, id string) {
	q := r.URL.Query()
	if q.Get("error") != "" || q.Get("code") == "" { // he gave up, or the provider did not let him
		p.toLink(w, r, t, "refused")
		return
	}
	who, err := o.Finish(r.Context(), t.Ticket, q.Get("code"))
	if err != nil {
		p.cfg.Log.Warn("a provider named nobody", "provider", o.Name, "err", err)
		fault := "refused"
		if openid.Away(err) {
			fault = "away"
		}
		p.toLink(w, r, t, fault)
		return
	}
	shown := vault.Identity{BirthName: who.BirthName, FirstNames: who.FirstNames, BirthDate: who.BirthDate, RPPS: who.RPPS}
	if o.Professionals && !shown.Professional() || !o.Professionals && !shown.Patient() { // it is nobody else's: there is nothing to compare, or to count
		p.cfg.Log.Warn("a provider's answer lacks what is compared: pickup.oidc.claims and scopes", "provider", o.Name)
		p.toLink(w, r, t, "refused")
		return
	}
	session, err := p.cfg.Vault.Identify(r.Context(), t.Link, vault.Shown{Provider: o.Name, Professionals: o.Professionals, Identity: shown}, p.client(r))
	switch why := vault.Why(err); {
	case err == nil:
		p.setSession(w, id, session)
		p.toLink(w, r, t, "")
	case why == vault.SlowDown:
		p.toLink(w, r, t, "slow")
	case why == vault.NotSame, why == vault.Locked, why == vault.CodeVoid:
		p.toLink(w, r, t, "other")
	default:
		p.fail(w, r, err)
	}
}

// identityFaults are the words for what toLink may say.
var identityFaults = map[string]string{"away": "fault.id.away", "again": "fault.id.again", "refused": "fault.id.refused", "other": "fault.id.other", "slow": "fault.slow"}

// toLink leads to the deposit's page, so that neither code nor state stays in the address.
func (p *Portal) toLink(w http.ResponseWriter, r *http.Request, t ticket, fault string) {
	to, q := p.base+"/r/"+url.PathEscape(t.Link), url.Values{}
	if fault != "" {
		q.Set("identite", fault)
	}
	if t.Lang != "" {
		q.Set("lang", t.Lang)
	}
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	count("identity", http.StatusSeeOther)
}

func (p *Portal) ticketName(state string) string {
	if p.secure {
		return "__Host-passerelle-id-" + state[:12]
	}
	return "passerelle-id-" + state[:12]
}

func (p *Portal) keepTicket(w http.ResponseWriter, t ticket) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	sealed, err := p.cfg.Vault.SealForBrowser(b)
	if err != nil {
		return err
	}
	if len(t.State) < 12 {
		return errors.New("the state is too short")
	}
	// Lax: the way back from the provider is a navigation from another site.
	http.SetCookie(w, &http.Cookie{Name: p.ticketName(t.State), Value: sealed, Path: "/", Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(ticketLife / time.Second)})
	return nil
}

func (p *Portal) ticket(r *http.Request, state string) (t ticket, ok bool) {
	if len(state) < 12 || len(state) > 200 {
		return t, false
	}
	c, err := r.Cookie(p.ticketName(state))
	if err != nil {
		return t, false
	}
	b, err := p.cfg.Vault.OpenFromBrowser(c.Value)
	if err != nil || json.Unmarshal(b, &t) != nil {
		return t, false
	}
	return t, t.State == state
}

// askName names the cookie of a browser that asked for a deposit's code.
func (p *Portal) askName(id string) string {
	if p.secure {
		return "__Host-passerelle-code-" + id[:12]
	}
	return "passerelle-code-" + id[:12]
}

func (p *Portal) setAsked(w http.ResponseWriter, id, asked string) {
	if asked != "" {
		http.SetCookie(w, &http.Cookie{Name: p.askName(id), Value: asked, Path: "/", Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
}

func (p *Portal) asked(r *http.Request, id string) string {
	c, err := r.Cookie(p.askName(id))
	if err != nil {
		return ""
	}
	return c.Value
}
