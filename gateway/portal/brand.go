package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"passerelle/gateway/brand"
)

// The colours of style.css that a clinic may change, each with what it becomes. What is hovered over turns as dark as the bar.
const (
	ownBar    = "#0b4f5c" // bar and the edge of buttons, with white text or on white
	ownButton = "#0b6b72" // the main button, with white text
	ownHover  = "#08545a" // the main button under the pointer
	ownTint   = "#e6f1f2" // behind coloured text under the pointer
	ownSign   = "#8fe0d2" // the sign in the bar
	ownLink   = "#0a5a70" // links on white and on the grey behind a file
)

// branded is the style sheet in the clinic's colours.
func branded(style string, b *brand.Brand) string {
	if b.Colour("") != "" {
		c := b.Colour("")
		style = strings.NewReplacer(ownBar, c, ownButton, c, ownHover, c, ownTint, "#fff", ownSign, "#fff").Replace(style)
	}
	return strings.ReplaceAll(style, ownLink, b.Accent(ownLink))
}

// serveLogo gives the clinic's logo under a path that tells its content.
func (p *Portal) serveLogo(mux *http.ServeMux) {
	if p.cfg.Brand == nil || len(p.cfg.Brand.Logo) == 0 {
		return
	}
	logo := p.cfg.Brand.Logo
	sum := sha256.Sum256(logo)
	p.logo = "/a/" + hex.EncodeToString(sum[:6]) + ".png"
	mux.HandleFunc("GET "+p.logo, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "image/png")
		h.Set("Content-Length", strconv.Itoa(len(logo)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Write(logo)
	})
}

// Words are the pages' texts by language and key, those that a brand may replace.
func Words() brand.Words {
	out := brand.Words{}
	for lang, texts := range words {
		out[lang] = maps.Clone(texts)
		for _, fixed := range []string{"otherlang"} { // no text, but what a link says to the server
			delete(out[lang], fixed)
		}
	}
	return out
}
