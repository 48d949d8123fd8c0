package protect

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"testing"

	"passerelle/gateway/message"
)

// letter is a message with one attachment, in all about size bytes: what a scanner sends.
func letter(size int) []byte {
	p := make([]byte, size*57/78)
	rand.NewChaCha8([32]byte{1}).Read(p)
	var b bytes.Buffer
	b.WriteString("From: a@clinic.test\r\nTo: c@dest.test\r\nSubject: Compte rendu\r\nDate: Mon, 2 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@clinic.test>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour\r\n" +
		"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(p) > 0 {
		n := min(57, len(p))
		fmt.Fprintf(&b, "%s\r\n", base64.StdEncoding.EncodeToString(p[:n]))
		p = p[n:]
	}
	b.WriteString("--b--\r\n")
	return b.Bytes()
}

// BenchmarkOpenPGP is the way from the received body to the sealed one. gpg is a key as GnuPG 2.2 makes it (SEIPDv1).
func BenchmarkOpenPGP(b *testing.B) {
	gpg := gnupg(b)
	for _, algo := range []string{"rsa2048", "future-default"} {
		gpg(nil, "--quick-generate-key", algo+"@dest.test", algo, "default", "never")
		if algo == "rsa2048" {
			fpr := bytes.Split(bytes.Split(gpg(nil, "--with-colons", "-K", algo), []byte("fpr:::::::::"))[1], []byte(":"))[0]
			gpg(nil, "--quick-add-key", string(fpr), algo, "encrypt", "never")
		}
		key := gpg(nil, "--export", algo+"@dest.test")
		for _, size := range []int{4 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", algo, size), func(b *testing.B) {
				body, x := indexed(b, string(letter(size)))
				o := Options{Budget: message.NewBudget(64<<20, b.TempDir())}
				b.SetBytes(body.Size())
				b.ReportAllocs()
				for b.Loop() {
					out, err := OpenPGP(ctx, envelope, body, x, dest, [][]byte{key}, o)
					if err != nil {
						b.Fatal(err)
					}
					out.Close()
				}
			})
		}
	}
}
