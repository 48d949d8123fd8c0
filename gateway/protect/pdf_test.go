package protect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"passerelle/gateway/message"
)

// run runs a program of a Debian package; ok is whether it ended well.
func run(t testing.TB, pkg, name string, args ...string) (said string, ok bool) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err == nil
}

// opened is what a reader has after opening all the PDFs of a message: their texts and the files held in message.pdf.
type opened struct {
	cover string
	texts map[string]string
	files map[string][]byte
}

// openPDFs takes a sealed message apart with qpdf and poppler, and sees that a wrong passphrase opens nothing.
func openPDFs(t testing.TB, sealed *message.Body) opened {
	t.Helper()
	x, err := message.Parse(sealed, message.DefaultLimits)
	if err != nil || x.Unclear != "" {
		t.Fatalf("outer is %q, %v", x.Unclear, err)
	}
	cover := new(bytes.Buffer)
	if _, err := cover.ReadFrom(message.DecodePart(sealed, x.Parts[1])); err != nil {
		t.Fatal(err)
	}
	o := opened{cover.String(), map[string]string{}, map[string][]byte{}}
	for _, a := range x.Attachments() {
		dir := t.TempDir()
		file := filepath.Join(dir, a.Name)
		w, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ReadFrom(message.DecodePart(sealed, x.Parts[a.Part])); err != nil {
			t.Fatal(err)
		}
		w.Close()
		said, ok := run(t, "qpdf", "qpdf", "--password="+passphrase, "--check", "--show-encryption", file)
		if !ok || !strings.Contains(said, "R = 6") || strings.Count(said, "AESv3") < 3 {
			t.Errorf("%s: qpdf says %s", a.Name, said)
		}
		for _, wrong := range []string{"", "corail-menthe-sillon-7422"} {
			for _, tool := range []string{"pdftotext", "pdfdetach"} {
				args := []string{"-upw", wrong, file}
				if tool == "pdfdetach" {
					args = append([]string{"-list"}, args...)
				}
				if said, ok := run(t, "poppler-utils", tool, args...); ok || !strings.Contains(said, "Incorrect password") {
					t.Errorf("%s: %s opens with %q: %s", a.Name, tool, wrong, said)
				}
			}
			if said, ok := run(t, "qpdf", "qpdf", "--password="+wrong, "--check", file); ok || !strings.Contains(said, "invalid password") {
				t.Errorf("%s: qpdf opens with %q: %s", a.Name, wrong, said)
			}
		}
		text, ok := run(t, "poppler-utils", "pdftotext", "-layout", "-upw", passphrase, file, "-")
		if !ok {
			t.Errorf("%s: pdftotext: %s", a.Name, text)
		}
		o.texts[a.Name] = text
		if a.Name != "message.pdf" {
			continue
		}
		out := filepath.Join(dir, "files")
		if err := os.Mkdir(out, 0o700); err != nil {
			t.Fatal(err)
		}
		if said, ok := run(t, "poppler-utils", "pdfdetach", "-upw", passphrase, "-saveall", "-o", out, file); !ok {
			t.Fatal(said)
		}
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if o.files[e.Name()], err = os.ReadFile(filepath.Join(out, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return o
}

// report is a PDF with the marker on its page.
func report(t testing.TB) string {
	t.Helper()
	objects := []string{"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 300]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
		"<</Length 60>>\nstream\n" + fmt.Sprintf("%-60s", "BT /F 12 Tf 20 100 Td (Resultat "+"MARQUEUR basse-7Q4Z) Tj ET") + "\nendstream",
		"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"}
	b, at := "%PDF-1.4\n", []int{}
	for i, o := range objects {
		at = append(at, len(b))
		b += fmt.Sprintf("%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	x := len(b)
	b += fmt.Sprintf("xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		b += fmt.Sprintf("%010d 00000 n \n", o)
	}
	return b + fmt.Sprintf("trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, x)
}

func withReport(t testing.TB) string {
	return head + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\n\nBonjour " + marker + "\n" +
		"--b\nContent-Type: application/pdf; name=\"R\u00e9sultat Durand.pdf\"\nContent-Transfer-Encoding: base64\n\n" + b64(report(t)) + "\n" +
		"--b\nContent-Type: application/pdf; name=broken.pdf\nContent-Transfer-Encoding: base64\n\n" + b64("%PDF-1.4 "+marker) + "\n" +
		"--b\nContent-Type: image/png; name=radio.png\nContent-Transfer-Encoding: base64\n\n" + b64("png"+marker) + "\n--b--\n"
}

func TestPDFRoundTrip(t *testing.T) {
	in := inputs()
	in["rich"] = strings.Replace(in["rich"], "application/zip; name=\"=?shift_jis?B?k/qWew==?=.zip\"", "application/msword; name=\"=?shift_jis?B?k/qWew==?=.doc\"", 1)
	in["report"] = withReport(t)
	for name, s := range in {
		for _, mode := range []string{PDFEach, PDFWhole} {
			t.Run(name+" "+mode, func(t *testing.T) {
				s := crlf(s)
				b, x := indexed(t, s)
				o := options(t)
				sealed, err := PDF(ctx, envelope, b, x, dest, passphrase, mode, o)
				if err != nil {
					t.Fatal(err)
				}
				defer sealed.Close()
				out := all(t, sealed)
				if how := leaks(out); how != "" || bytes.Contains(out, []byte(passphrase)) {
					t.Errorf("readable outside: %s", how)
				}
				got := openPDFs(t, sealed)
				for _, want := range []string{"Appelez le 01 23 45 67 89 (Clinique des Lilas)", "Windows", "macOS", "iPhone", "Android", "message.pdf"} {
					if !strings.Contains(got.cover, want) {
						t.Errorf("the cover text does not say %q", want)
					}
				}
				for n, f := range got.files {
					if how := otherRecipients(f); how != "" {
						t.Errorf("%s holds %s", n, how)
					}
				}
				page := got.texts["message.pdf"]
				if want := "Dr Martin <m@clinic.test>"; !strings.Contains(page, want) || !strings.Contains(page, "Mon, 23 Nov 2026 11:00:00") || !strings.Contains(page, marker) {
					t.Errorf("message.pdf says\n%s", page)
				}
				if x.Unclear != "" || x.Parts[0].Opaque || name == "bad base64" {
					if len(got.files) != 1 || !strings.HasSuffix(string(got.files["message.eml"]), s[x.Parts[0].HeaderEnd:]) || len(got.texts) != 1 {
						t.Errorf("not held whole: %v", slices.Sorted(maps.Keys(got.files)))
					}
					return
				}
				checkLeaves(t, b, x, got)
				if name != "report" {
					return
				}
				if _, piece := got.texts["piece-01.pdf"]; piece != (mode == PDFEach) {
					t.Errorf("%s: pieces are %v", mode, slices.Sorted(maps.Keys(got.texts)))
				}
				if mode == PDFEach && !strings.Contains(page, "piece-01.pdf : Résultat Durand.pdf") {
					t.Errorf("the list does not name the piece:\n%s", page)
				}
				if _, held := got.files["broken.pdf"]; !held {
					t.Error("the broken PDF is lost")
				}
			})
		}
	}
	var m dto.Metric
	if err := sealed.WithLabelValues("pdf", "split").Write(&m); err != nil || m.GetCounter().GetValue() < 8 {
		t.Errorf("counted are %v, %v", &m, err)
	}
}

// checkLeaves: every leaf is on a page, or held byte for byte, or a piece.
func checkLeaves(t *testing.T, b *message.Body, x *message.Index, got opened) {
	t.Helper()
	held := map[[32]byte]bool{}
	for _, f := range got.files {
		held[sha256.Sum256(f)] = true
	}
	for i, p := range x.Parts {
		inMessage := p.Parent >= 0 && x.Parts[p.Parent].Type == "message/rfc822"
		if strings.HasPrefix(p.Type, "multipart/") || inMessage {
			continue
		}
		var c bytes.Buffer
		if _, err := c.ReadFrom(message.DecodePart(b, p)); err != nil {
			t.Fatal(err)
		}
		switch {
		case held[sha256.Sum256(c.Bytes())], held[sha256.Sum256(append([]byte("\ufeff"), c.Bytes()...))]:
		case isText(p) && (c.Len() == 0 || strings.Contains(got.texts["message.pdf"], marker)):
		case p.Type == "application/pdf" && strings.Contains(got.texts["piece-01.pdf"], "Resultat MARQUEUR"):
		default:
			t.Errorf("part %d (%s, %d bytes) is nowhere", i, p.Type, c.Len())
		}
	}
}

// TestPDFNames: a name comes out as its sender meant it, whatever its charset.
func TestPDFNames(t *testing.T) {
	for field, want := range map[string]string{
		"name=\"=?utf-8?Q?r=C3=A9sum=C3=A9.doc?=\"":                           "résumé.doc",
		"name=\"=?iso-8859-1?Q?r=E9sum=E9.doc?=\"":                            "résumé.doc",
		"name=\"=?shift_jis?B?k/qWew==?=.doc\"":                               "日本.doc",
		"name=x; name*=shift_jis''%93%FA%96%7B.doc":                           "日本.doc",
		"name=\"..\\\\..\\\\b.doc\"":                                          "_.._b.doc",
		"name=\"=?utf-8?Q?=CE=B1=CE=BD=CE=AC=CE=BB=CF=85=CF=83=CE=B7.doc?=\"": "ανάλυση.doc",
		"name=\"=?utf-8?Q?=D0=B0=D0=BD=D0=B0=D0=BB=D0=B8=D0=B7.doc?=\"":       "анализ.doc",
		"name=\"\"": "piece-01.doc",
	} {
		b, x := indexed(t, crlf(head+"Content-Type: application/msword; "+field+"\nContent-Disposition: attachment\nContent-Transfer-Encoding: base64\n\n"+b64(marker)+"\n"))
		sealed, err := PDF(ctx, envelope, b, x, dest, passphrase, PDFEach, options(t))
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		got := openPDFs(t, sealed)
		if len(got.files) != 1 || string(got.files[want]) != marker {
			t.Errorf("%s: got %q, want %q", field, slices.Collect(maps.Keys(got.files)), want)
		}
	}
}

// TestPDFNotShown: what the font does not have is not lost.
func TestPDFNotShown(t *testing.T) {
	const text = "日本語 😀 سلام"
	s := crlf(head[:strings.Index(head, "Subject:")] + "Subject: " + text + "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + text + "\n")
	b, x := indexed(t, s)
	sealed, err := PDF(ctx, envelope, b, x, dest, passphrase, PDFWhole, options(t))
	if err != nil {
		t.Fatal(err)
	}
	got := openPDFs(t, sealed)
	if string(got.files["message.txt"]) != "\ufeff"+text+"\r\n" || !strings.Contains(string(got.files["entete.txt"]), "Subject : "+text) {
		t.Errorf("held is %q", got.files)
	}
	if !strings.Contains(got.texts["message.pdf"], "message.txt") {
		t.Errorf("the page does not say where:\n%s", got.texts["message.pdf"])
	}
	long := crlf(head + "Content-Type: text/plain; charset=utf-8\n\n" + strings.Repeat("ligne "+marker+"\n", 60_000))
	b, x = indexed(t, long)
	if sealed, err = PDF(ctx, envelope, b, x, dest, passphrase, PDFWhole, options(t)); err != nil {
		t.Fatal(err)
	}
	if got := openPDFs(t, sealed); string(got.files["message.txt"]) != "\ufeff"+long[x.Parts[0].HeaderEnd:] {
		t.Errorf("a long text is not held: %d bytes of %d", len(got.files["message.txt"]), len(long))
	}
}

// TestPDFLarge: 25 MB come out as they went in; the writer's memory does not grow with them.
func TestPDFLarge(t *testing.T) {
	p := make([]byte, 25<<20)
	rand.NewChaCha8([32]byte{7}).Read(p)
	b, x := indexed(t, crlf(head+"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nBonjour\n--b\nContent-Type: application/pdf; name=grand.pdf\nContent-Transfer-Encoding: base64\n\n"+b64(string(p))+"\n--b--\n"))
	sealed, err := PDF(ctx, envelope, b, x, dest, passphrase, PDFEach, options(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	if got := openPDFs(t, sealed); sha256.Sum256(got.files["grand.pdf"]) != sha256.Sum256(p) {
		t.Errorf("%d bytes came out of %d", len(got.files["grand.pdf"]), len(p))
	}
}

// TestPDFRefuses: what readers do not give out has a step of its own, and every failure gives its room back.
func TestPDFRefuses(t *testing.T) {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	text := crlf(head + "Content-Type: text/plain\n\n" + marker + "\n")
	file := func(typ, name string) string {
		return crlf(head + "Content-Type: " + typ + "; name=\"" + name + "\"\nContent-Disposition: attachment\n\n" + marker + "\n")
	}
	for name, c := range map[string]struct {
		ctx      context.Context
		in       string
		pass     string
		mode     string
		wantStep string
	}{
		"zip":             {ctx, file("application/octet-stream", "a.ZIP"), passphrase, PDFEach, "form"},
		"zip with a dot":  {ctx, file("application/octet-stream", "a.zip. "), passphrase, PDFWhole, "form"},
		"zip by its type": {ctx, file("application/zip", "a"), passphrase, PDFWhole, "form"},
		"program":         {ctx, file("application/octet-stream", "a.pdf.exe"), passphrase, PDFEach, "form"},
		"turned around":   {ctx, file("application/octet-stream", "=?utf-8?Q?fdp=E2=80=AE.exe?="), passphrase, PDFEach, "form"},
		"mode":            {ctx, text, passphrase, "both", "form"},
		"passphrase":      {ctx, text, "court", PDFEach, "passphrase"},
		"cancelled":       {gone, file("image/png", "a.png"), passphrase, PDFEach, "read"},
	} {
		b, x := indexed(t, c.in)
		o := options(t)
		out, err := PDF(c.ctx, envelope, b, x, dest, c.pass, c.mode, o)
		var e *Error
		if out != nil || !errors.As(err, &e) || e.Step != c.wantStep || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: got %v, want step %s", name, err, c.wantStep)
		}
		if n := o.Budget.Used(); n != 0 {
			t.Errorf("%s: %d bytes are not given back", name, n)
		}
	}
}

func TestHTMLText(t *testing.T) {
	for in, want := range map[string]string{
		"<p>Bonjour   <b>M.</b>\n Durand</p><p>à <i>bientôt</i></p>": "Bonjour M. Durand\n\nà bientôt\n",
		"<style>p{x}</style><title>t</title>a<script>b<c</script>d":  "ad\n",
		"<ul><li>un<li>deux</ul>":                                    "- un\n- deux\n",
		"<table><tr><td>Na<td>140 &lt; 145</table>":                  "Na\t140 < 145\n",
		"<pre>a\n  b</pre>":                                          "a\n  b\n",
		"x<br>y<br><br>z <img alt=logo>":                             "x\ny\n\nz [logo]\n",
		"":                                                           "\n",
		"<!-- c --><p":                                               "\n",
	} {
		if got, _ := htmlText(strings.NewReader(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func BenchmarkPDF(b *testing.B) {
	for _, mode := range []string{PDFEach, PDFWhole} {
		b.Run(mode, func(b *testing.B) {
			body, x := indexed(b, string(letter(10<<20)))
			o := Options{Budget: message.NewBudget(64<<20, b.TempDir())}
			b.SetBytes(body.Size())
			b.ReportAllocs()
			for b.Loop() {
				out, err := PDF(ctx, envelope, body, x, dest, passphrase, mode, o)
				if err != nil {
					b.Fatal(err)
				}
				out.Close()
			}
		})
	}
}
