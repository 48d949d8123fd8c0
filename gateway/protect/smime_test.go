package protect

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

func correspondent(t testing.TB, o gatewaytest.CorrespondentOptions) *gatewaytest.Correspondent {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the Debian package openssl")
	}
	o.Address = "a@dest.test"
	c, err := gatewaytest.NewCorrespondent(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nss opens DER as Thunderbird does.
func nss(t testing.TB, c *gatewaytest.Correspondent) func(der []byte) []byte {
	t.Helper()
	if _, err := exec.LookPath("cmsutil"); err != nil {
		t.Fatal("cmsutil is missing: install the Debian package libnss3-tools")
	}
	dir := t.TempDir()
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
		}
		return out
	}
	p12 := filepath.Join(dir, "a.p12")
	run("certutil", "-N", "-d", dir, "--empty-password")
	run("openssl", "pkcs12", "-export", "-in", c.CertFile, "-inkey", c.KeyFile, "-out", p12, "-passout", "pass:x", "-name", "a")
	run("pk12util", "-i", p12, "-d", dir, "-W", "x")
	return func(der []byte) []byte {
		t.Helper()
		in := filepath.Join(dir, "in.p7m")
		if err := os.WriteFile(in, der, 0o600); err != nil {
			t.Fatal(err)
		}
		return run("cmsutil", "-D", "-d", dir, "-i", in)
	}
}

// TestSMIMERoundTrip: what OpenSSL and NSS give out is the original, from its first byte to its last, and nothing of it can be read
// before.
func TestSMIMERoundTrip(t *testing.T) {
	old, elliptic := correspondent(t, gatewaytest.CorrespondentOptions{}), correspondent(t, gatewaytest.CorrespondentOptions{EC: true, Modern: true})
	messages := inputs()
	signed, err := old.Sign([]byte(crlf("Content-Type: text/plain; charset=utf-8\n\n" + marker + "\nligne\n")))
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.ReplaceAll(head, "MIME-Version: 1.0\n", "") // openssl writes one
	messages["signed by openssl"] = bare + strings.ReplaceAll(string(signed), "\r\n", "\n")
	b, x := indexed(t, crlf(messages["text"]))
	first, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{old.Certificate}, options(t))
	if err != nil {
		t.Fatal(err)
	}
	_, content, _ := strings.Cut(string(all(t, first)), "MIME-Version: 1.0\r\n")
	messages["encrypted"] = head + strings.ReplaceAll(content, "\r\n", "\n")
	thunderbird := nss(t, old)
	for _, who := range []struct {
		c    *gatewaytest.Correspondent
		kind string
		o    func(*Options)
	}{
		{old, "enveloped-data", func(*Options) {}},
		{old, "authEnveloped-data", func(o *Options) { o.Cipher = "gcm" }},
		{elliptic, "authEnveloped-data", func(*Options) {}},
		{elliptic, "enveloped-data", func(o *Options) { o.Cipher = "cbc" }},
	} {
		for name, in := range messages {
			if name == "many" && who.c == elliptic {
				continue // 300 attachments, once with each suite
			}
			in = crlf(in)
			b, x := indexed(t, in)
			o := options(t)
			who.o(&o)
			sealed, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{who.c.Certificate}, o)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out := all(t, sealed)
			if how := leaks(out); how != "" {
				t.Errorf("%s: readable outside: %s", name, how)
			}
			ob, ox := indexed(t, string(out))
			if ox.Unclear != "" || len(ox.Parts) != 1 || !ox.Parts[0].Opaque || ox.Header.Get("Subject") != encodeWords(neutralSubject) {
				t.Errorf("%s: outer is %q, %+v", name, ox.Unclear, ox.Parts)
			}
			if got, want := ox.Header.Get("Content-Type"), `application/pkcs7-mime; smime-type=`+who.kind+`; name="smime.p7m"`; got != want {
				t.Errorf("%s: Content-Type %s, want %s", name, got, want)
			}
			for _, line := range bytes.Split(out, []byte("\r\n")) {
				if len(line) > 78 && !bytes.HasPrefix(line, []byte("X-Check")) {
					t.Fatalf("%s: a line of %d bytes", name, len(line))
				}
			}
			inner, err := who.c.Open(out)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, who.kind, err)
			}
			if who.c == old && who.kind == "enveloped-data" {
				if der := leaves(t, ob, ox)[0]; !bytes.Equal(thunderbird([]byte(der)), inner) {
					t.Errorf("%s: NSS opens something else", name)
				}
			}
			ib, ix := indexed(t, string(inner))
			if ix.Header.Text("Subject") != marker || ix.Header.Get("To") != "<a@dest.test>" || ix.Header.Get("Cc") != "" {
				t.Errorf("%s: protected header\n%s", name, ix.Header.Bytes())
			}
			if how := otherRecipients(inner); how != "" {
				t.Errorf("%s: inside stands %s", name, how)
			}
			if !strings.HasSuffix(string(inner), in[x.Parts[0].HeaderEnd:]) {
				t.Errorf("%s: the body changed", name)
			}
			switch {
			case x.Unclear != "":
				if ix.Parts[0].Type != "message/rfc822" {
					t.Errorf("%s: is unclear (%s) and was not sealed whole", name, x.Unclear)
				}
			case name != "bad base64" && !slices.Equal(leaves(t, ib, ix), leaves(t, b, x)):
				t.Errorf("%s: leaves differ", name)
			}
			switch name {
			case "signed by openssl":
				if got, err := old.Verify(inner); err != nil || !bytes.Contains(got, []byte(marker)) {
					t.Errorf("the signature no longer verifies: %v", err)
				}
			case "encrypted":
				if again, err := old.Open(inner); err != nil || !bytes.Contains(again, []byte(marker)) {
					t.Errorf("what was encrypted before no longer opens: %v", err)
				}
			}
			sealed.Close()
			if o.Budget.Used() != 0 {
				t.Errorf("%s: %d bytes of the budget never came back", name, o.Budget.Used())
			}
		}
	}
}

