package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// crlf makes a message of Go text.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func parse(t testing.TB, s string) (*Body, *Index) {
	t.Helper()
	b := BytesBody([]byte(s))
	x, err := Parse(b, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return b, x
}

// outline writes the tree on one line: types with depth, and what is special of a part.
func outline(x *Index) string {
	var out []string
	for _, p := range x.Parts {
		s := strings.Repeat(".", p.Depth) + p.Type
		if p.Opaque {
			s += "!"
		}
		if p.Inline {
			s += "~"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

const clinic = `Subject: =?ISO-8859-1?Q?R=E9sultats?= de
 =?UTF-8?B?TWFkYW1l?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="a*b"

This is a multi-part message in MIME format.
--a*b  
Content-Type: multipart/related; boundary=rel

--rel
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9
--alt
Content-Type: text/html; charset=utf-8

<img src="cid:p1">
--alt--

--rel
Content-Type: image/png; name=logo.png
Content-ID: <p1>
Content-Transfer-Encoding: base64

aW1hZ2U=

--rel--
--a*b
Content-Type: application/pdf
Content-Disposition: attachment; filename*0*=iso-8859-1''compte%20rendu%20; filename*1*=d%E9finitif; filename*2=.pdf
Content-Transfer-Encoding: base64

JVBERi0xLjQ=
--a*b
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=inner

--inner

plain
--inner
Content-Type: application/octet-stream; name="=?utf-8?Q?radio_=C3=A9paule.dcm?="

x
--inner--
--a*b
Content-Type: multipart/signed; boundary=sig

--sig
Content-Type: text/plain

signed
--sig--
--a*b
Content-Type: text/calendar; method=REQUEST

BEGIN:VCALENDAR
--a*b--
`

func TestParseClinicMessage(t *testing.T) {
	b, x := parse(t, crlf(clinic))
	if x.Unclear != "" {
		t.Fatalf("unclear: %s", x.Unclear)
	}
	want := "multipart/mixed .multipart/related ..multipart/alternative ...text/plain ...text/html ..image/png~ .application/pdf " +
		".message/rfc822 ..multipart/mixed ...text/plain ...application/octet-stream .multipart/signed! .text/calendar"
	if got := outline(x); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := x.Header.Text("subject"); got != "Résultats deMadame" && got != "Résultats de Madame" {
		t.Errorf("subject %q", got)
	}
	var files []string
	for _, a := range x.Attachments() {
		files = append(files, a.Type+"="+a.Name)
	}
	if got, want := strings.Join(files, " | "), "application/pdf=compte rendu définitif.pdf | message/rfc822= | "+
		"application/octet-stream=radio épaule.dcm | multipart/signed="; got != want {
		t.Errorf("files: got %s, want %s", got, want)
	}
	if !x.Calendar() {
		t.Error("the invitation was not seen")
	}
	for i, want := range map[int]string{3: "café", 6: "%PDF-1.4", 5: "image", 10: "x"} {
		r, err := DecodeString(b, x.Parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); string(got) != want || err != nil {
			t.Errorf("part %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	if err := x.Check(b); err != nil {
		t.Error(err)
	}
}

// TestParseFromFile: a body in the encrypted temp file gives the same index as one in memory, at every size of line.
func TestParseFromFile(t *testing.T) {
	big := crlf(strings.Replace(clinic, "JVBERi0xLjQ=", strings.Repeat("JVBERi0xLjQ=\n", 40_000)+strings.Repeat("QUJD", 50_000), 1))
	_, want := parse(t, big)
	b := fill(t, NewBudget(0, t.TempDir()), []byte(big))
	defer b.Close()
	got, err := Parse(b, DefaultLimits)
	if err != nil || fmt.Sprint(*got) != fmt.Sprint(*want) {
		t.Errorf("the file gives another index: %v\n%s\n%s", err, outline(got), outline(want))
	}
}

func TestUnclear(t *testing.T) {
	multi := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n%s--b--\n"
	for name, c := range map[string]struct{ in, why string }{
		"clear":               {fmt.Sprintf(multi, ""), ""},
		"no header":           {"\nbody\n", ""},
		"empty":               {"", ""},
		"header only":         {"Subject: x\n", ""},
		"plain both names":    {"Content-Type: text/plain; name=\"a.pdf\"; name*=utf-8''%C3%A9.pdf\n\nx", ""},
		"both names apart":    {"Content-Type: text/plain; name=\"a.pdf\"; name*=utf-8''a.exe\n\nx", "parsers read apart"},
		"names of two fields": {"Content-Type: application/pdf; name=\"a.pdf\"\nContent-Disposition: attachment; filename=a.exe\n\nx", "two names"},
		"both charsets":       {"Content-Type: text/plain; charset=utf-8; charset*=utf-8''koi8-r\n\nx", "parsers read apart"},
		"whole and pieces":    {"Content-Type: text/plain; name*=utf-8''b; name*0=b\n\nx", "parsers read apart"},
		"gap in pieces":       {"Content-Type: text/plain; name*0=a; name*2=b\n\nx", "lacks a piece"},
		"piece twice":         {"Content-Type: text/plain; name*0=a; name*0*=utf-8''b\n\nx", "lacks a piece"},
		"piece number":        {"Content-Type: text/plain; name*0=a; name*01=b\n\nx", "malformed"},
		"broken percent":      {"Content-Type: text/plain; name*=utf-8''a%4\n\nx", "parsers read apart"},
		"no charset":          {"Content-Type: text/plain; name*=abc\n\nx", "parsers read apart"},
		"boundary elsewhere":  {"Content-Type: text/plain; boundary=b\n\nx", "no multipart names a boundary"},
		"boundary in word":    {"Content-Type: multipart/mixed; boundary=\"=?utf-8?Q?b?=\"\n\n--b\n\nx\n--b--\n", "read apart"},
		"boundary in angles":  {"Content-Type: multipart/mixed; boundary=\"<b>\"\n\n--<b>\n\nx\n--<b>--\n", "read apart"},
		"boundary in quotes":  {"Content-Type: multipart/mixed; boundary='b'\n\n--'b'\n\nx\n--'b'--\n", "read apart"},
		"boundary not ASCII":  {"Content-Type: multipart/mixed; boundary=\"é\"\n\n--é\n\nx\n--é--\n", "read apart"},
		"boundary folded":     {"Content-Type: multipart/mixed; boundary=\"a\n b\"\n\n--a b\n\nx\n--a b--\n", "folded field"},
		"bare CR in a body":   {"Subject: x\n\na\rb\n", "bare carriage return"},
		"NUL in a body":       {"Subject: x\n\na\x00b\n", "NUL"},
		"no-break space":      {"Content-Transfer-Encoding: \u00a0base64\n\nx", "not known"},
		"quotes left out":     {"Content-Type: multipart/mixed; boundary=a=b\n\n--a=b\n\nx\n--a=b--\n", "lacks its quotes"},
		"quotes of a name":    {"Content-Type: text/plain; name=a=b/c\n\nx", ""},
		"utf-7":               {"Content-Type: text/plain; charset=utf-7\n\n+AGE-\n", "UTF-7"},
		"appledouble":         {"Content-Type: multipart/appledouble; boundary=b\n\n--b\n\nx\n--b--\n", "Macintosh"},
		"tnef by its bytes":   {fmt.Sprintf(multi, "--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\neJ8+IgAA\n"), "TNEF"},
		"two types":           {"Content-Type: text/plain\nContent-Type: text/html\n\nx", "stands twice"},
		"two encodings":       {"Content-Transfer-Encoding: 7bit\nContent-transfer-encoding: base64\n\nx", "stands twice"},
		"two boundaries":      {"Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\nx\n--b--\n", "boundary stands twice"},
		"boundary in pieces":  {"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\n\nx\n--ab--\n", "in pieces"},
		"no boundary":         {"Content-Type: multipart/mixed\n\nx", "no valid boundary"},
		"encoding misspelt":   {"Content-Transfer-Encoding: base-64\n\nx", "not known"},
		"encoding unknown":    {"Content-Transfer-Encoding: x-uuencode\n\nx", "not known"},
		"encoding commented":  {"Content-Transfer-Encoding: base64 (really)\n\nx", "not known"},
		"no final boundary":   {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n", "final boundary is missing"},
		"same boundary":       {fmt.Sprintf(multi, "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ny\n--b--\n"), "begin alike"},
		"prefix boundary":     {fmt.Sprintf(multi, "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\ny\n--bb--\n"), "begin alike"},
		"partial":             {"Content-Type: message/partial; id=x; number=1\n\nx", "message/partial"},
		"external":            {"Content-Type: message/external-body; access-type=url\n\nx", "external-body"},
		"uuencode":            {"Subject: x\n\nhello\nbegin 644 a.pdf\nM\n`\nend\n", "uuencode"},
		"uuencode in qp":      {"Content-Transfer-Encoding: quoted-printable\n\nbegin-base64 644 a.pdf\n", "uuencode"},
		"begin of a sentence": {"Subject: x\n\nbegin 644 times and\nbeginning\nbegin \nbegin", "uuencode"},
		"begin, harmless":     {"Subject: x\n\nbegin the treatment\nbeginning\nbegin \nbegin", ""},
		"tnef":                {fmt.Sprintf(multi, "--b\nContent-Type: application/ms-tnef\n\ny\n"), "TNEF"},
		"winmail":             {fmt.Sprintf(multi, "--b\nContent-Type: application/octet-stream; name=WinMail.dat\n\ny\n"), "TNEF"},
		"line without colon":  {"Subject: x\nhello\nContent-Type: text/plain\n\nx", "no field"},
		"mbox line":           {"From a@b Mon\nSubject: x\n\nx", "no field"},
		"blank before colon":  {"Content-Type : text/html\n\nx", "no field"},
		"preamble":            {"Content-Type: multipart/mixed; boundary=b\n\nsecret text\n--b\n\nx\n--b--\n", "before or after"},
		"epilogue":            {fmt.Sprintf(multi, "") + "secret text\n", "before or after"},
		"parts after the end": {fmt.Sprintf(multi, "") + "--b\n\ny\n--b--\n", "before or after"},
		"boundary goes on":    {fmt.Sprintf(multi, "--b x\n\ny\n"), "goes on"},
		"boundary in header":  {fmt.Sprintf(multi, "--b\nContent-Type: text/html\n"), "within a header"},
		"encoded multipart":   {"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nx\n--b--\n", "has a transfer encoding"},
		"encoded message":     {"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA==\n", "has a transfer encoding"},
		"comment in type":     {"Content-Type: text/plain (x); charset=utf-8\n\nx", "malformed"},
		"no slash":            {"Content-Type: text\n\nx", "malformed"},
		"open quote":          {"Content-Type: text/plain; name=\"x\n\nx", "malformed"},
		"empty type":          {"Content-Type:\n\nx", "is empty"},
		"empty fold":          {"Content-Type: text/plain;\n \n charset=utf-8\n\nx", "empty line"},
		"NUL":                 {"Subject: a\x00b\n\nx", "NUL"},
		"no parts":            {"Content-Type: multipart/mixed; boundary=b\n\n--b--\n", "no parts"},
		"many parts":          {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 1001) + "--b--\n", "too many parts"},
		"deep":                {strings.Repeat("Content-Type: message/rfc822\n\n", 60) + "x", "too deeply"},
		"part header":         {fmt.Sprintf(multi, "--b\nX: "+strings.Repeat("y", 300<<10)+"\n\nx\n"), "header is too long"},
	} {
		_, x := parse(t, crlf(c.in))
		if x.Whole() == (x.Unclear == "" || len(x.Packed) > 0) {
			t.Errorf("%s: whole is %t, packed %v", name, x.Whole(), x.Packed)
		}
		if c.why == "" && x.Unclear != "" || !strings.Contains(x.Unclear, c.why) {
			t.Errorf("%s: got %q, want %q", name, x.Unclear, c.why)
		}
	}
	if _, err := Parse(BytesBody(bytes.Repeat([]byte("X: y\r\n"), 100_000)), DefaultLimits); !errors.Is(err, ErrHeaderTooLarge) {
		t.Errorf("a header of 600 kB: got %v", err)
	}
	if _, x := parse(t, "Subject: x\r\n\r\na\nb\r\n"); x.Unclear == "" {
		t.Error("a bare LF among CRLF was not seen")
	}
	if _, x := parse(t, "Subject: x\r\n\r\n"+strings.Repeat("y", window-1)+"\r\nz\r\n"); x.Unclear != "" {
		t.Errorf("a CRLF across two windows: %s", x.Unclear)
	}
	if _, x := parse(t, "Subject: a\rb\r\n\r\nx"); x.Unclear == "" {
		t.Error("a bare CR in a header was not seen")
	}
}

func TestHeader(t *testing.T) {
	raw := crlf("subject:  odd  spacing \nX-Fold: a\n\tb\nno colon here\nReceived: 1\nReceived: 2\n\n")
	h, off, err := ReadHeader(BytesBody([]byte(raw+"body")), 1000)
	if err != nil || off != int64(len(raw)) || string(h.Bytes()) != raw {
		t.Fatalf("got %q to %d, %v", h.Bytes(), off, err)
	}
	if got := fmt.Sprintf("%q %q %q", h.Get("Subject"), h.Get("x-fold"), h.Values("received")); got != `"odd  spacing" "a\tb" ["1" "2"]` {
		t.Error(got)
	}
	h.Del("received", "x-fold")
	if err := h.Append("X-Long", strings.Repeat("word ", 30)+strings.Repeat("y", 100)); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(h.Bytes()), "\r\n"), "\r\n") {
		if len(line) > 101 || strings.TrimSpace(line) == "" && line != "" {
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
	if got := h.Get("X-Long"); got != strings.Repeat("word ", 30)+strings.Repeat("y", 100) {
		t.Errorf("unfolded: %q", got)
	}
	for _, c := range [][2]string{{"X", "a\r\nBcc: b"}, {"X Y", "a"}, {"", "a"}, {"X:", "a"}, {"X", "a\x00"}} {
		if h.Append(c[0], c[1]) == nil {
			t.Errorf("%q was written", c)
		}
	}
	if got := DecodeText("=?shift_jis?B?k/qWew==?= \u202egpj.exe"); got != "日本 gpj.exe" {
		t.Errorf("got %q", got)
	}
}

// FuzzParse: no panic; parts lie in bounds, in order, within their parents and beside their siblings; memory and file agree; the
// header comes out as it came in; what is decoded is bounded.
func FuzzParse(f *testing.F) {
	f.Add([]byte(crlf(clinic)))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\nContent-Type: message/rfc822\r\n--b--"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=\"b\"\n\n--b\n\nSubject: x\n\ny\n--b--\n"))
	lim := Limits{Depth: 5, Parts: 20, Header: 4096}
	spill := NewBudget(0, f.TempDir())
	f.Fuzz(func(t *testing.T, p []byte) {
		b := BytesBody(p)
		x, err := Parse(b, lim)
		if err != nil {
			return
		}
		w := spill.NewWriter(0)
		w.Write(p)
		file, err := w.Body()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if y, err := Parse(file, lim); err != nil || fmt.Sprint(*y) != fmt.Sprint(*x) {
			t.Fatalf("memory and file differ: %v", err)
		}
		if head := x.Header.Bytes(); !bytes.HasPrefix(p, head[:len(head)-2]) && bytes.HasSuffix(p, []byte("\n")) {
			t.Fatalf("header %q is not the beginning of %q", head, p)
		}
		last := int64(0)
		for i, q := range x.Parts {
			if q.Start < last || q.HeaderEnd < q.Start || q.End < q.HeaderEnd || q.End > int64(len(p)) {
				t.Fatalf("part %d of %d: %d %d %d, size %d", i, len(x.Parts), q.Start, q.HeaderEnd, q.End, len(p))
			}
			last = q.Start
			end := q.HeaderEnd
			for _, c := range q.Children {
				k := x.Parts[c]
				if k.Parent != i || k.Start < end || k.End > q.End || k.Depth != q.Depth+1 {
					t.Fatalf("child %d lies at %d-%d, parent %d at %d-%d, sibling ends %d", c, k.Start, k.End, i, q.HeaderEnd, q.End, end)
				}
				end = k.End
			}
			if n, _ := io.Copy(io.Discard, DecodePart(b, q)); n > int64(len(p)) {
				t.Fatalf("decoded %d of %d bytes", n, len(p))
			}
		}
		x.Attachments()
	})
}

func BenchmarkParse(b *testing.B) {
	msg := []byte(crlf(strings.Replace(clinic, "JVBERi0xLjQ=", strings.TrimSuffix(strings.Repeat(strings.Repeat("QUJD", 19)+"\n", 13_800), "\n"), 1)))
	body := BytesBody(msg)
	g := NewBudget(0, b.TempDir())
	w := g.NewWriter(0)
	w.Write(msg)
	file, err := w.Body()
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for name, body := range map[string]*Body{"memory": body, "file": file} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if x, err := Parse(body, DefaultLimits); err != nil || x.Unclear != "" {
					b.Fatal(err, x.Unclear)
				}
			}
		})
	}
}

// Who opens multipart/encrypted finds its parts, nobody else does.
func TestEncryptedParts(t *testing.T) {
	b := BytesBody([]byte("Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\n\r\nx\r\n--b--\r\n"))
	for asked, want := range map[bool]int{false: 1, true: 3} {
		l := DefaultLimits
		l.Encrypted = asked
		x, err := Parse(b, l)
		if err != nil || len(x.Parts) != want || x.Unclear != "" || x.Parts[0].Opaque == asked {
			t.Errorf("asked %t: %v, %+v", asked, err, x)
		}
	}
}
