// Package portal serves the patient's pages. It takes HTTP requests and a vault, gives pages that need no script and work on an
// old telephone, and knows nothing of mail: an answer is handed to a function of its owner.
//
// Opening a page, by GET or HEAD, changes nothing, whoever does it and however often; only a POST sends a code, tries one, or
// answers. A wrong link and an unknown one look the same.
package portal

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/brand"
	"passerelle/gateway/message"
	"passerelle/gateway/openid"
	"passerelle/gateway/vault"
	"passerelle/gateway/web"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var pagesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_portal_pages_total", Help: "Pages served, by page and status.",
}, []string{"page", "code"})

// Config sets up a portal. Vault is required.
type Config struct {
	Vault *vault.Vault
	// Answer hands a patient's answer to the clinic's mail server, and returns when it was accepted; nil means that patients
	// cannot answer. The files are closed after it returned.
	Answer func(context.Context, Answer) error
	// Resend sends the notice of a deposit again, and Complete gives a held one its telephone number ("": the sender tells the code) and
	// sends its notice; nil means that the sender's page does not offer it. The error may be vault.ErrPhone.
	Resend   func(ctx context.Context, id string) error
	Complete func(ctx context.Context, id, phone string) error
	// Providers vouch for who is before the page; their RedirectURL is IdentityPath under the public URL.
	Providers []*openid.Provider
	// Refused tells the sender of a deposit what its recipient says against it, and returns when the clinic's server took that mail; nil
	// means that the pages do not offer it.
	Refused func(context.Context, vault.Status, vault.Refusal) error
	// Budget is the memory that answers in hand share with the messages; nil means 64 MiB of their own.
	Budget *message.Budget
	// MaxFiles and MaxAnswer bound the files of an answer; 0 means 10 and 20 MiB.
	MaxFiles  int
	MaxAnswer int64
	// PerDay bounds the answers to one deposit; 0 means 20.
	PerDay int
	// PerSecond bounds the requests of one address range, after a burst of ten times as many; 0 means 20.
	PerSecond float64
	// Brand is the clinic's look; nil is the house's own.
	Brand *brand.Brand
	// Proxies are the reverse proxies whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	Log     *slog.Logger
}

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed pages/answer.js
var answerScript string

//go:embed pages/style.css
var style string

var templates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// Portal is the http.Handler of the patient's pages.
type Portal struct {
	cfg     Config
	base    string // path of the public URL, "" or "/x"
	secure  bool
	sheet   web.Sheet
	logo    string // path of the clinic's logo below base, "" for none
	peers   *vault.Limiter
	again   *vault.Limiter // notices that a sender has sent again, by deposit
	tickets *vault.Limiter // lets each way back from a provider in once
	// answers has a place for each answer that is being read: its form takes up to 200 kB beside the files in the budget.
	answers  chan struct{}
	unproved chan struct{} // the same for those whose text alone is read, to be given back
	onWay    *onWay
	calmed   *calmed // PDFs that were looked through
	// formTime is the constant; tests shorten it.
	formTime time.Duration
	serve    http.Handler
}

// New gives the handler.
func New(cfg Config) (*Portal, error) {
	if cfg.Vault == nil {
		return nil, errors.New("new portal: no vault")
	}
	u, err := url.Parse(cfg.Vault.PublicURL())
	if err != nil {
		return nil, errors.New("new portal: the public URL cannot be read")
	}
	if cfg.Budget == nil {
		cfg.Budget = message.NewBudget(64<<20, "")
	}
	if cfg.MaxFiles <= 0 {
		cfg.MaxFiles = 10
	}
	if cfg.MaxAnswer <= 0 {
		cfg.MaxAnswer = 20 << 20
	}
	if cfg.PerDay <= 0 {
		cfg.PerDay = 20
	}
	if cfg.PerSecond <= 0 {
		cfg.PerSecond = 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Portal{cfg: cfg, base: strings.TrimRight(u.Path, "/"), sheet: web.NewSheet(branded(style, cfg.Brand)), secure: u.Scheme == "https", formTime: formTime, answers: make(chan struct{}, maxReading), unproved: make(chan struct{}, maxReading/4), calmed: newCalmed(), onWay: &onWay{of: map[[sha256.Size]byte]*handing{}},
		again: vault.NewLimiter(10*time.Minute, 2), tickets: vault.NewLimiter(2*ticketLife, 1),
		peers: vault.NewLimiter(time.Duration(float64(time.Second)/cfg.PerSecond), int(10*cfg.PerSecond))}
	mux := http.NewServeMux()
	mux.Handle("GET "+p.sheet.Path, p.sheet)
	p.serveLogo(mux)
	mux.HandleFunc("GET /r/{secret}", p.bent(p.show))
	mux.HandleFunc("POST /r/{secret}", p.prove)
	mux.HandleFunc("GET /r/{secret}/v/{n}", p.inPlace)
	mux.HandleFunc("GET /r/{secret}/tout.zip", p.archive)
	p.besides(mux)
	mux.HandleFunc("POST /r/{secret}/code", p.sendCode)
	mux.HandleFunc("GET /r/{secret}/texte", p.body)
	mux.HandleFunc("GET /r/{secret}/f/{n}", p.file)
	mux.HandleFunc("POST /r/{secret}/reponse", p.answer)
	mux.HandleFunc("POST /r/{secret}/fermer", p.leave)
	for _, form := range []string{"code", "reponse", "fermer"} { // a telephone that loads again what a form showed
		mux.HandleFunc("GET /r/{secret}/"+form, func(w http.ResponseWriter, r *http.Request) { p.back(w, r, "again", "") })
	}
	mux.HandleFunc("GET /r/{secret}/identite/{name}", p.identify)
	mux.HandleFunc("GET "+IdentityPath, p.identified)
	p.senders(mux)
	p.phrases(mux)
	mux.HandleFunc("GET /retrait", func(w http.ResponseWriter, r *http.Request) {
		p.render(w, r, http.StatusOK, "typed", page{Path: p.base + "/retrait"})
	})
	mux.HandleFunc("POST /retrait", p.typed)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		to := p.base + "/retrait"
		if lang := chosenLanguage(r); lang != "" {
			to += "?lang=" + lang
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		count("typed", http.StatusSeeOther)
	})
	mux.HandleFunc("/", p.lost)
	cross := http.NewCrossOriginProtection()
	if err := cross.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return nil, errors.New("new portal: the public URL has no origin")
	}
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.render(w, r, http.StatusForbidden, "error", page{Fault: "cross"})
	}))
	p.serve = cross.Handler(mux)
	return p, nil
}

