package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// Brand is how the patients' pages and notices look. What is empty stays the house's own.
type Brand struct {
	// Logo is a PNG or JPEG, 1200 x 400 pixels and 512 KiB at most.
	Logo string `yaml:"logo"`
	// Colour is #rrggbb, of bar and buttons, with white text on it; Accent is that of links, "" is colour.
	Colour string `yaml:"colour"`
	Accent string `yaml:"accent"`
	// Texts is a folder with fr.yaml and en.yaml: our texts in the clinic's words.
	Texts string `yaml:"texts"`
}

// What a colour stands against on the pages (gateway/portal/pages/style.css).
const (
	white      = "#ffffff"
	filesPaper = "#f6f9fa" // behind the link of a file
	// leastContrast is that of WCAG 2.2 success criterion 1.4.3, level AA, for text of any size.
	leastContrast = 4.5
)

var hexColour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

func (v *validator) brand() {
	b := v.c.Pickup.Brand
	v.file("pickup.brand.logo", b.Logo)
	v.file("pickup.brand.texts", b.Texts)
	v.colour("pickup.brand.colour", b.Colour, [][3]string{{"white text", white, b.Colour}, {"text in this colour on the white of a button", b.Colour, white}})
	accent, key := b.Accent, "pickup.brand.accent"
	if accent == "" {
		accent, key = b.Colour, "pickup.brand.colour"
	}
	v.colour(key, accent, [][3]string{{"a link in this colour on white", accent, white}, {"a link in this colour on the grey behind a file", accent, filesPaper}})
}

// colour holds text against what it stands on; one fault names the first pair that cannot be read, and the nearest darker colour that could.
func (v *validator) colour(key, c string, pairs [][3]string) {
	if c == "" || !v.ok(key) {
		return
	}
	if !hexColour.MatchString(c) {
		v.fault(key, "%q is no colour (write \"#0b4f5c\", in quotes)", c)
		return
	}
	for _, p := range pairs {
		if got := contrast(p[1], p[2]); got < leastContrast {
			v.fault(key, "%s has a contrast of %.2f:1 (%s on %s), %.2f too little: WCAG AA wants %.1f:1; %s would do", p[0], math.Floor(got*100)/100, p[1], p[2],
				math.Ceil((leastContrast-got)*100)/100, leastContrast, darker(c))
			return
		}
	}
}

// contrast is that of WCAG 2.2 ("contrast ratio", "relative luminance"), from 1 to 21.
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c string) float64 {
	rgb := channels(c)
	linear := func(n uint64) float64 {
		s := float64(n) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(rgb[0]) + 0.7152*linear(rgb[1]) + 0.0722*linear(rgb[2])
}

func channels(c string) (rgb [3]uint64) {
	for i := range rgb {
		rgb[i], _ = strconv.ParseUint(c[1+2*i:3+2*i], 16, 8)
	}
	return rgb
}

// darker is the same hue, as little darker as every pair of ours needs.
func darker(c string) string {
	rgb := channels(c)
	for share := 99; share > 0; share-- {
		d := fmt.Sprintf("#%02x%02x%02x", rgb[0]*uint64(share)/100, rgb[1]*uint64(share)/100, rgb[2]*uint64(share)/100)
		if contrast(d, filesPaper) >= leastContrast {
			return d
		}
	}
	return "#000000"
}
