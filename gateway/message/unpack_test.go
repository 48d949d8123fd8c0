package message

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// tool finds a program, and names its Debian package where it is missing.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err != nil && testing.Short():
		t.Skipf("%s is missing (Debian package %s)", name, pkg)
	case err != nil:
		t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
	return path
}

// unpacked gives text, files and whether the original goes along, of the part that is packed.
func unpacked(t testing.TB, raw string) (text string, files map[string]string, original bool, err error) {
	t.Helper()
	b, x := parse(t, raw)
	if len(x.Packed) != 1 || x.Whole() {
		t.Fatalf("packed %v, unclear %q, whole %t", x.Packed, x.Unclear, x.Whole())
	}
	budget := NewBudget(64<<20, t.TempDir())
	u, err := Unpack(b, x, budget)
	if err == nil {
		p := u.Part(x.Packed[0])
		files, original = map[string]string{}, p.Original
		for _, f := range p.Files {
			content, err := io.ReadAll(f.Open())
			if err != nil || int64(len(content)) != f.Size() {
				t.Fatalf("%s: %d of %d bytes, %v", f.Name, len(content), f.Size(), err)
			}
			files[f.Name] = string(content)
		}
		if p.Text != nil {
			content, err := io.ReadAll(p.Text.Section(0, -1))
			if err != nil {
				t.Fatal(err)
			}
			text = string(content)
		}
	}
	u.Close()
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget never came back", n)
	}
	return text, files, original, err
}

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestUUEncode: what uuencode writes, in both of its forms, comes back, and the text around it stays.
func TestUUEncode(t *testing.T) {
	program := tool(t, "uuencode", "sharutils")
	for _, n := range []int{0, 1, 2, 3, 44, 45, 46, 1000, 100_001} {
		for _, flag := range []string{"", "-m"} {
			args := []string{"scanner du 23.pdf"}
			if flag != "" {
				args = []string{flag, "scanner du 23.pdf"}
			}
			cmd := exec.Command(program, args...)
			cmd.Stdin = bytes.NewReader(noise(n))
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			text, files, _, err := unpacked(t, crlf("Content-Type: text/plain\n\nBonjour,\nbegin of the letter\n"+string(out)+"fin\n"))
			if err != nil || text != crlf("Bonjour,\nbegin of the letter\nfin\n") || len(files) != 1 || files["scanner du 23.pdf"] != string(noise(n)) {
				t.Errorf("%d bytes %s: %v, text %q, %d files", n, flag, err, text, len(files))
			}
		}
	}
}

// What decoders read apart is not unpacked: the message stays whole.
func TestUUEncodeUnclean(t *testing.T) {
	good := gatewaytest.UUEncode("x.pdf", []byte("contenu du fichier"))
	for name, body := range map[string]string{
		"no end": strings.TrimSuffix(good, "end\n"), "no last line": strings.Replace(good, "`\nend\n", "end\n", 1), "short line": strings.Replace(good, "2", "2!", 1)[:len(good)-4] + "end\n",
		"long line": strings.Replace(good, "\n`", "0\n`", 1), "foreign sign": strings.Replace(good, "\n2", "\n2{", 1), "no name": "begin 644 /\n`\nend\n",
		"Outlook's quirk": "begin  x.pdf\nlettre\nend\n", "prose": "begin 644 times a day\n", "text in it": strings.Replace(good, "\n`", "\nBonjour\n`", 1),
		"base64 broken": "begin-base64 644 x\nQUJD*\n====\n", "base64 behind its end": "begin-base64 644 x\nQQ==\nQQ==\n====\n", "base64 no end": "begin-base64 644 x\nQUJD\n",
		"line of 100 kB": "begin 644 x\n" + strings.Repeat("x", 100_000) + "\n`\nend\n", "201 files": strings.Repeat(good, 201),
	} {
		if _, files, _, err := unpacked(t, crlf("Subject: x\n\n"+body)); !errors.Is(err, ErrNotUnpacked) {
			t.Errorf("%s: %v, %q", name, err, files)
		}
	}
	for _, name := range []string{"../../etc/passwd", `C:\docs\passwd`, "passwd"} {
		if _, files, _, err := unpacked(t, crlf("Subject: x\n\n"+strings.Replace(good, "x.pdf", name, 1))); err != nil || files["passwd"] == "" {
			t.Errorf("%s: %v, %q", name, err, files)
		}
	}
}

