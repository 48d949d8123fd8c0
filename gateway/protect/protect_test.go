package protect

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

const (
	marker     = "MARQUEUR-hémoglobine basse-7Q4Z"
	passphrase = "corail-menthe-sillon-7421"
)

var (
	ctx  = context.Background()
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func b64(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > 76 {
		b.WriteString(e[:76] + "\n")
		e = e[76:]
	}
	return b.String() + e
}

const head = "Received: from poste-12.interne.test by mx\nFrom: Dr Martin <m@clinic.test>\nTo: a@dest.test, autre@patient.test\nCc: tiers@patient.test\n" +
	"Bcc: secret@patient.test\nSubject: =?utf-8?Q?MARQUEUR-h=C3=A9moglobine_basse-7Q4Z?=\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\n" +
	"References: <0@dest.test>\nDisposition-Notification-To: m@clinic.test\nX-Check-Id: 42\nX-Other: " + marker + "\nMIME-Version: 1.0\n"

// inputs are messages as a clinic's staff and machines send them; the marker is in each of their parts.
func inputs() map[string]string {
	many := "Content-Type: multipart/mixed; boundary=m\n\n"
	for i := range 300 {
		many += fmt.Sprintf("--m\nContent-Type: application/octet-stream; name=\"f%d.dat\"\nContent-Transfer-Encoding: base64\n\n%s\n", i, b64(fmt.Sprint(i, marker)))
	}
	rich := "Content-Type: multipart/mixed; boundary=\"m\"\n\n--m\nContent-Type: multipart/related; boundary=r\n\n--r\nContent-Type: multipart/alternative; boundary=a\n\n" +
		"--a\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nMARQUEUR-h=E9moglobine basse-7Q4Z\n\n" +
		"--a\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>" + marker + "</p><img src=\"cid:1\">\n--a--\n" +
		"--r\nContent-Type: image/png; name=logo.png\nContent-ID: <1>\nContent-Transfer-Encoding: base64\n\n" + b64("png"+marker) + "\n--r--\n" +
		"--m\nContent-Type: application/pdf; name=\"r.pdf\"\nContent-Disposition: attachment; filename*=utf-8''r%C3%A9sultat%20Mme%20Durand.pdf\nContent-Transfer-Encoding: base64\n\n" + b64(strings.Repeat(marker, 500)) + "\n" +
		"--m\nContent-Type: application/zip; name=\"=?shift_jis?B?k/qWew==?=.zip\"\nContent-Transfer-Encoding: base64\n\n" + b64("PK"+marker) + "\n" +
		"--m\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\n\nBEGIN:VCALENDAR " + marker + "\n" +
		"--m\nContent-Type: message/rfc822\n\nSubject: " + marker + "\n\n" + marker + "\n--m--\n"
	return map[string]string{
		"text":       head + "Content-Type: text/plain; charset=utf-8\n\n" + marker + "\n",
		"no type":    head + "\nplain " + marker + "\n",
		"html":       head + "Content-Type: text/html; charset=utf-8;\n\n<b>" + marker + "</b>",
		"empty":      head + "\n",
		"rich":       head + rich,
		"many":       head + many + "--m--\n",
		"signed":     head + "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=s\n\n--s\nContent-Type: text/plain\n\n" + marker + "\n--s\nContent-Type: application/pkcs7-signature\n\nxx\n--s--\n",
		"unclear":    head + "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\n" + marker + "\n--c\n\n" + marker + "\n--b--\n",
		"preamble":   head + "Content-Type: multipart/mixed; boundary=b\n\n" + marker + "\n--b\n\nx\n--b--\n" + marker + "\n",
		"no colon":   head + marker + "\nBcc : secret@patient.test\n\n" + marker,
		"uuencode":   head + "\nbegin 644 x\n" + marker + "\nend\n",
		"bad base64": head + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nQUJD=QUJD*\n" + marker + "\n",
	}
}

func indexed(t testing.TB, s string) (*message.Body, *message.Index) {
	t.Helper()
	b := message.BytesBody([]byte(s))
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return b, x
}

func options(t testing.TB) Options {
	return Options{Keep: []string{"X-Check-Id", "Bcc", "Received", "Content-Type"}, Clinic: "Clinique des Lilas", Phone: "01 23 45 67 89",
		Budget: message.NewBudget(64<<20, t.TempDir()), Now: time.Now}
}

var (
	envelope = &message.Envelope{Sender: message.Address{Local: "m", Domain: "clinic.test"}, ID: "id1", Helo: "mx", Client: "127.0.0.1"}
	dest     = message.Recipient{Address: message.Address{Local: "a", Domain: "dest.test"}}
)

// TestLeaksSees is the proof that the search finds what it is there to find.
func TestLeaksSees(t *testing.T) {
	for i := range 3 {
		if leaks([]byte(b64(strings.Repeat("y", 30+i)+marker+strings.Repeat("z", 90)))) == "" && leaks([]byte(crlf(b64(strings.Repeat("y", 30+i)+marker)))) == "" {
			t.Errorf("base64 at alignment %d is not seen", i)
		}
	}
	for name, in := range inputs() {
		if leaks([]byte(crlf(in))) == "" {
			t.Errorf("%s: nothing is seen in the original", name)
		}
	}
}

func TestOpenPGPRoundTrip(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--armor", "--export")
	for name, in := range inputs() {
		in = crlf(in)
		b, x := indexed(t, in)
		o := options(t)
		sealed, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := all(t, sealed)
		if how := leaks(out); how != "" {
			t.Errorf("%s: readable outside: %s", name, how)
		}
		ob, ox := indexed(t, string(out))
		if ox.Unclear != "" && !strings.Contains(ox.Unclear, "before or after") || len(ox.Parts) != 1 || !ox.Parts[0].Opaque || ox.Header.Get("X-Check-Id") != "42" {
			t.Errorf("%s: outer is %q, %+v", name, ox.Unclear, ox.Parts)
		}
		var fields []string
		for _, f := range ox.Header.Fields() {
			fields = append(fields, f.Name)
		}
		if got, want := strings.Join(fields, " "), "From To Subject Date Message-ID References X-Check-Id MIME-Version Content-Type"; got != want {
			t.Errorf("%s: outer fields %s, want %s", name, got, want)
		}
		inner := gpg(all(t, ob), "--decrypt")
		ib, ix := indexed(t, string(inner))
		if got := ix.Header.Text("Subject"); got != marker {
			t.Errorf("%s: protected subject %q", name, got)
		}
		if ix.Header.Get("To") != "<a@dest.test>" || ix.Header.Get("Cc") != "" {
			t.Errorf("%s: inner recipients %q", name, ix.Header.Get("To"))
		}
		if how := otherRecipients(inner); how != "" {
			t.Errorf("%s: inside stands %s", name, how)
		}
		original := in[x.Parts[0].HeaderEnd:]
		if !strings.HasSuffix(string(inner), original) {
			t.Errorf("%s: the body changed", name)
		}
		if x.Unclear != "" {
			if ix.Parts[0].Type != "message/rfc822" {
				t.Errorf("%s: is unclear (%s) and was not sealed whole", name, x.Unclear)
			}
		} else if name != "bad base64" {
			if ix.Unclear != "" {
				t.Errorf("%s: inside is unclear: %s", name, ix.Unclear)
			}
			if got, want := leaves(t, ib, ix), leaves(t, b, x); !slices.Equal(got, want) {
				t.Errorf("%s: leaves differ", name)
			}
		}
		sealed.Close()
		if o.Budget.Used() != 0 {
			t.Errorf("%s: %d bytes of the budget never came back", name, o.Budget.Used())
		}
	}
}

func otherRecipients(p []byte) string {
	for _, s := range []string{"secret@", "tiers@", "autre@", "poste-12"} {
		if bytes.Contains(p, []byte(s)) {
			return s
		}
	}
	return ""
}

func TestZIPRoundTrip(t *testing.T) {
	path, err := exec.LookPath("7z")
	if err != nil {
		t.Fatal("7z is missing: install the Debian package p7zip-full")
	}
	for name, in := range inputs() {
		in = crlf(in)
		b, x := indexed(t, in)
		sealed, err := ZIP(ctx, envelope, b, x, dest, passphrase, options(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := all(t, sealed)
		if how := leaks(out); how != "" || bytes.Contains(out, []byte(passphrase)) {
			t.Errorf("%s: readable outside: %s", name, how)
		}
		ob, ox := indexed(t, string(out))
		files := ox.Attachments()
		if ox.Unclear != "" || len(files) != 1 || files[0].Name != "message.zip" {
			t.Fatalf("%s: outer is %q with %v", name, ox.Unclear, files)
		}
		cover, err := io.ReadAll(message.DecodePart(ob, ox.Parts[1]))
		if err != nil || !strings.Contains(string(cover), "Appelez le 01 23 45 67 89 (Clinique des Lilas)") {
			t.Errorf("%s: cover text %v\n%s", name, err, cover)
		}
		zipped, err := io.ReadAll(message.DecodePart(ob, ox.Parts[files[0].Part]))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "message.zip")
		if err := os.WriteFile(file, zipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(path, "x", "-p"+passphrase, "-o"+filepath.Join(dir, "x"), file).CombinedOutput(); err != nil {
			t.Fatalf("%s: 7z x: %v\n%s", name, err, msg)
		}
		got := map[string]string{}
		entries, err := os.ReadDir(filepath.Join(dir, "x"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			p, err := os.ReadFile(filepath.Join(dir, "x", e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got[e.Name()] = string(p)
			if how := otherRecipients(p); how != "" {
				t.Errorf("%s: %s holds %s", name, e.Name(), how)
			}
		}
		if x.Unclear != "" || x.Parts[0].Opaque || name == "bad base64" {
			if len(got) != 1 || !strings.HasSuffix(got["message.eml"], in[x.Parts[0].HeaderEnd:]) {
				t.Errorf("%s: not sealed whole: %v", name, slices.Sorted(maps.Keys(got)))
			}
			continue
		}
		checkEntries(t, name, b, x, got)
	}
}

// checkEntries: every leaf is an entry, decoded, and the list names them.
func checkEntries(t *testing.T, name string, b *message.Body, x *message.Index, got map[string]string) {
	t.Helper()
	list := got["contenu.txt"]
	delete(got, "contenu.txt")
	var want []string
	for i, p := range x.Parts {
		inMessage := p.Parent >= 0 && x.Parts[p.Parent].Type == "message/rfc822"
		if strings.HasPrefix(p.Type, "multipart/") || inMessage {
			continue
		}
		r, err := message.DecodeString(b, x.Parts[i])
		if err != nil {
			t.Fatal(err)
		}
		d, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, string(d))
	}
	var have []string
	for _, v := range got {
		have = append(have, strings.TrimPrefix(v, "\ufeff"))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("%s: entries %v do not hold the leaves", name, slices.Sorted(maps.Keys(got)))
	}
	if !strings.Contains(list, "Objet / Subject : "+marker) {
		t.Errorf("%s: list\n%s", name, list)
	}
	if name == "rich" {
		for _, line := range []string{"message.txt = (text/plain)", "message.html = (text/html)", "piece-01.png = logo.png",
			"piece-02.pdf = résultat Mme Durand.pdf", "piece-03.bin = 日本.zip", "piece-04.ics = (text/calendar)", "piece-05.eml = (message/rfc822)"} {
			if !strings.Contains(list, line) {
				t.Errorf("list has no %q:\n%s", line, list)
			}
		}
	}
}

// TestFromFile: with no memory at all a large message goes from one encrypted temp file to another, and the heap stays small.
func TestFromFile(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--export")
	o := options(t)
	o.Budget = message.NewBudget(0, t.TempDir())
	w := o.Budget.NewWriter(0)
	io.WriteString(w, crlf(head+"Content-Type: multipart/mixed; boundary=m\n\n--m\n\nx\n--m\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"))
	line := crlf(b64(strings.Repeat("0123456789abcdef"+marker, 1200)) + "\n")
	for range 400 {
		io.WriteString(w, line)
	}
	io.WriteString(w, crlf("--m--\n"))
	b, err := w.Body()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil || x.Unclear != "" {
		t.Fatal(err, x.Unclear)
	}
	pgp, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer pgp.Close()
	zip, err := ZIP(ctx, envelope, b, x, dest, passphrase, o)
	if err != nil {
		t.Fatal(err)
	}
	defer zip.Close()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 40<<20 {
		t.Errorf("the heap grew by %d bytes for a message of %d", grown, b.Size())
	}
	if pgp.Peek(0) != nil || zip.Peek(0) != nil {
		t.Error("a result lies in memory")
	}
	inner := gpg(all(t, pgp), "--decrypt")
	if want := all(t, b)[x.Parts[0].HeaderEnd:]; !bytes.HasSuffix(inner, want) {
		t.Errorf("%d bytes came back of %d", len(inner), len(want))
	}
}

func TestProtectErrors(t *testing.T) {
	b, x := indexed(t, crlf(head+"\n"+strings.Repeat(marker, 10_000)))
	o := options(t)
	var e *Error
	if _, err := OpenPGP(ctx, envelope, b, x, dest, nil, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("no key: %v", err)
	}
	if _, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{[]byte("x")}, o); !errors.As(err, &e) || e.Step != "key" {
		t.Errorf("bad key: %v", err)
	}
	if _, err := ZIP(ctx, envelope, b, x, dest, "short", o); !errors.As(err, &e) || e.Step != "passphrase" || e.Passing {
		t.Errorf("short passphrase: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := ZIP(gone, envelope, b, x, dest, passphrase, o); !errors.As(err, &e) || !e.Passing {
		t.Errorf("cancelled: %v", err)
	}
	full := o
	full.Budget = message.NewBudget(10, filepath.Join(t.TempDir(), "gone"))
	if _, err := ZIP(ctx, envelope, b, x, dest, passphrase, full); !errors.As(err, &e) || e.Step != "room" || !e.Passing {
		t.Errorf("no room: %v", err)
	}
	if o.Budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", o.Budget.Used())
	}
	for _, err := range []error{e} {
		if strings.Contains(err.Error(), "MARQUEUR") {
			t.Errorf("the error tells content: %v", err)
		}
	}
}
