package portal

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/brand"
	"passerelle/gateway/openid"
	"passerelle/gateway/vault"
	"passerelle/gateway/web"
)

// page is what the templates may show.
type page struct {
	Lang   string
	Clinic vault.Clinic
	Style  string
	Logo   string // "" for the house's own sign
	brand  *brand.Brand
	// Path is the page's own, without the final slash; Query keeps a language that was chosen.
	Path, Query string
	Title       string
	Base, Link  string         // of all pages; of the link's page, on those beside it
	Shown       map[int]string // types of the files that can be shown in place
	Open        int            // the file that is, -1 for none
	Fault       string         // key of the words that say what went wrong, or ""
	Done        string         // key of the words that say what went right, or ""
	Minutes     int            // to wait, of some faults
	View        *vault.View
	Content     *vault.Content
	Sending     *vault.Sending
	Blocked     bool // the sender of View
	CanResend   bool
	Phrase      *vault.PhraseView
	Providers   []*openid.Provider
	stands      func(vault.Status, string) string
	Frame       bool // the message has HTML to show
	FrameOpen   bool
	CanAnswer   bool
	Text        string // of an answer that was not sent
	Token       string // of the answer's form
	File        string // that a fault is about
	PerDay      int
	ByHand      bool // the phrase's form asks for a word beside it
	Script      template.JS
	MaxFiles    int
	MaxSize     string
}

// T gives the words for a key in the page's language.
func (p page) T(key string) string {
	if s, ok := p.brand.Text(p.Lang, key); ok {
		return s
	}
	for _, lang := range []string{p.Lang, "fr"} {
		if s, ok := words[lang][key]; ok {
			return s
		}
	}
	return ""
}

// Date writes a time for the reader, in Paris.
func (p page) Date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if t = t.In(web.Paris()); p.Lang == "en" {
		return vault.DateEN(t)
	}
	return strings.ReplaceAll(vault.DateFR(t), " h ", "\u00a0h\u00a0")
}

// Stands says how one recipient's deposit stands.
func (p page) Stands(d vault.Status) string { return p.stands(d, p.Lang) }

// Living tells whether there is content left, Held whether it waits for a number, Unread whether nobody has opened it, whose notice may then be sent
// again where the link is here (Linked).
func (p page) Living(d vault.Status) bool {
	return d.State == vault.Held || d.State == vault.Waiting || d.State == vault.Opened
}
func (p page) Held(d vault.Status) bool   { return d.State == vault.Held && p.CanResend }
func (p page) Unread(d vault.Status) bool { return d.State == vault.Waiting && p.CanResend }

// Name is a file's name as it is downloaded; the one in the message may be made to deceive.
func (p page) Name(f vault.Entry) string { return fileName(f.Name) }

// Size writes a number of octets for the reader.
func (p page) Size(n int64) string { return size(p.Lang, n) }

func size(lang string, n int64) string {
	units, comma := []string{"octets", "Ko", "Mo", "Go"}, ","
	if lang == "en" {
		units, comma = []string{"bytes", "KB", "MB", "GB"}, "."
	}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	digits := 0
	if i > 0 && f < 10 {
		digits = 1
	}
	number := strings.TrimSuffix(strconv.FormatFloat(f, 'f', digits, 64), ".0")
	return strings.Replace(number, ".", comma, 1) + "\u00a0" + units[i]
}

// render writes a page; what fails in a template is noticed before the first octet is sent.
func (p *Portal) render(w http.ResponseWriter, r *http.Request, code int, name string, d page) {
	lang, chosen := web.Language(r)
	d.Lang, d.Clinic, d.Style, d.Base, d.brand = lang, p.cfg.Vault.Clinic(), p.base+p.sheet.Path, p.base, p.cfg.Brand
	if p.logo != "" {
		d.Logo = p.base + p.logo
	}
	if chosen {
		d.Query = "?lang=" + lang
	}
	if d.View != nil {
		d.View.Refusable = d.View.Refusable && p.cfg.Refused != nil
	}
	if d.Path == "" {
		d.Path = p.base + "/"
	}
	if d.Title == "" && name == "help" {
		d.Title = d.T(d.HelpKey())
	} else if d.Title == "" {
		d.Title = d.T("title." + name)
	}
	d.MaxFiles, d.MaxSize = p.cfg.MaxFiles, size(lang, p.cfg.MaxAnswer)
	if err := web.Render(w, code, templates, name+".html", lang, "Accept-Language, Cookie", d); err != nil {
		p.cfg.Log.Error("page failed", "err", err)
		code = http.StatusInternalServerError
	}
	count(name, code)
}

