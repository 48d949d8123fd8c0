package portal

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"passerelle/gateway/brand"
)

// The preview shows every template and every word: who adds a page or a fault finds out here that the operator could not see it.
func TestPreviewShowsEverything(t *testing.T) {
	s := newSite(t)
	p, err := New(Config{Vault: s.Vault, Refused: s.refuses})
	if err != nil {
		t.Fatal(err)
	}
	shown, all := map[string]bool{}, map[string]string{}
	for _, m := range p.madeUp() {
		shown["pages/"+m.template+".html"] = true
	}
	files, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f != "pages/frame.html" && f != "pages/answer.html" && f != "pages/aside.html" && !shown[f] {
			t.Errorf("%s is in no preview", f)
		}
	}
	for _, lang := range []string{"fr", "en"} {
		if err := p.Preview(lang, func(name string, b []byte) error { all[name] = string(b); return nil }); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for name, b := range all {
			if strings.HasPrefix(name, lang+"-") {
				text.WriteString(b)
			}
		}
		for key, word := range words[lang] {
			if word = strings.NewReplacer("'", "&#39;", "+", "&#43;").Replace(word); !strings.Contains(text.String(), word) && key != "msg.frame" && key != "msg.plain" && key != "msg.none" && key != "msg.nosubject" {
				t.Errorf("%s: %s is in no preview", lang, key)
			}
		}
	}
	loads := regexp.MustCompile(`(?:src|<link rel="stylesheet" href)="([^"]+)"`)
	for name, b := range all {
		for _, m := range loads.FindAllStringSubmatch(b, -1) {
			if _, ok := all[strings.TrimPrefix(m[1], "./")]; !ok {
				t.Errorf("%s loads %s, which is not in the folder", name, m[1])
			}
		}
	}
}

// Each colour that a clinic may change is one of the style sheet's, and nothing of it is left where the clinic has its own.
func TestColoursOfTheSheet(t *testing.T) {
	b, err := brand.Load(brand.Config{Colour: "#123456", Accent: "#654321"}, Words())
	if err != nil {
		t.Fatal(err)
	}
	own := branded(style, b)
	for _, c := range []string{ownBar, ownButton, ownHover, ownTint, ownSign, ownLink} {
		if !strings.Contains(style, c) || strings.Contains(own, c) {
			t.Errorf("%s is no colour of style.css, or stays in a clinic's own", c)
		}
	}
	if branded(style, nil) != style || !strings.Contains(own, "a{color:#654321}") || !strings.Contains(own, ".bar{background:#123456;color:#fff") {
		t.Error("the clinic's colours do not stand where they should")
	}
}
