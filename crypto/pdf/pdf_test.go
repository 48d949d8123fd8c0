package pdf

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	passphrase = "corail-menthe-sillon-7421"
	marker     = "MARQUEUR-hemoglobine-7Q4Z"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// tool runs a program of a Debian package and gives what it says; ok is whether it ended well.
func tool(t testing.TB, pkg, name string, args ...string) (said string, ok bool) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatalf("%v: install the Debian package %s", err, pkg)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err == nil
}

// sealed lays a file down and holds it against qpdf and poppler: the passphrase opens it, R is 6, and without it nothing does.
func sealed(t testing.TB, b []byte) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "out.pdf")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	said, ok := tool(t, "qpdf", "qpdf", "--password="+passphrase, "--check", "--show-encryption", file)
	for _, want := range []string{"R = 6", "P = -4", "stream encryption method: AESv3", "string encryption method: AESv3", "file encryption method: AESv3", "No syntax or stream encoding errors"} {
		if !ok || !strings.Contains(said, want) {
			t.Errorf("qpdf does not say %q: %s", want, said)
		}
	}
	for _, wrong := range []string{"", passphrase + "x", "Corail-menthe-sillon-7421"} {
		if said, ok := tool(t, "qpdf", "qpdf", "--password="+wrong, "--check", file); ok || !strings.Contains(said, "invalid password") {
			t.Errorf("qpdf opens with %q: %s", wrong, said)
		}
		if said, ok := tool(t, "poppler-utils", "pdftotext", "-upw", wrong, file, "-"); ok || !strings.Contains(said, "Incorrect password") {
			t.Errorf("pdftotext opens with %q: %s", wrong, said)
		}
	}
	return file
}

func textOf(t testing.TB, file string) string {
	t.Helper()
	said, ok := tool(t, "poppler-utils", "pdftotext", "-layout", "-upw", passphrase, file, "-")
	if !ok {
		t.Fatalf("pdftotext: %s", said)
	}
	return said
}