// path is the address of a deposit's page as it was asked for, with what a mail program glued to the link escaped: a "?" there would
// cut off what the pages append.
func (p *Portal) path(r *http.Request) string {
	return p.base + "/r/" + url.PathEscape(r.PathValue("secret"))
}

// back sends the browser to the deposit's page after a POST, so that a reload repeats nothing.
func (p *Portal) back(w http.ResponseWriter, r *http.Request, name, done string) {
	q := r.URL.Query()
	q.Del("fait")
	q.Del("vue")
	q.Del("identite")
	if done != "" {
		q.Set("fait", done)
	}
	to := p.path(r)
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	count(name, http.StatusSeeOther)
}

// show is the deposit's page: the content where the browser has proved a code, else the way to one.
func (p *Portal) show(w http.ResponseWriter, r *http.Request) {
	secret := r.PathValue("secret")
	view, err := p.cfg.Vault.Look(r.Context(), secret)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	c, err := p.cfg.Vault.Open(r.Context(), secret, p.session(r, view.ID))
	switch {
	case vault.Why(err) == vault.NoSession:
		d := page{View: view}
		d.Fault = identityFaults[r.URL.Query().Get("identite")]
		if (view.Mode == vault.BySMS || view.Mode == vault.ByEmail) && view.CodeSent && r.URL.Query().Get("fait") == "code" {
			d.Done = "done.code"
		}
		p.showLink(w, r, http.StatusOK, d)
	case err != nil:
		p.fail(w, r, err)
	default:
		defer c.Close()
		d := page{}
		if r.URL.Query().Get("fait") == "reponse" {
			d.Done = "done.answer"
		}
		p.showMessage(w, r, http.StatusOK, c, d)
	}
}