// csp forbids everything but our own style sheet, forms and the frame with the message.
const csp = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"

func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	web.Shut(h, csp)
	if p.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	r = r.Clone(r.Context())
	r.URL.RawPath = ""
	if n := len(p.base); len(r.URL.Path) >= n && strings.EqualFold(r.URL.Path[:n], p.base) && strings.HasPrefix(r.URL.Path[n:]+"/", "/") {
		r.URL.Path = r.URL.Path[n:]
	}
	r.URL.Path = path.Clean("/" + r.URL.Path) // the mux would lead there without the base
	for _, of := range []string{"/r/", "/m/"} {
		if len(r.URL.Path) > 3 && strings.EqualFold(r.URL.Path[:3], of) {
			r.URL.Path = of + strings.TrimRight(r.URL.Path[3:], "/") // a link put in upper case as a whole, or with a slash at its end
		}
	}
	// Under no-referrer browsers send "Origin: null", and those before 2023 no Sec-Fetch-Site beside it. What such a POST must
	// know is the link's secret in its path, which no other site knows.
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
		r.Header.Del("Origin")
	}
	if r.ContentLength != 0 { // the server's own limit is that of a large answer: nobody else may hold a connection for so long
		p.hurry(w, p.formTime)
	}
	if !p.peers.Allow(vault.Range(p.client(r)), p.cfg.Vault.Now()) {
		h.Set("Retry-After", "5")
		p.render(w, r, http.StatusTooManyRequests, "error", page{Fault: "busy"})
		return
	}
	p.serve.ServeHTTP(w, r)
}

const (
	formTime   = 30 * time.Second // for all of a request's body; of an answer by who has proved the code
	answerTime = 30 * time.Minute
)

// hurry bounds the time in which the rest of a request may arrive; 0 is no bound.
func (p *Portal) hurry(w http.ResponseWriter, d time.Duration) {
	var end time.Time
	if d > 0 {
		end = time.Now().Add(d)
	}
	if err := http.NewResponseController(w).SetReadDeadline(end); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.cfg.Log.Warn("time limit of a request not set", "err", err)
	}
}

// code reads a small form to its end, and gives the code in it.
func (p *Portal) code(w http.ResponseWriter, r *http.Request) string {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	code := r.PostFormValue("code")
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		p.hurry(w, 0) // what follows takes its own time
	}
	return code
}

// client is the address that a request comes from: the last one in X-Forwarded-For that is no proxy of ours.
func (p *Portal) client(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.isProxy(addr); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = a.Unmap()
	}
	return addr
}

func (p *Portal) isProxy(a netip.Addr) bool {
	for _, n := range p.cfg.Proxies {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// cookieName names the session of one deposit, so that several can be open at once.
func (p *Portal) cookieName(id string) string {
	if p.secure {
		return "__Host-passerelle-" + id[:12]
	}
	return "passerelle-" + id[:12] // browsers refuse __Host- over plain HTTP
}

func (p *Portal) session(r *http.Request, id string) string {
	c, err := r.Cookie(p.cookieName(id))
	if err != nil {
		return ""
	}
	return c.Value
}

// setSession keeps the proof until the browser is closed. Lax, because Strict would lose it when the link is opened from a mail again.
func (p *Portal) setSession(w http.ResponseWriter, id, session string) {
	c := &http.Cookie{Name: p.cookieName(id), Value: session, Path: "/", Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if session == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// status is what a reason looks like in HTTP.
func status(why vault.Reason) int {
	switch why {
	case vault.NotFound:
		return http.StatusNotFound
	case vault.Gone:
		return http.StatusGone
	case vault.WrongCode, vault.CodeVoid, vault.NoSession, vault.NotSame:
		return http.StatusForbidden
	case vault.SlowDown, vault.Locked, vault.Limited:
		return http.StatusTooManyRequests
	case vault.NotSent:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// fail shows what a request ended in where no deposit can be shown.
func (p *Portal) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.failWith(w, r, err, page{})
}

func (p *Portal) failWith(w http.ResponseWriter, r *http.Request, err error, d page) {
	why := vault.Why(err)
	d.Fault = "broken"
	switch why {
	case vault.NotFound, vault.Gone:
		d.Fault = "gone"
	default:
		p.cfg.Log.Error("page failed", "err", err)
	}
	p.render(w, r, status(why), "error", d)
}

func count(name string, code int) { pagesTotal.WithLabelValues(name, strconv.Itoa(code)).Inc() }