// TestSMIMELarge: an attachment of 25 MB, from one encrypted temp file to another, while the heap stays small.
func TestSMIMELarge(t *testing.T) {
	c := correspondent(t, gatewaytest.CorrespondentOptions{})
	o := options(t)
	o.Budget = message.NewBudget(0, t.TempDir())
	w := o.Budget.NewWriter(0)
	if _, err := w.Write(letter(25 << 20 * 78 / 57)); err != nil {
		t.Fatal(err)
	}
	b, err := w.Body()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil || x.Unclear != "" {
		t.Fatal(err, x.Unclear)
	}
	for _, cipher := range []string{"gcm", "cbc"} {
		o.Cipher = cipher
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sealed, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, o)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: %d bytes were allocated for a message of %d", cipher, n, b.Size())
		}
		if sealed.Peek(0) != nil {
			t.Error("the result lies in memory")
		}
		inner, err := c.Open(all(t, sealed))
		if want := all(t, b)[x.Parts[0].HeaderEnd:]; err != nil || !bytes.HasSuffix(inner, want) {
			t.Errorf("%s: %d bytes came back of %d, %v", cipher, len(inner), len(want), err)
		}
		sealed.Close()
	}
}

func TestSMIMEErrors(t *testing.T) {
	b, x := indexed(t, crlf(head+"\n"+strings.Repeat(marker, 10_000)))
	o := options(t)
	var e *Error
	if _, err := SMIME(ctx, envelope, b, x, dest, nil, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("no certificate: %v", err)
	}
	c := correspondent(t, gatewaytest.CorrespondentOptions{EC: true, NotAfter: noon.AddDate(-1, 0, 0)})
	if _, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("ran out: %v", err)
	}
	full := o
	full.Budget, full.Now = message.NewBudget(10, filepath.Join(t.TempDir(), "gone")), nil
	good := correspondent(t, gatewaytest.CorrespondentOptions{EC: true})
	if _, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{good.Certificate}, full); !errors.As(err, &e) || e.Step != "room" || !e.Passing {
		t.Errorf("no room: %v", err)
	}
	if o.Budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", o.Budget.Used())
	}
}