// typed leads who typed the access code by hand to the page of his link.
func (p *Portal) typed(w http.ResponseWriter, r *http.Request) {
	link, err := p.cfg.Vault.Typed(r.Context(), p.code(w, r), p.client(r))
	switch vault.Why(err) {
	case vault.NotFound:
		p.render(w, r, http.StatusNotFound, "typed", page{Path: p.base + "/retrait", Fault: "fault.typed"})
		return
	case vault.SlowDown:
		p.render(w, r, http.StatusTooManyRequests, "typed", page{Path: p.base + "/retrait", Fault: "fault.slow"})
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	to := p.base + "/r/" + link
	if q := r.URL.Query().Encode(); q != "" {
		to += "?" + q
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	count("typed", http.StatusSeeOther)
}

func (p *Portal) showLink(w http.ResponseWriter, r *http.Request, code int, d page) {
	d.Path, d.Providers = p.path(r), p.providers(d.View)
	if now := p.cfg.Vault.Now(); d.Fault == "" && d.View.LockedUntil.After(now) {
		d.Fault, d.Minutes = "fault.locked", minutes(d.View.LockedUntil.Sub(now))
	}
	p.render(w, r, code, "link", d)
}

func (p *Portal) showMessage(w http.ResponseWriter, r *http.Request, code int, c *vault.Content, d page) {
	d.Path, d.Content, d.Title = p.path(r), c, c.Subject
	d.Frame = c.HTML != ""
	d.FrameOpen = d.Frame && (strings.TrimSpace(c.Text) == "" || r.URL.Query().Get("vue") == "html")
	d.Open, d.Shown = -1, map[int]string{}
	for i := range c.Files {
		if t := inlineType(c.File(i)); t != "" {
			d.Shown[i] = t
		}
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("voir")); err == nil && d.Shown[n] != "" {
		if d.Open = n; d.Shown[n] == "application/pdf" && !p.calm(r.Context(), c, n) {
			d.Open, d.Fault = -1, "fault.active"
			delete(d.Shown, n)
		}
	}
	if r.Method != http.MethodPost && r.URL.Query().Get("vue") == "imprimer" {
		p.render(w, r, code, "print", d)
		return
	}
	p.answerForm(w, c, &d)
	p.render(w, r, code, "message", d)
}

// chosenLanguage is the one that the address names, "" for none.
func chosenLanguage(r *http.Request) string {
	if lang, chosen := web.Language(r); chosen {
		return lang
	}
	return ""
}

// deed is a form on the sender's page whose word is typed by hand.
type deed struct {
	page
	Do, Key, Of string // the end of its address, the key of its words, the id of a deposit or "tous"
}

func (d deed) Hint() string { return d.Key + ".hint" }

// Deed makes one.
func (p page) Deed(do, key, of string) deed { return deed{p, do, key, of} }

// HelpKey names the page that helps: where no code is to come, none can be missing.
func (p page) HelpKey() string {
	if p.View.Mode == vault.ByOIDC || p.View.Mode == vault.BySecret {
		return "link.help.any"
	}
	return "link.help"
}

// And appends a parameter to the page's address, which may have the language already.
func (p page) And(param string) string {
	if p.Query == "" {
		return "?" + param
	}
	return p.Query + "&" + param
}

// Wait says how long Minutes are: nobody reads 1380 minutes.
func (p page) Wait() string {
	switch m := p.Minutes; {
	case m == 1:
		return "1\u00a0" + p.T("minute.one")
	case m < 120:
		return strconv.Itoa(m) + "\u00a0" + p.T("minute")
	default:
		return strconv.Itoa((m+59)/60) + "\u00a0" + p.T("hour")
	}
}

func minutes(d time.Duration) int { return max(1, int((d+time.Minute-1)/time.Minute)) }

// prove tries a code.
func (p *Portal) prove(w http.ResponseWriter, r *http.Request) {
	secret := r.PathValue("secret")
	view, err := p.cfg.Vault.Look(r.Context(), secret)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	code := p.code(w, r)
	if fault := notByHand(r); view.Mode == vault.BySecret && fault != "" {
		p.showLink(w, r, http.StatusConflict, page{View: view, Fault: fault, ByHand: true})
		return
	}
	session, err := p.cfg.Vault.Prove(r.Context(), secret, code, p.asked(r, view.ID), p.client(r))
	if err != nil {
		p.linkFault(w, r, err)
		return
	}
	p.setSession(w, view.ID, session)
	p.back(w, r, "prove", "")
}

// notByHand says what shows that a program filled in the form of an agreed phrase. Every word may be one, so a guess of a program counts as one of
// a guesser, and a few of them lock the link, to which a phrase is the only key. So the form has a field that people do not see: where it is filled
// in nothing is compared, and the form that follows asks for a word in its place. A browser that fills in what it likes costs its owner that word.
func notByHand(r *http.Request) (fault string) {
	switch {
	case r.PostForm.Has("mot"):
		if !confirmed(r, "lire", "read") {
			return "fault.word"
		}
	case strings.TrimSpace(r.PostFormValue("email")) != "":
		return "fault.trap"
	}
	return ""
}

// sendCode sends a code on the patient's wish.
func (p *Portal) sendCode(w http.ResponseWriter, r *http.Request) {
	p.code(w, r)
	asked, err := p.cfg.Vault.Ask(r.Context(), r.PathValue("secret"))
	if err != nil {
		p.linkFault(w, r, err)
		return
	}
	view, err := p.cfg.Vault.Look(r.Context(), r.PathValue("secret"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.setAsked(w, view.ID, asked)
	p.back(w, r, "code", "code")
}

// linkFault shows the link's page with what went wrong.
func (p *Portal) linkFault(w http.ResponseWriter, r *http.Request, err error) {
	why := vault.Why(err)
	fault := map[vault.Reason]string{vault.WrongCode: "fault.wrong", vault.SlowDown: "fault.slow", vault.Locked: "fault.locked",
		vault.CodeVoid: "fault.void", vault.Limited: "fault.limited", vault.NotSent: "fault.notsent"}[why]
	view, lerr := p.cfg.Vault.Look(r.Context(), r.PathValue("secret"))
	if fault == "" || lerr != nil {
		p.fail(w, r, err)
		return
	}
	switch {
	case fault == "fault.wrong" && view.Mode == vault.BySecret:
		fault = "fault.phrase"
	case fault == "fault.limited" && !view.CodeSent: // the codes were of another message to the same number, or are too old
		fault = "fault.spent"
	}
	d := page{View: view, Fault: fault, ByHand: r.PostForm.Has("mot")}
	var e *vault.Error
	if errors.As(err, &e) && e.Reason == vault.Limited && e.Until.IsZero() {
		d.Fault = "fault.many"
	} else if e != nil && !e.Until.IsZero() {
		wait := e.Until.Sub(p.cfg.Vault.Now())
		d.Minutes = minutes(wait)
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(wait/time.Second))))
	}
	p.showLink(w, r, status(why), d)
}

// leave ends the session of this browser.
func (p *Portal) leave(w http.ResponseWriter, r *http.Request) {
	view, err := p.cfg.Vault.Look(r.Context(), r.PathValue("secret"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.setSession(w, view.ID, "")
	p.back(w, r, "leave", "")
}
