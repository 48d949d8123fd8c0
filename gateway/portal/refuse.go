package portal

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"

	"passerelle/gateway/vault"
)

// The pages behind a link that need no code: help, and what a recipient may say against a message. What has an effect wants a word typed by
// hand, which no scanner types, whatever it clicks and fills in.
func (p *Portal) besides(mux *http.ServeMux) {
	mux.HandleFunc("GET /r/{secret}/aide", p.aside("help"))
	mux.HandleFunc("GET /r/{secret}/pas-moi", p.aside("notme"))
	mux.HandleFunc("POST /r/{secret}/pas-moi", p.refusal(vault.NotMe, "notme", "pas moi", "not me"))
	mux.HandleFunc("GET /r/{secret}/bloquer", p.aside("block"))
	mux.HandleFunc("POST /r/{secret}/bloquer", p.refusal(vault.BlockSender, "block", "bloquer", "block"))
	mux.HandleFunc("POST /r/{secret}/debloquer", p.unblock)
	mux.HandleFunc("GET /r/{secret}/debloquer", func(w http.ResponseWriter, r *http.Request) { p.back(w, r, "again", "") })
	for _, name := range []string{"accessibilite", "mentions"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			p.render(w, r, http.StatusOK, name, page{Path: p.base + "/" + name})
		})
	}
}

// aside shows a page beside the link's, to whoever has the link.
func (p *Portal) aside(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { p.showAside(w, r, http.StatusOK, name, page{}) }
}

func (p *Portal) showAside(w http.ResponseWriter, r *http.Request, code int, name string, d page) {
	view, err := p.cfg.Vault.Look(r.Context(), r.PathValue("secret"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if view.Refusable = view.Refusable && p.cfg.Refused != nil; name != "help" && !view.Refusable {
		p.fail(w, r, &vault.Error{Reason: vault.NotFound})
		return
	}
	d.View, d.Link = view, p.path(r)
	d.Path = d.Link + map[string]string{"help": "/aide", "notme": "/pas-moi", "block": "/bloquer"}[name]
	if name == "block" {
		if d.Blocked, err = p.cfg.Vault.BlockedBy(r.Context(), r.PathValue("secret")); err != nil {
			p.fail(w, r, err)
			return
		}
		if d.Blocked && d.Done == "" {
			d.Done = "done.block"
		}
	}
	p.render(w, r, code, name, d)
}

// confirmed tells whether a form brings one of these words, typed by hand.
func confirmed(r *http.Request, words ...string) bool {
	typed := strings.Join(strings.Fields(strings.ReplaceAll(r.PostFormValue("mot"), "-", " ")), " ")
	for _, word := range words {
		if strings.EqualFold(typed, word) {
			return true
		}
	}
	return false
}

// refusal notes what a recipient says against a message, and says "done" once the clinic's server took the mail that tells the sender.
func (p *Portal) refusal(kind vault.Refusal, name string, words ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.code(w, r)
		if !confirmed(r, words...) {
			p.showAside(w, r, http.StatusBadRequest, name, page{Fault: "fault.word"})
			return
		}
		view, err := p.cfg.Vault.Look(r.Context(), r.PathValue("secret"))
		if err != nil {
			p.fail(w, r, err)
			return
		}
		if p.cfg.Refused == nil || !view.Refusable {
			p.fail(w, r, &vault.Error{Reason: vault.NotFound})
			return
		}
		key := sha256.Sum256([]byte("refusal " + string(kind) + " " + view.ID))
		err = p.onWay.once(r.Context(), key, func(ctx context.Context) error { // a hundred forms at once are one mail
			s, told, err := p.cfg.Vault.Refuse(ctx, r.PathValue("secret"), kind)
			if err != nil || told {
				return err
			}
			if err := p.cfg.Refused(ctx, s, kind); err != nil {
				return err
			}
			return p.cfg.Vault.RefusalTold(ctx, s.ID, kind)
		})
		if err != nil {
			p.cfg.Log.Warn("what a recipient says against a message is not told", "deposit", view.ID, "err", err)
			p.showAside(w, r, http.StatusBadGateway, name, page{Fault: "fault.refusal"})
			return
		}
		p.showAside(w, r, http.StatusOK, name, page{Done: "done." + name})
	}
}

// unblock takes a block back.
func (p *Portal) unblock(w http.ResponseWriter, r *http.Request) {
	p.code(w, r)
	if !confirmed(r, "débloquer", "debloquer", "unblock") {
		p.showAside(w, r, http.StatusBadRequest, "block", page{Fault: "fault.word"})
		return
	}
	if err := p.cfg.Vault.UnblockBy(r.Context(), r.PathValue("secret")); err != nil {
		p.fail(w, r, err)
		return
	}
	p.showAside(w, r, http.StatusOK, "block", page{Done: "done.unblock"})
}
