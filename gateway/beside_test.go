package gateway_test

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

const pdf = "%PDF-1.4 compte rendu"

// archive is an IHE_XDM.ZIP of names and contents, in base64 lines.
func archive(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for s := base64.StdEncoding.EncodeToString(b.Bytes()); s != ""; s = s[min(76, len(s)):] {
		out.WriteString(s[:min(76, len(s))] + "\n")
	}
	return out.String()
}

const xdmFields = "Content-Type: application/zip; name=IHE_XDM.ZIP\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=IHE_XDM.ZIP\n"

func mixed(fields, parts string) string {
	return "From: <marie.durand@peer.mssante.test>\nTo: <b@mss.clinic.test>\nSubject: " + ddm + "\nMessage-ID: <9@peer.mssante.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n" +
		"MIME-Version: 1.0\n" + fields + "\n" + parts
}

// beside are the parts that a message has, by name: "" those without one.
func beside(t *testing.T, data string) (x *message.Index, files map[string]string) {
	t.Helper()
	b := message.BytesBody([]byte(strings.ReplaceAll(data, "\n", "\r\n")))
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil || x.Unclear != "" {
		t.Fatalf("%v %s\n%s", err, x.Unclear, data)
	}
	files = map[string]string{}
	for _, p := range x.Parts {
		if len(p.Children) > 0 {
			continue
		}
		content, err := io.ReadAll(message.DecodePart(b, p))
		if err != nil {
			t.Fatal(err)
		}
		files[p.Name] = string(content)
	}
	return x, files
}

// The documents stand beside their archive as plain files, and every byte of the message stays.
func TestDocumentsAreLaidBeside(t *testing.T) {
	h := newArrivals(t, "inbound: {unpack_xdm: true}\nlimits: {message: 1MiB}\n", "")
	const doctor = "marie.durand@peer.mssante.test"
	zipped := archive(t, "README.TXT", "x", "INDEX.HTM", "<html>", "IHE_XDM/SUBSET01/METADATA.XML", "<a/>", "IHE_XDM/SUBSET01/DOC0001.PDF", pdf, `IHE_XDM\SUBSET01\doc0001.xml`, "\xef\xbb\xbf<ClinicalDocument/>",
		"IHE_XDM/SUBSET02/DOC0001.PDF", pdf+" 2", "../../etc/..évil\"\r\n; x.pdf", pdf+" 3", "IHE_XDM/SUBSET01/", "", "IHE_XDM/SUBSET01/virus.exe", "MZ")
	want := map[string]string{"XDM_DOC0001.PDF": pdf, "XDM_DOC0001.XML": "\xef\xbb\xbf<ClinicalDocument/>", "XDM_DOC0001_2.PDF": pdf + " 2"}
	text := "--b\nContent-Type: text/plain\n\nBonjour\n"
	for name, c := range map[string]string{
		"mixed":             mixed("Content-Type: multipart/mixed; boundary=b\n", text+"--b\n"+xdmFields+"\n"+zipped+"--b--\n"),
		"a blank line":      mixed("Content-Type: multipart/mixed; boundary=b\n", text+"--b\n"+xdmFields+"\n"+zipped+"\n--b--\n"),
		"an epilogue":       mixed("Content-Type: multipart/mixed; boundary=\"b\"\n", text+"--b\n"+xdmFields+"\n"+zipped+"--b-- \n\n\n"),
		"not the last":      mixed("Content-Type: multipart/mixed; boundary=b\n", "--b\n"+xdmFields+"\n"+zipped+"\n"+text+"\n--b--\n"),
		"alternative":       mixed("Content-Type: multipart/alternative;\n boundary=b\n", text+"--b\n"+xdmFields+"\n"+zipped+"--b--\n"),
		"the archive alone": mixed(xdmFields, zipped),
		"deep":              mixed("Content-Type: multipart/mixed; boundary=o\n", "--o\nContent-Type: multipart/related; boundary=i\n\n--i\nContent-Type: text/html\n\n<p>\n--i\n"+xdmFields+"\n"+zipped+"--i--\n--o--\n"),
	} {
		if _, dot := h.receive(t, doctor, c, "b@mss.clinic.test"); dot[:3] != "250" {
			t.Fatalf("%s: %s", name, dot)
		}
		got := h.last(t)
		x, files := beside(t, got)
		for n, content := range want {
			if files[n] != content {
				t.Errorf("%s: %s is %q", name, n, files[n])
			}
		}
		odd := 0
		for n := range files {
			if strings.HasPrefix(n, "XDM_") {
				odd++
			}
			if strings.ContainsAny(n, "/\\\"\r\n;") || strings.HasPrefix(n, ".") || strings.Contains(strings.ToLower(n), "exe") {
				t.Errorf("%s: a file is named %q", name, n)
			}
		}
		if odd != 4 || x.Parts[0].Type != "multipart/mixed" || files["IHE_XDM.ZIP"] == "" {
			t.Errorf("%s: %d documents in %s", name, odd, x.Parts[0].Type)
		}
		// Take away what was added: the message is there to the byte.
		_, body, _ := strings.Cut(c, "\n\n")
		if x.Parts[0].Params["boundary"][0] == '=' { // wrapped
			if !strings.Contains(got, "\n\n"+body+"\n--=_passerelle-") {
				t.Errorf("%s: changed:\n%s", name, got)
			}
			for _, f := range []string{"Subject: " + ddm, "Message-ID: <9@"} {
				if strings.Count(got, f) != 1 {
					t.Errorf("%s: %q stands %d times", name, f, strings.Count(got, f))
				}
			}
			continue
		}
		first := strings.Index(got, "--"+x.Parts[0].Params["boundary"]+"\nContent-Type: application/pdf; name=\"XDM_")
		last := strings.LastIndex(got, "--"+x.Parts[0].Params["boundary"]+"--")
		if first < 0 || got[:first]+got[last:] != got[:strings.Index(got, "\n\n")+2]+body {
			t.Errorf("%s: changed:\n%s", name, got)
		}
	}
}

