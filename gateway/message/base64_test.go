package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBase64Reader(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "QUJD": "ABC", "QU\r\nJD\r\n": "ABC", " QUJD \t\r\nQQ==\r\n\r\n": "ABCA", "Q U J D": "ABC",
		"QUJDQ": "!", "QQ==QQ==": "!", "QUJD*": "!", "QUJ=D": "!", "QQ=": "!", "QUJD\x00": "!", "QQ==\r\nx": "!", "QUJ-": "!",
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			got, err := io.ReadAll(newBase64Reader(wrap(strings.NewReader(in))))
			if (err != nil) != (want == "!") || err == nil && string(got) != want {
				t.Errorf("%q by %s: got %q, %v, want %q", in, name, got, err, want)
			}
		}
	}
}

// FuzzBase64Reader: where the standard library decodes, so does the reader, to the same bytes; it never gives more than that.
func FuzzBase64Reader(f *testing.F) {
	f.Add([]byte("QUJD\r\nQQ==\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		flat := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(string(p))
		want, werr := base64.StdEncoding.DecodeString(flat)
		got, err := io.ReadAll(newBase64Reader(bytes.NewReader(p)))
		if (err == nil) != (werr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, %v, want %q, %v", p, got, err, want, werr)
		}
	})
}

func BenchmarkDecodeBase64(b *testing.B) {
	body := BytesBody([]byte(strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 14_000)))
	p := Part{End: body.Size(), Encoding: "base64"}
	b.SetBytes(body.Size())
	for b.Loop() {
		if _, err := io.Copy(io.Discard, DecodePart(body, p)); err != nil {
			b.Fatal(err)
		}
	}
}