func made(t testing.TB, write func(*Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	p, err := NewWriter(&b, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	write(p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriterText(t *testing.T) {
	const line = "Bonjour à Mme Œuvrard: Καλημέρα, Ελλάδα; Доброе утро; Łódź, Čeština, Türkçe ğış; 5 µg ≤ 10 €"
	long := strings.Repeat("mot ", 400) + strings.Repeat("x", 300)
	b := made(t, func(p *Writer) {
		shown, err := p.Heading("Objet " + marker)
		if err != nil || !shown {
			t.Error(shown, err)
		}
		for range 150 {
			if shown, err := p.Text(line + "\r\n\r\n\tune\ttabulation e\u0301te\u0301 \ufb01n\u00a0!"); err != nil || !shown {
				t.Error(shown, err)
			}
		}
		if shown, err := p.Text(long); err != nil || !shown {
			t.Error(shown, err)
		}
		for _, s := range []string{"日本", "😀", "سلام", "x\u0302\u0321 q\u0323", "\xff"} {
			if shown, err := p.Text(s); err != nil || shown {
				t.Errorf("%q: shown %v, %v", s, shown, err)
			}
		}
	})
	if bytes.Contains(b, []byte(marker)) {
		t.Error("the text is readable")
	}
	got := textOf(t, sealed(t, b))
	if n := strings.Count(got, line); n != 150 {
		t.Errorf("%d lines of 150 are there", n)
	}
	if n := strings.Count(got, "\f"); n < 8 {
		t.Errorf("%d pages", n)
	}
	for _, want := range []string{"Objet " + marker, "été \ufb01n !", "□"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the text", want)
		}
	}
	if n := strings.Count(got, "mot"); n != 400 {
		t.Errorf("%d words of 400", n)
	}
	if n := strings.Count(got, "x"); n < 300 {
		t.Errorf("%d letters of a long word of 300", n)
	}
}

// TestWriterFiles: what was embedded comes out by pdfdetach under its name, byte for byte.
func TestWriterFiles(t *testing.T) {
	big := make([]byte, 25<<20)
	mrand.NewChaCha8([32]byte{1}).Read(big)
	contents := map[string][]byte{"": nil, "résultat Mme Dupré.pdf": []byte("%PDF-" + marker), "日本.txt": []byte(marker), "a/..\\b.txt": {10}, "a/..\\B.txt": {11}, "grand.dcm": big}
	for i := range 300 {
		contents[fmt.Sprintf("f%03d.bin", i)] = fmt.Append(nil, "no. ", i)
	}
	want := map[[32]byte]string{}
	b := made(t, func(p *Writer) {
		for name, c := range contents {
			as, n, err := p.File(name, noon, bytes.NewReader(c))
			if err != nil || n != int64(len(c)) {
				t.Fatal(n, err)
			}
			want[sha256.Sum256(c)] = as
		}
	})
	if bytes.Contains(b, []byte(marker)) || bytes.Contains(b, []byte("Dupr")) {
		t.Error("a file or its name is readable")
	}
	file, dir := sealed(t, b), t.TempDir()
	if said, ok := tool(t, "poppler-utils", "pdfdetach", "-upw", "wrong-wrong-wrong", "-list", file); ok {
		t.Errorf("pdfdetach lists with a wrong passphrase: %s", said)
	}
	if said, ok := tool(t, "poppler-utils", "pdfdetach", "-upw", passphrase, "-saveall", "-o", dir, file); !ok {
		t.Fatal(said)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(contents) {
		t.Errorf("%d files came out of %d, %v", len(entries), len(contents), err)
	}
	for _, e := range entries {
		c, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if as, ok := want[sha256.Sum256(c)]; !ok || as != e.Name() {
			t.Errorf("%q came out as %q", as, e.Name())
		}
	}
	if said, ok := tool(t, "qpdf", "qpdf", "--password="+passphrase, "--list-attachments", file); !ok || strings.Count(said, "->") != len(contents) {
		t.Errorf("qpdf lists %d", strings.Count(said, "->"))
	}
}

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"a.pdf": "a.pdf", "../../etc/passwd": "_.._etc_passwd", "": "_", "...": "_", "a\x00\u202efdp.exe": "afdp.exe", "C:\\x": "C__x", " x. ": "x",
		strings.Repeat("é", 300) + ".pdf": strings.Repeat("é", 116) + ".pdf", strings.Repeat("é", 300): strings.Repeat("é", 120),
	} {
		if got := FileName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// sample is a PDF with the marker in all the places that one may hold words in. Its page shows extra: a stream as contents, everything
// else as an annotation.
func sample(extra string) []byte {
	contents, annots := "/Contents 4 0 R", "/Annots["
	switch {
	case strings.HasSuffix(extra, "endstream"):
		contents = "/Contents[4 0 R 12 0 R]"
	case extra != "":
		annots = "/Annots[12 0 R"
	}
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	var at []int
	for i, o := range []string{
		"<</Type/Catalog/Pages 2 0 R/Metadata 6 0 R/Outlines 7 0 R/Names<</EmbeddedFiles<</Names[(" + marker + ") 9 0 R]>>>>>>",
		"<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]" + contents + "/Resources<</Font<</" + marker + " 5 0 R>>>>" + annots + "<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(" + marker + ")>>]>>",
		stream("", "BT /"+marker+" 12 Tf 20 100 Td ("+marker+") Tj ET"),
		"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
		stream("/Type/Metadata/Subtype/XML", "<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'><!--"+marker+"--></x:xmpmeta><?xpacket end='w'?>"),
		"<</Type/Outlines/First 8 0 R/Last 8 0 R/Count 1>>",
		"<</Title(" + marker + ")/Parent 7 0 R/Dest[3 0 R/Fit]>>",
		"<</Type/Filespec/F(" + marker + ")/EF<</F 10 0 R>>>>",
		stream("/Type/EmbeddedFile/Subtype/"+marker+"/X<</"+marker+"("+marker+")>>/PTEX.FileName("+marker+")", marker),
		"<</Title(" + marker + ")/Author(" + marker + ")>>",
		extra,
	} {
		if o == "" {
			o = "null"
		}
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	x := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<</Size %d/Root 1 0 R/Info 11 0 R/ID[<4d41525155455552><4d41525155455552>]>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, x)
	return b.Bytes()
}

func stream(dict, s string) string {
	return fmt.Sprintf("<<%s/Length %d>>\nstream\n%s\nendstream", dict, len(s), s)
}

func TestEncrypt(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	plainFile := filepath.Join(dir, "plain.pdf")
	if err := os.WriteFile(plainFile, sample(""), 0o600); err != nil {
		t.Fatal(err)
	}
	modern := filepath.Join(dir, "modern.pdf") // with object and cross reference streams, linearized
	if said, ok := tool(t, "qpdf", "qpdf", "--object-streams=generate", "--linearize", plainFile, modern); !ok {
		t.Fatal(said)
	}
	for _, file := range []string{plainFile, modern} {
		in, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Encrypt(ctx, bytes.NewReader(in), passphrase)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, readable := range []string{marker, fmt.Sprintf("%x", marker), fmt.Sprintf("%X", marker), "4d41525155455552", "4D41525155455552", "\x00M\x00A\x00R"} {
			if bytes.Contains(out, []byte(readable)) {
				t.Errorf("%s: %q is readable", file, readable)
			}
		}
		opened := sealed(t, out)
		if got := textOf(t, opened); strings.Count(got, marker) != 1 {
			t.Errorf("%s: text is %q", file, got)
		}
		flat := filepath.Join(dir, "flat.pdf")
		if said, ok := tool(t, "qpdf", "qpdf", "--password="+passphrase, "--decrypt", "--qdf", "--object-streams=disable", opened, flat); !ok {
			t.Fatal(said)
		}
		got, err := os.ReadFile(flat)
		if err != nil {
			t.Fatal(err)
		}
		if n, want := bytes.Count(got, []byte(marker)), bytes.Count(in, []byte(marker)); file == plainFile && n != want {
			t.Errorf("%d of %d places are there after opening", n, want)
		}
	}
}

// TestEncryptRefuses: nothing is rewritten that would break or stay readable, and every fault has its name.
func TestEncryptRefuses(t *testing.T) {
	good := sample("")
	again, err := Encrypt(context.Background(), bytes.NewReader(good), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		in   []byte
		want error
	}{
		"encrypted already": {again, ErrEncrypted},
		"signed": {sample("<</Type/Annot/Subtype/Widget/FT/Sig/T(s)/Rect[0 0 9 9]/V<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/adbe.pkcs7.detached" +
			"/ByteRange[0 1 2 3]/Contents<" + fmt.Sprintf("%x", marker) + ">>>>>"), ErrSigned},
		"a crypt filter":     {sample(stream("/Filter/Crypt/DecodeParms<</Name/Identity>>", marker)), ErrNotRewritten},
		"a key of words":     {sample(stream("/"+marker+" 1", "")), ErrNotRewritten},
		"a filter of words":  {sample(stream("/Filter/"+marker, marker)), ErrNotRewritten},
		"a false xref":       {sample(stream("/Type/XRef", marker)), ErrNotRewritten},
		"a hidden signature": {sample("<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/X[[<</A<</FT/Sig/Contents(" + marker + ")>>>>]]>>"), ErrSigned},
		"garbage":            {bytes.Repeat([]byte(marker), 50), ErrNotRewritten},
		"empty":              {nil, ErrNotRewritten},
		"a header alone":     {[]byte("%PDF-1.4\n"), ErrNotRewritten},
		"cut in the middle":  {good[:len(good)/2], ErrNotRewritten},
		"cut at the end":     {good[:len(good)-40], ErrNotRewritten},
		"too large":          {make([]byte, MaxSize+1), ErrTooLarge},
		"nested arrays":      {sample("<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/X" + strings.Repeat("[", 1<<20)), ErrNotRewritten},
		"nested dicts":       {sample("<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/X" + strings.Repeat("<</A", 1<<19)), ErrNotRewritten},
	}
	for name, c := range cases {
		out, err := Encrypt(context.Background(), bytes.NewReader(c.in), passphrase)
		if !errors.Is(err, c.want) || out != nil {
			t.Errorf("%s: got %d bytes, %v, want %v", name, len(out), err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error tells %v", name, err)
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Encrypt(gone, bytes.NewReader(good), passphrase); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	for _, s := range []string{"", "court", strings.Repeat("x", 128), "motdepasse-accentué"} {
		if _, err := NewWriter(io.Discard, s); !errors.Is(err, ErrPassphrase) {
			t.Errorf("writer takes %q: %v", s, err)
		}
		if _, err := Encrypt(context.Background(), bytes.NewReader(sample("")), s); !errors.Is(err, ErrPassphrase) {
			t.Errorf("Encrypt takes %q: %v", s, err)
		}
	}
}

// FuzzEncrypt: whatever a stranger's file is, Encrypt ends, holds its limits, and leaves none of the words readable.
func FuzzEncrypt(f *testing.F) {
	f.Add(sample(""))
	f.Add(sample(stream("/Type/XRef", marker)))
	f.Add(sample(stream("/Filter/Crypt", marker)))
	f.Add(sample("<</Type/Sig/Contents(" + marker + ")>>"))
	f.Add([]byte("%PDF-1.5\n1 0 obj<</Type/ObjStm/N 1/First 4/Length 9>>stream\n1 0 <<>> \nendstream endobj trailer<</Root 1 0 R>>"))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := Encrypt(context.Background(), bytes.NewReader(in), passphrase)
		if (err == nil) == (out == nil) {
			t.Fatal(len(out), err)
		}
		if bytes.Contains(out, []byte(marker)) {
			t.Fatal("readable")
		}
		if err != nil && !errors.Is(err, ErrSigned) && !errors.Is(err, ErrEncrypted) && !errors.Is(err, ErrNotRewritten) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
}

func big(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return sample(stream("", string(p)))
}

func BenchmarkEncrypt(b *testing.B) {
	in := big(10 << 20)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encrypt(context.Background(), bytes.NewReader(in), passphrase); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	in := make([]byte, 10<<20)
	rand.Read(in)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := NewWriter(io.Discard, passphrase)
		if err != nil {
			b.Fatal(err)
		}
		p.Text("Bonjour")
		if _, _, err := p.File("a.pdf", noon, bytes.NewReader(in)); err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
