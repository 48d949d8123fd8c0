package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"passerelle/gateway/vault"
)

// phrases serves the page that the cover text of an encrypted ZIP or PDF leads to: its recipient has the passphrase told again, by SMS to the
// telephone that the clinic knows or by the sender. The page never shows it: who reads the mailbox would read the file.
func (p *Portal) phrases(mux *http.ServeMux) {
	mux.HandleFunc("GET /m/{link}", p.phrase)
	mux.HandleFunc("POST /m/{link}", p.tellPhrase)
}

func (p *Portal) phrasePath(r *http.Request) string {
	return p.base + "/m/" + url.PathEscape(r.PathValue("link"))
}

func (p *Portal) phrase(w http.ResponseWriter, r *http.Request) {
	d := page{}
	switch done := r.URL.Query().Get("fait"); done {
	case string(vault.BySMS), string(vault.BySender):
		d.Done = "phr.done." + done
	}
	p.showPhrase(w, r, http.StatusOK, d)
}

func (p *Portal) showPhrase(w http.ResponseWriter, r *http.Request, code int, d page) {
	d.Path = p.phrasePath(r)
	view, err := p.cfg.Vault.LookPhrase(r.Context(), r.PathValue("link"))
	switch why := vault.Why(err); {
	case why == vault.NotFound, why == vault.Gone:
		code, d.Done, d.Fault = status(why), "", "phr.gone"
	case err != nil:
		p.fail(w, r, err)
		return
	}
	d.Phrase = view
	p.render(w, r, code, "phrase", d)
}

// tellPhrase does what the reader asked for, and leads back to the page so that loading it again repeats nothing.
func (p *Portal) tellPhrase(w http.ResponseWriter, r *http.Request) {
	p.code(w, r) // the whole form
	by := vault.Mode(r.PostFormValue("par"))
	if by != vault.BySMS && by != vault.BySender { // a form that a program filled in
		p.showPhrase(w, r, http.StatusBadRequest, page{})
		return
	}
	err := p.cfg.Vault.TellPhrase(r.Context(), r.PathValue("link"), by)
	if err == nil {
		q := r.URL.Query()
		q.Set("fait", string(by))
		http.Redirect(w, r, p.phrasePath(r)+"?"+q.Encode(), http.StatusSeeOther)
		count("phrase", http.StatusSeeOther)
		return
	}
	d := page{}
	switch vault.Why(err) {
	case vault.Limited:
		d.Fault = "phr.limited"
		var e *vault.Error
		if errors.As(err, &e) && !e.Until.IsZero() {
			wait := e.Until.Sub(p.cfg.Vault.Now())
			d.Minutes = minutes(wait)
			w.Header().Set("Retry-After", strconv.Itoa(max(1, int(wait/time.Second))))
		}
	case vault.NotSent:
		d.Fault = "phr.notsent"
	case vault.NotFound, vault.Gone:
	default:
		p.fail(w, r, err)
		return
	}
	p.showPhrase(w, r, status(vault.Why(err)), d)
}