func winmail(content []byte) string {
	return "Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(content) + "\r\n"
}

// TestTNEF: our reader finds what tnef and ytnef find in the same winmail.dat.
func TestTNEF(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{"radio.dcm": string(noise(100_001)), "lettre.pdf": "%PDF-1.4", "vide.txt": ""}
	raw := gatewaytest.TNEF("IPM.Note", gatewaytest.TNEFFile{Name: "radio.dcm", Content: noise(100_001)}, gatewaytest.TNEFFile{Name: "lettre.pdf", Content: []byte("%PDF-1.4")},
		gatewaytest.TNEFFile{Name: "vide.txt"})
	_, files, original, err := unpacked(t, winmail(raw))
	if err != nil || original || fmt.Sprint(files) != fmt.Sprint(want) {
		t.Fatalf("%v, original %t, %d files", err, original, len(files))
	}
	path := filepath.Join(dir, "winmail.dat")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"tnef": {"-C", dir, "--overwrite", path}, "ytnef": {"-f", dir, path}} {
		out, err := exec.Command(tool(t, name, map[string]string{"tnef": "tnef", "ytnef": "ytnef-tools"}[name]), args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for file, content := range want {
			got, err := os.ReadFile(filepath.Join(dir, file))
			if content != "" && (err != nil || string(got) != content) {
				t.Errorf("%s: %s: %v, %d bytes", name, file, err, len(got))
			}
			os.Remove(filepath.Join(dir, file))
		}
	}
}

// What is in a winmail.dat beside files: bodies become files too; whatever is not read keeps the original beside.
func TestTNEFOriginalGoesAlong(t *testing.T) {
	file := gatewaytest.TNEFFile{Name: "a.pdf", Content: []byte("%PDF")}
	base := gatewaytest.TNEF("IPM.Note", file)
	message := func(props map[uint32][]byte) []byte {
		return gatewaytest.TNEFAttribute(gatewaytest.TNEF("IPM.Note"), 1, 0x00069003, gatewaytest.TNEFProperties(props))
	}
	flipped := bytes.Clone(base)
	flipped[len(flipped)-20] ^= 1
	// The example of MS-OXRTFCP section 3.1.1.
	rtf := []byte("\x2d\x00\x00\x00\x2b\x00\x00\x00\x4c\x5a\x46\x75\xf1\xc5\xc7\xa7\x03\x00\x0a\x00\x72\x63\x70\x67\x31\x32\x35\x42\x32\x0a\xf3\x20\x68\x65\x6c\x09\x00\x20\x62\x77\x05\xb0\x6c\x64\x7d\x0a\x80\x0f\xa0")
	bad := bytes.Clone(rtf)
	binary.LittleEndian.PutUint32(bad[4:], 44)
	for name, c := range map[string]struct {
		raw      []byte
		files    string
		original bool
	}{
		"file":              {base, "map[a.pdf:%PDF]", false},
		"cut":               {base[:len(base)-3], "map[a.pdf:%PDF]", true},
		"tail":              {append(bytes.Clone(base), 0), "map[a.pdf:%PDF]", true},
		"checksum":          {flipped, "map[a.pdf:%PDF]", true},
		"no TNEF":           {[]byte("%PDF-1.4 named winmail.dat"), "map[]", true},
		"empty":             {nil, "map[]", true},
		"meeting":           {gatewaytest.TNEF("IPM.Microsoft Schedule.MtgReq", file), "map[a.pdf:%PDF]", true},
		"unknown":           {gatewaytest.TNEFAttribute(bytes.Clone(base), 1, 0x00061234, []byte("x")), "map[a.pdf:%PDF]", true},
		"RTF":               {message(map[uint32][]byte{0x10090102: rtf}), "map[message.rtf:{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n]", false},
		"RTF broken":        {message(map[uint32][]byte{0x10090102: bad}), "map[]", true},
		"HTML":              {message(map[uint32][]byte{0x10130102: []byte("<p>mot</p>")}), "map[message.html:<p>mot</p>]", false},
		"object":            {message(map[uint32][]byte{0x3701000d: []byte("x")}), "map[]", true},
		"properties break":  {gatewaytest.TNEFAttribute(gatewaytest.TNEF("IPM.Note"), 1, 0x00069003, []byte{9, 0, 0, 0, 1}), "map[]", true},
		"file without data": {gatewaytest.TNEFAttribute(bytes.Clone(base), 2, 0x00069002, make([]byte, 14)), "map[a.pdf:%PDF]", true},
		"two contents":      {gatewaytest.TNEFAttribute(bytes.Clone(base), 2, 0x0006800f, []byte("other")), "map[a.pdf:%PDF]", true},
		"data of no file":   {gatewaytest.TNEFAttribute(gatewaytest.TNEF("IPM.Note"), 2, 0x0006800f, []byte("other")), "map[]", true},
		"path":              {gatewaytest.TNEF("IPM.Note", gatewaytest.TNEFFile{Name: `..\..\a.pdf`, Content: []byte("%PDF")}), "map[a.pdf:%PDF]", false},
	} {
		_, files, original, err := unpacked(t, winmail(c.raw))
		if err != nil || original != c.original || fmt.Sprint(files) != c.files {
			t.Errorf("%s: %v, original %t, %q, want %s", name, err, original, files, c.files)
		}
	}
	if _, _, _, err := unpacked(t, strings.Replace(winmail(base), "eJ8", "*J8", 1)); !errors.Is(err, ErrNotUnpacked) {
		t.Errorf("broken base64: %v", err)
	}
}

