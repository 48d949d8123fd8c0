package config

import (
	"math"
	"strings"
	"testing"
)

// The figures are those of the W3C's own examples: black on white, the grey that just passes, the grey that just fails.
func TestContrast(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{{"#000000", "#ffffff", 21}, {"#ffffff", "#ffffff", 1}, {"#767676", "#ffffff", 4.54}, {"#777777", "#ffffff", 4.48}, {"#ff0000", "#ffffff", 4.00}} {
		if got := contrast(c.a, c.b); math.Abs(got-c.want) > 0.005 || contrast(c.b, c.a) != got {
			t.Errorf("%s on %s: %.3f, want %.2f", c.a, c.b, got, c.want)
		}
	}
}

func TestBrandColours(t *testing.T) {
	const rest = "clinic: {domains: [clinique.example], networks: [127.0.0.1]}\nstate_dir: /tmp\nhops: {clinic: {addr: '127.0.0.1:1'}, internet: {addr: '127.0.0.1:2'}}\npickup:\n  url: https://courrier.clinique.example\n  brand: "
	for brand, want := range map[string]string{
		`{colour: "#0b4f5c", accent: "#0a5a70"}`: "",
		`{colour: "#767676", accent: "#0a5a70"}`: "",
		`{colour: "#767676"}`:                    "pickup.brand.colour: a link in this colour on the grey behind a file has a contrast of 4.2",
		`{colour: "#8fc1d4"}`:                    "pickup.brand.colour: white text has a contrast of 1.95:1 (#ffffff on #8fc1d4), 2.55 too little: WCAG AA wants 4.5:1; ",
		`{accent: "#ffcc00"}`:                    "pickup.brand.accent: a link in this colour on white has a contrast of 1.5",
		`{colour: teal}`:                         `pickup.brand.colour: "teal" is no colour`,
		`{colour: "#fff"}`:                       `pickup.brand.colour: "#fff" is no colour`,
		`{logo: /nowhere/logo.png}`:              "pickup.brand.logo: /nowhere/logo.png: no such file",
		`{texts: /nowhere/texts}`:                "pickup.brand.texts: /nowhere/texts: no such file",
	} {
		_, err := Parse("c.yaml", []byte(rest+brand+"\n"), noenv)
		var got string
		if err != nil {
			got = err.Error()
		}
		if want == "" && strings.Contains(got, "brand") || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s: %s\nwant %s", brand, got, want)
		}
		if _, would, ok := strings.Cut(got, "AA wants 4.5:1; "); ok && contrast(would[:7], filesPaper) < leastContrast {
			t.Errorf("%s: %s would not do", brand, would[:7])
		}
	}
}
