package protect

import (
	"archive/zip"
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"

	"passerelle/crypto/zipaes"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// In the archive lie the files that only Outlook and old readers unpack, under their real endings, and no winmail.dat that says no more.
func TestZIPUnpacks(t *testing.T) {
	uu := gatewaytest.UUEncode("a.pdf", []byte("%PDF-uu"))
	tnef := gatewaytest.TNEF("IPM.Note", gatewaytest.TNEFFile{Name: "b.docx", Content: []byte("PK-tnef")})
	b, x := indexed(t, crlf(head+"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nl\xe9a\n"+uu+
		"\n--b\nContent-Type: application/octet-stream; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n"+b64(string(tnef))+"\n--b--\n"))
	o := options(t)
	sealed, err := ZIP(ctx, envelope, b, x, dest, passphrase, o)
	if err != nil {
		t.Fatal(err)
	}
	ob, ox := indexed(t, string(all(t, sealed)))
	raw, err := io.ReadAll(message.DecodePart(ob, ox.Parts[2]))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range z.File {
		r, err := zipaes.Open(f, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = string(p)
	}
	list := got["contenu.txt"]
	delete(got, "contenu.txt")
	if want := map[string]string{"message.txt": "léa\r\n", "piece-01.pdf": "%PDF-uu", "piece-02.docx": "PK-tnef"}; !maps.Equal(got, want) {
		t.Errorf("entries %q", got)
	}
	if !strings.Contains(list, "piece-01.pdf = a.pdf") || !strings.Contains(list, "piece-02.docx = b.docx") {
		t.Error(list)
	}
	sealed.Close()
	if o.Budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", o.Budget.Used())
	}
}
