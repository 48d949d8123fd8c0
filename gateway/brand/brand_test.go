package brand

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var known = Words{"fr": {"a": "Bonjour", "b": "{clinic} vous écrit jusqu'au {date}."}, "en": {"a": "Hello", "b": "{clinic} writes until {date}."}}

func texts(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTexts(t *testing.T) {
	b, err := Load(Config{Texts: texts(t, map[string]string{"fr.yaml": "# les nôtres\na: Bonjour à vous\nb: \"Jusqu'au {date} : {clinic}\"\n", "README": "<b>"})}, known)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := b.Text("fr", "b"); !ok || s != "Jusqu'au {date} : {clinic}" {
		t.Errorf("%q %v", s, ok)
	}
	if _, ok := b.Text("en", "a"); ok {
		t.Error("a text that nobody wrote")
	}
	if _, ok := (*Brand)(nil).Text("fr", "a"); ok {
		t.Error("no brand has a text")
	}
}

func TestFaultsNameTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"a: x\nc: y\n":                          "fr.yaml:2:1: c: no such text",
		"a: x\nb: \"Jusqu'au {date}\"\n":        "fr.yaml:2:1: b: lacks {clinic}",
		"\nb: '{clinic} {date} {recipient}'\n":  "fr.yaml:2:1: b: has {recipient}",
		"a: 'un %s'\n":                          "fr.yaml:1:1: a: has %s",
		"a: 'un <b>mot</b>'\n":                  "a: has HTML",
		"a: 'un &lt; mot'\n":                    "a: has HTML",
		"a: 'voir https://ailleurs.example'\n":  "a: has an address",
		"a: 12\n":                               "a: want a text",
		"a: ''\n":                               "a: is empty",
		"a: x\na: y\n":                          "fr.yaml:2:1: a: stands twice",
		"a: \"x\\u202ey\"\n":                    "a: has control characters",
		"a: [x\n":                               "not YAML",
		"- a\n":                                 "want lines of the form",
		"a: '" + strings.Repeat("x", 601) + "'": "a: has 601 characters",
	} {
		_, err := Load(Config{Texts: texts(t, map[string]string{"fr.yaml": text})}, known)
		if f := new(Fault); err == nil || !errors.As(err, &f) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	defender := Words{"fr": {"a": "Le défenseur : www.defenseur.example, gratuit."}, "en": {}}
	for text, fits := range map[string]bool{"a: 'Écrivez à www.defenseur.example ou à nous.'": true, "a: 'www.defenseur.example.ailleurs.example'": false, "a: 'www.ailleurs.example'": false} {
		if _, err := Load(Config{Texts: texts(t, map[string]string{"fr.yaml": text})}, defender); (err == nil) != fits {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Load(Config{Texts: texts(t, map[string]string{"de.yaml": "a: x"})}, known); err == nil || !strings.Contains(err.Error(), "there are en, fr") {
		t.Errorf("another language: %v", err)
	}
	if _, err := Load(Config{Texts: filepath.Join(t.TempDir(), "none")}, known); err == nil {
		t.Error("no folder is no fault")
	}
}

func picture(w, h int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		m.Set(x, h/2, color.RGBA{200, 30, 30, 255})
	}
	return m
}

// What was beside the pixels does not go on; what is no picture, or too large a one, is refused.
func TestLogo(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var p, j, large bytes.Buffer
	if err := errors.Join(png.Encode(&p, picture(100, 40)), jpeg.Encode(&j, picture(100, 40), nil), png.Encode(&large, picture(1201, 40))); err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{p.Bytes(), j.Bytes()} {
		b, err := Load(Config{Logo: file("logo", append(raw, "<script>GPS-MARQUEUR</script>"...))}, known)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(b.Logo)); err != nil || bytes.Contains(b.Logo, []byte("MARQUEUR")) || b.LogoWidth != 100 || b.LogoHeight != 40 {
			t.Errorf("%v %d x %d, %d octets", err, b.LogoWidth, b.LogoHeight, len(b.Logo))
		}
	}
	for name, raw := range map[string][]byte{"a.svg": []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>`), "wide.png": large.Bytes(), "half.png": p.Bytes()[:p.Len()/2],
		"heavy.png": append(p.Bytes(), make([]byte, maxLogoFile)...)} {
		if _, err := Load(Config{Logo: file(name, raw)}, known); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
