package portal

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"passerelle/gateway/vault"
)

// linkIn and senderIn find the secret of a link inside of what programs made of its address.
var (
	linkIn   = regexp.MustCompile(`(?i)(?:^|/)r/([0-9a-z-]{26,})`)
	senderIn = regexp.MustCompile(`(?i)(?:^|/)s/([0-9a-f]{64})`)
)

// mend reads a patient's link out of an address that leads nowhere: escaped once or several times, with what followed a "#", in two copies one after
// the other, inside of another address. It looks at letters alone and asks nothing of the vault, so it cannot tell whether a link exists.
func mend(asked string) (path string, ok bool) {
	for range 4 {
		clear, err := url.PathUnescape(asked)
		if err != nil || clear == asked {
			break
		}
		asked = clear
	}
	asked = strings.ReplaceAll(asked, "\\", "/")
	if m := senderIn.FindStringSubmatch(asked); m != nil {
		return "/s/" + strings.ToLower(m[1]), true
	}
	for _, m := range linkIn.FindAllStringSubmatch(asked, 3) { // 26: vault.LinkLength
		s := strings.ReplaceAll(m[1], "-", "")
		if len(s) < vault.LinkLength {
			continue
		}
		if secret, ok := vault.ParseLink(s[:vault.LinkLength]); ok {
			return "/r/" + secret, true
		}
	}
	return "", false
}

// lost answers what no page is at: it leads back to the link that can be read in the address, else it helps to find the whole one.
func (p *Portal) lost(w http.ResponseWriter, r *http.Request) {
	if to, ok := mend(r.URL.Path); ok && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Path != to {
		if lang := chosenLanguage(r); lang != "" {
			to += "?lang=" + lang
		}
		http.Redirect(w, r, p.base+to, http.StatusSeeOther)
		count("bent", http.StatusSeeOther)
		return
	}
	p.render(w, r, http.StatusNotFound, "error", page{Fault: "gone"})
}

// bent answers a patient's link that is none, with the same page as an unknown one where nothing can be mended, and in the same time: the vault is
// asked for it all the same.
func (p *Portal) bent(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		link := r.PathValue("secret")
		if _, ok := vault.ParseLink(link); ok {
			next(w, r)
			return
		}
		if _, err := p.cfg.Vault.Look(r.Context(), link); vault.Why(err) != vault.NotFound {
			p.fail(w, r, err)
			return
		}
		p.lost(w, r)
	}
}