// What is signed, encrypted, a report, unclear, no archive, a bomb or too large stays as it came, and is delivered.
func TestDocumentsAreNotLaidBeside(t *testing.T) {
	h := newArrivals(t, "inbound: {unpack_xdm: true}\nlimits: {message: 200KiB}\n", "")
	const doctor = "marie.durand@peer.mssante.test"
	good := archive(t, "METADATA.XML", "<a/>", "A.PDF", pdf)
	part := func(zipped string) string { return "--b\n" + xdmFields + "\n" + zipped + "--b--\n" }
	plain := "Content-Type: multipart/mixed; boundary=b\n"
	broken := strings.Replace(good, "HHTNd", "HHTNe", 1) // within the compressed PDF
	if broken == good {
		t.Fatal("the archive is another")
	}
	for name, c := range map[string]string{
		"signed":             mixed("Content-Type: multipart/signed; boundary=b\n", part(good)),
		"signed within":      mixed(plain, "--b\nContent-Type: multipart/signed; boundary=i\n\n--i\n\nx\n--i--\n"+part(good)),
		"encrypted":          mixed("Content-Type: multipart/encrypted; boundary=b\n", part(good)),
		"S/MIME":             mixed("Content-Type: application/pkcs7-mime; name=IHE_XDM.ZIP\nContent-Transfer-Encoding: base64\n", good),
		"a report":           mixed("Content-Type: multipart/report; boundary=b; report-type=delivery-status\n", part(good)),
		"of another message": mixed(plain, "--b\nContent-Type: message/rfc822\n\nSubject: x\nMIME-Version: 1.0\n"+xdmFields+"\n"+good+"--b--\n"),
		"no final boundary":  mixed(plain, "--b\n"+xdmFields+"\n"+good),
		"two boundaries":     mixed("Content-Type: multipart/mixed; boundary=b; boundary=c\n", part(good)),
		"no archive":         mixed(plain, part("QUFBQQ==\n")),
		"broken base64":      mixed(plain, part("%%%%\n")),
		"broken":             mixed(plain, part(broken)),
		"no metadata":        mixed(plain, part(archive(t, "A.PDF", pdf))),
		"no document":        mixed(plain, part(archive(t, "METADATA.XML", "<a/>", "A.TXT", pdf))),
		"a lie":              mixed(plain, part(archive(t, "METADATA.XML", "<a/>", "A.PDF", "MZ\x90"))),
		"too large":          mixed(plain, part(archive(t, "METADATA.XML", "<a/>", "A.PDF", pdf+strings.Repeat(" ", 200<<10)))),
		"a bomb":             mixed(plain, part(archive(t, "METADATA.XML", "<a/>", "A.XML", "<"+strings.Repeat(" ", 100<<20)))),
		"too many":           mixed(plain, part(archive(t, append([]string{"METADATA.XML", "<a/>"}, strings.Split(strings.Repeat("A.XML|<a/>|", 101), "|")[:202]...)...))),
	} {
		if _, dot := h.receive(t, doctor, c, "b@mss.clinic.test"); dot[:3] != "250" {
			t.Fatalf("%s: %s", name, dot)
		}
		_, body, _ := strings.Cut(c, "\n\n")
		if got := h.last(t); !strings.HasSuffix(got, "\n\n"+body) || strings.Contains(got, "XDM_") || mark(t, got) == "" {
			t.Errorf("%s: changed\n%.3000s", name, got)
		}
	}
	if n := len(h.clinic.Messages()); n != 17 {
		t.Errorf("%d messages", n)
	}
}

