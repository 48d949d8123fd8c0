package portal

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"passerelle/gateway/vault"

	"github.com/microcosm-cc/bluemonday"
)

// open gives the content to a browser with a session, and sends every other one to the link's page.
func (p *Portal) open(w http.ResponseWriter, r *http.Request) (*vault.Content, bool) {
	return p.openFor(w, r, func() string { return "" })
}

// openFor is open for who brings a text: typed reads it, where it comes back to him on the page that he gets in the place of the message.
func (p *Portal) openFor(w http.ResponseWriter, r *http.Request, typed func() string) (*vault.Content, bool) {
	secret := r.PathValue("secret")
	view, err := p.cfg.Vault.Look(r.Context(), secret)
	if err != nil {
		p.failWith(w, r, err, page{Text: typed()})
		return nil, false
	}
	c, err := p.cfg.Vault.Open(r.Context(), secret, p.session(r, view.ID))
	switch {
	case vault.Why(err) == vault.NoSession:
		p.showLink(w, r, http.StatusForbidden, page{View: view, Fault: "fault.session", Text: typed()})
		return nil, false
	case err != nil:
		p.failWith(w, r, err, page{Text: typed()})
		return nil, false
	}
	return c, true
}

// file gives one file, whole or in ranges, always as a download: nothing that strangers wrote is shown under our name.
func (p *Portal) file(w http.ResponseWriter, r *http.Request) {
	c, ok := p.open(w, r)
	if !ok {
		return
	}
	defer c.Close()
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(c.Files) {
		p.fail(w, r, &vault.Error{Reason: vault.NotFound})
		return
	}
	f := c.Files[n]
	h := w.Header()
	h.Set("Content-Type", mediaType(f.Type))
	h.Set("Content-Disposition", disposition(f.Name))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("ETag", `"`+c.ID[:16]+"-"+strconv.Itoa(n)+`"`) // the bytes of a deposit never change, so a broken download goes on
	serve(w, r, "file", c.File(n))
}

// serve gives a file whole or one range of it. Of many ranges, each costs the unsealing of a segment of 64 KiB, or a request to a bucket, whatever it
// is for: they are not looked at (RFC 9110 section 14.2).
func serve(w http.ResponseWriter, r *http.Request, name string, f *io.SectionReader) {
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	cw := &codeWriter{ResponseWriter: w}
	http.ServeContent(cw, r, "", time.Time{}, f)
	count(name, cw.code)
}

type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// mediaType gives type/subtype where it is one, without parameters; what a browser would run in place is not named.
func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil || !strings.Contains(t, "/") || strings.HasPrefix(t, "text/html") || strings.Contains(t, "xml") || strings.Contains(t, "script") ||
		strings.HasPrefix(t, "multipart/") || strings.HasPrefix(t, "message/") {
		return "application/octet-stream"
	}
	return t
}

// disposition names a download: ASCII for what is old, RFC 8187 for the rest.
func disposition(name string) string {
	name = fileName(name)
	ascii := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' || r == '%' || r == ';' {
			return '_'
		}
		return r
	}, name)
	return `attachment; filename="` + ascii + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}

// fileName makes a stranger's file name harmless: no folders, no control or direction characters, no dots or spaces at its ends, of bearable length.
func fileName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\:*?"<>|`, r):
			return '_'
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, ". ")
	for len(name) > 150 { // keep the extension
		ext := ""
		if i := strings.LastIndexByte(name, '.'); i >= 0 && len(name)-i <= 16 {
			ext = name[i:]
		}
		cut := name[:150-len(ext)]
		for !utf8.ValidString(cut) {
			cut = cut[:len(cut)-1]
		}
		name = cut + ext
	}
	if name == "" {
		return "document"
	}
	return name
}

// mailPolicy keeps the structure and the links of HTML mail. It has no pictures at all, so that nothing is fetched and nobody is told
// that the message was read; no styles, forms or scripts.
var mailPolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "b", "strong", "i", "em", "u", "s", "sub", "sup", "small", "blockquote", "pre", "code", "ul", "ol",
		"li", "dl", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tfoot", "tr", "caption", "center", "font", "address")
	p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("td", "th")
	p.AllowElements("td", "th")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("https", "http", "mailto", "tel")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.RequireNoReferrerOnLinks(true)
	p.RequireNoFollowOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	return p
}()

const frameStyle = "body{margin:0;padding:4px;font:17px/1.55 system-ui,Arial,sans-serif;color:#16262e;background:#fff;overflow-wrap:anywhere}" +
	"table{border-collapse:collapse;max-width:100%}td,th{padding:4px 8px;vertical-align:top}a{color:#0b5563}pre{white-space:pre-wrap}" +
	"blockquote{margin:8px 0;padding-left:12px;border-left:3px solid #c6d2d7}"

var frameCSP = func() string {
	sum := sha256.Sum256([]byte(frameStyle))
	return "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
}()

// body is the HTML of the message, sanitised, for the sandboxed frame.
func (p *Portal) body(w http.ResponseWriter, r *http.Request) {
	c, ok := p.open(w, r)
	if !ok {
		return
	}
	defer c.Close()
	h := w.Header()
	h.Set("Content-Security-Policy", frameCSP)
	h.Del("X-Frame-Options") // frame-ancestors 'self' says it
	h.Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, mailPage(c.HTML))
	count("body", http.StatusOK)
}

// mailPage is the HTML of a message, sanitised, as a page.
func mailPage(html string) string {
	return "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>-</title><style>" + frameStyle + "</style></head><body>" +
		mailPolicy.Sanitize(html) + "</body></html>"
}
