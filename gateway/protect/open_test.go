package protect

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// bareOpener takes what is sealed for what is in it: the layers are held without a key.
func bareOpener(limit int64) *Opener {
	open := func(w io.Writer, r io.Reader) (Layer, error) {
		_, err := io.Copy(w, r)
		if err != nil {
			err = &OpenError{Altered, err}
		}
		return Layer{Cipher: "none", Key: "k"}, err
	}
	return &Opener{SMIME: open, OpenPGP: open, Limit: limit,
		Detached: func(_ string, entity io.Reader, signature []byte) Signature {
			b, _ := io.ReadAll(entity)
			return Signature{By: "x", Valid: bytes.Equal(bytes.TrimSpace(signature), b[:min(len(b), len(bytes.TrimSpace(signature)))])}
		},
		Enclosing: func(w io.Writer, r io.Reader) (Signature, error) {
			_, err := io.Copy(w, r)
			if err != nil {
				err = &OpenError{Altered, err}
			}
			return Signature{By: "x"}, err
		}}
}

// FuzzOpen: whatever a stranger writes, nothing panics, a message is given back whole or opened, all of it is mail (CRLF, a header that can be
// read), its author stays, and the budget gets everything back.
func FuzzOpen(f *testing.F) {
	const head = "From: <a@b.test>\r\nSubject: ...\r\nMIME-Version: 1.0\r\n"
	for _, s := range []string{
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nContent-Type: text/plain\r\nSubject: x\r\nFrom: <z@b.test>\r\n\r\nhello\n",
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nContent-Type: text/html\r\n\r\n<p>\r\n",
		"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nhello\r\r",
		"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\n\r\nx\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--b--\r\n",
		"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--b--\r\n",
		"\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nabc\r\n-----END PGP MESSAGE-----\r\n",
	} {
		f.Add([]byte(head + s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		b := message.BytesBody(raw)
		x, err := message.Parse(b, message.DefaultLimits)
		if err != nil {
			return
		}
		budget := message.NewBudget(1<<20, t.TempDir())
		out, err := bareOpener(1<<16).Open(t.Context(), x.Header, b, x, Options{Budget: budget})
		if err != nil {
			t.Fatalf("%v of\n%q", err, raw)
		}
		if out == nil {
			return
		}
		if out.Body != nil {
			text, err := io.ReadAll(out.Body.Section(out.Start, -1))
			if err != nil {
				t.Fatal(err)
			}
			all := append(out.Header.Bytes(), text...)
			if rest := bytes.ReplaceAll(all, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n") {
				t.Errorf("a bare line end in\n%q\nof\n%q", all, raw)
			}
			if out.Trouble != "" && !bytes.Contains(text, raw) {
				t.Errorf("the original is not in\n%q\nof\n%q", text, raw)
			}
			out.Body.Close()
		}
		if out.Header.Get("From") != x.Header.Get("From") || len(out.Header.Values("From")) != len(x.Header.Values("From")) {
			t.Errorf("From is %q, was %q", out.Header.Get("From"), x.Header.Get("From"))
		}
		if n := budget.Used(); n != 0 {
			t.Errorf("%d bytes stay", n)
		}
	})
}

// What passes the limit ends there, whatever would still come.
func TestOpenStopsAtTheLimit(t *testing.T) {
	endless := 0
	o := bareOpener(1 << 20)
	o.SMIME = func(w io.Writer, r io.Reader) (Layer, error) {
		for {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return Layer{Cipher: "none"}, errors.New("the library's own words")
			}
			if endless++; endless > 100 {
				return Layer{}, nil
			}
		}
	}
	b := message.BytesBody([]byte("Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nx\r\n"))
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.Open(t.Context(), x.Header, b, x, Options{Budget: message.NewBudget(1<<20, t.TempDir())})
	if err != nil || out.Trouble != TooLarge || endless > 20 {
		t.Errorf("%v, %+v after %d writes", err, out, endless)
	}
	text, _ := io.ReadAll(out.Body.Section(0, -1))
	if strings.Contains(string(text), "xxxx") || !strings.Contains(string(text), "trop grand") {
		t.Errorf("got %.300q", text)
	}
}

// A panic of a library stays with the message, and its body comes back.
func TestOpenPanics(t *testing.T) {
	o := bareOpener(1 << 20)
	o.SMIME = func(w io.Writer, r io.Reader) (Layer, error) {
		w.Write([]byte("half"))
		panic("a library")
	}
	b := message.BytesBody([]byte("Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nx\r\n"))
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	budget := message.NewBudget(1<<20, t.TempDir())
	out, err := o.Open(t.Context(), x.Header, b, x, Options{Budget: budget})
	if err != nil || out.Trouble != Malformed {
		t.Errorf("%v %+v", err, out)
	}
	out.Body.Close()
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes stay", n)
	}
}
