// Package brand reads how a clinic wants its pages and notices to look. It takes a picture, two colours and a folder of texts, gives a Brand
// whose every part was checked, or the list of all faults with their places; and knows nothing of pages, deposits or patients.
//
// A text may be changed, never what stands in it: it has the same {words in braces} as the one that it replaces, no HTML and no address,
// so that a notice can neither tell more of a message than ours does nor lead elsewhere.
package brand

import (
	"errors"
	"fmt"
	"strings"
)

// Words are texts by language and key.
type Words map[string]map[string]string

// Config says where a brand is read. Everything may be empty: then the house's own is used.
type Config struct {
	Logo           string // PNG or JPEG
	Colour, Accent string // #rrggbb, checked by the config
	Texts          string // folder with LANGUAGE.yaml
}

// Brand is a clinic's look. The nil Brand is the house's own.
type Brand struct {
	// Logo is a PNG made here, nil for none; LogoWidth and LogoHeight are its pixels.
	Logo                  []byte
	LogoWidth, LogoHeight int
	colour, accent        string
	words                 Words
}

// Fault is one thing that is wrong with a text's file; lines and columns count from 1.
type Fault struct {
	File      string
	Line, Col int
	Key, Text string
}

// Error gives the fault as `passerelle check` shows it.
func (f *Fault) Error() string {
	if f.Key == "" {
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Col, f.Key, f.Text)
}

// Load reads the brand; known are all texts that may be replaced. The error joins *Fault, and what else cannot be used.
func Load(cfg Config, known Words) (*Brand, error) {
	b := &Brand{colour: strings.ToLower(cfg.Colour), accent: strings.ToLower(cfg.Accent), words: Words{}}
	var errs []error
	if cfg.Logo != "" {
		if err := b.loadLogo(cfg.Logo); err != nil {
			errs = append(errs, fmt.Errorf("pickup.brand.logo: %w", err))
		}
	}
	if cfg.Texts != "" {
		errs = append(errs, b.loadTexts(cfg.Texts, known)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b, nil
}

// Text is the clinic's own text, and whether there is one.
func (b *Brand) Text(lang, key string) (string, bool) {
	if b == nil {
		return "", false
	}
	s, ok := b.words[lang][key]
	return s, ok
}

// Colour is what white text stands on, or standard where the clinic has none; Accent is that of links, on white.
func (b *Brand) Colour(standard string) string {
	if b == nil || b.colour == "" {
		return standard
	}
	return b.colour
}

// Accent is the colour of links on white; where only the other one is set it is that.
func (b *Brand) Accent(standard string) string {
	if b == nil || b.accent == "" {
		return b.Colour(standard)
	}
	return b.accent
}