// FuzzUnpack: no panic; files lie within what was packed; what uuencode gives is no longer than the text; nothing of the budget is kept.
func FuzzUnpack(f *testing.F) {
	f.Add(gatewaytest.TNEF("IPM.Note", gatewaytest.TNEFFile{Name: "a.pdf", Content: []byte("%PDF")}), true)
	f.Add(gatewaytest.TNEFAttribute(gatewaytest.TNEF("IPM.Note"), 1, 0x00069003, gatewaytest.TNEFProperties(map[uint32][]byte{0x10130102: []byte("<p>")})), true)
	f.Add([]byte("text\r\n"+crlf(gatewaytest.UUEncode("x.pdf", noise(100)))+"text"), false)
	f.Add([]byte("begin-base64 644 x\r\nQUJD\r\n====\r\n"), false)
	budget := NewBudget(8<<20, f.TempDir())
	f.Fuzz(func(t *testing.T, p []byte, tnef bool) {
		x := &Index{Packed: []int{0}, Parts: []Part{{Type: "text/plain", End: int64(len(p))}}}
		if tnef {
			x.Parts[0].Type = "application/ms-tnef"
		}
		u, err := Unpack(BytesBody(p), x, budget)
		defer func() {
			u.Close()
			if n := budget.Used(); n != 0 {
				t.Fatalf("%d bytes of the budget are kept", n)
			}
		}()
		if err != nil {
			if !errors.Is(err, ErrNotUnpacked) {
				t.Fatal(err)
			}
			return
		}
		part := u.Part(0)
		total := int64(0)
		for _, file := range part.Files {
			n, err := io.Copy(io.Discard, file.Open())
			if err != nil || n != file.Size() || strings.ContainsAny(file.Name, "/\\\x00") {
				t.Fatalf("%q: %d of %d bytes, %v", file.Name, n, file.Size(), err)
			}
			total += n
		}
		if part.Text != nil && total+part.Text.Size() > int64(len(p)) {
			t.Fatalf("%d bytes out of %d", total+part.Text.Size(), len(p))
		}
	})
}