// A server that the documents are too much for gets the message as it came: a convenience loses no mail.
func TestDocumentsTooLargeForTheClinic(t *testing.T) {
	random := make([]byte, 60<<10)
	rand.Read(random)
	zipped := archive(t, "METADATA.XML", "<a/>", "A.PDF", pdf+base64.StdEncoding.EncodeToString(random))
	for name, content := range map[string]string{
		"mixed":   mixed("Content-Type: multipart/mixed; boundary=b\n", "--b\n"+xdmFields+"\n"+zipped+"--b--\n"),
		"wrapped": mixed(xdmFields, zipped),
	} {
		for how, o := range map[string]gatewaytest.Options{
			"by its SIZE": {MaxMessage: 150 << 10},
			"at the end": {Data: func(n int, _, _ string) gatewaytest.Reply {
				if n == 0 {
					return gatewaytest.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "too large"}
				}
				return gatewaytest.Reply{}
			}},
		} {
			clinic := startHop(t, o)
			h := newArrivals(t, "inbound: {unpack_xdm: true, subject_mark: \"[MSS]\"}\n", "", func(h *house) {
				edit := h.edit
				h.edit = func(text string) string { return strings.Replace(edit(text), "{clinic}", clinic.Addr(), 1) }
			})
			rcpt, dot := h.receive(t, "marie.durand@peer.mssante.test", strings.Replace(content, ddm, "avis", 1), "b@mss.clinic.test", "c@mss.clinic.test")
			ms := clinic.Messages()
			if !strings.HasPrefix(dot, "250") || len(ms) == 0 {
				t.Fatalf("%s, %s: %q %s, %d messages", name, how, rcpt, dot, len(ms))
			}
			got := strings.ReplaceAll(string(ms[len(ms)-1].Data), "\r\n", "\n")
			_, body, _ := strings.Cut(content, "\n\n")
			if !strings.HasSuffix(got, "\n\n"+body) || strings.Contains(got, "XDM_A") || mark(t, got) == "" || strings.Count(got, "Subject: [MSS]") != 1 || len(ms[len(ms)-1].Recipients) != 2 {
				t.Errorf("%s, %s:\n%.2000s", name, how, got)
			}
			if x, files := beside(t, got); files["IHE_XDM.ZIP"] == "" || name == "wrapped" && x.Parts[0].Type != "application/zip" {
				t.Errorf("%s, %s: %s", name, how, x.Parts[0].Type)
			}
		}
	}
}
