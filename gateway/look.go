package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"passerelle/config"
	"passerelle/gateway/brand"
	"passerelle/gateway/portal"
	"passerelle/gateway/vault"
)

// brandWords are all texts of pages and mails that a clinic may put in its own words.
func brandWords() brand.Words {
	all := portal.Words()
	for lang, texts := range vault.Words() {
		if all[lang] == nil {
			all[lang] = map[string]string{}
		}
		maps.Copy(all[lang], texts)
	}
	return all
}

// loadBrand reads pickup.brand; what is wrong with its texts comes as config.Faults.
func loadBrand(cfg *config.Config) (*brand.Brand, error) {
	c := cfg.Pickup.Brand
	b, err := brand.Load(brand.Config{Logo: c.Logo, Colour: c.Colour, Accent: c.Accent, Texts: c.Texts}, brandWords())
	if err == nil {
		return b, nil
	}
	var faults config.Faults
	errs := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		errs = j.Unwrap()
	}
	for _, e := range errs {
		f := new(brand.Fault)
		if !errors.As(e, &f) {
			return nil, fmt.Errorf("brand: %w", err)
		}
		faults = append(faults, config.Fault{File: f.File, Line: f.Line, Col: f.Col, Key: f.Key, Text: f.Text})
	}
	return nil, faults
}

// BrandTexts are our texts as a file of pickup.brand.texts, to be changed; "" is French.
func BrandTexts(lang string) []byte {
	if lang == "" {
		lang = "fr"
	}
	texts := brandWords()[lang]
	var b strings.Builder
	b.WriteString("# Words in braces stand for something and must stay. Lines that are not here, or taken out, keep our own text.\n")
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		b.WriteString(key + ": '" + strings.ReplaceAll(texts[key], "'", "''") + "'\n")
	}
	return []byte(b.String())
}
