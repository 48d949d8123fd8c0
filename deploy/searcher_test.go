package deploy_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"mime/quotedprintable"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSearcher is the control of the searcher: one that finds nothing anywhere, or looks nowhere, would pass every other test.
func TestSearcher(t *testing.T) {
	t.Run("finds", searcherFinds)
	t.Run("looks", searcherLooks)
}

// benchMark is a sentence that no other bytes contain by chance, with a sign that quoted-printable must escape.
func benchMark() string {
	var b [8]byte
	rand.Read(b[:])
	return "temoin=" + hex.EncodeToString(b[:])
}

// searcher finds a sentence in the ways in which mail and databases write it.
type searcher map[string][]byte

func newSearcher(sentence string) searcher {
	s := searcher{"as bytes": []byte(sentence), "quoted-printable": []byte(strings.ReplaceAll(sentence, "=", "=3D")),
		"in a URL": []byte(url.QueryEscape(sentence)), "hexadecimal": []byte(hex.EncodeToString([]byte(sentence)))}
	var be, le []byte
	for _, c := range []byte(sentence) {
		be, le = append(be, 0, c), append(le, c, 0)
	}
	s["UTF-16BE"], s["UTF-16LE"] = be, le
	for shift := range 3 { // the first and last characters depend on the neighbours
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), sentence...))
		s[fmt.Sprint("base64 shifted by ", shift)] = []byte(text[(shift*8+5)/6 : len(text)-1])
	}
	return s
}

// in names the first way in which the sentence stands in body, or "". Line ends are taken out first, those of quoted-printable too:
// whatever stands in the lines stands in what is left.
func (s searcher) in(body []byte) string {
	flat := make([]byte, 0, len(body))
	for len(body) > 0 {
		line, rest, cut := bytes.Cut(body, []byte("\n"))
		if cut {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\r")), []byte("="))
		}
		flat, body = append(flat, line...), rest
	}
	for way, needle := range s {
		if bytes.Contains(flat, needle) {
			return way
		}
	}
	return ""
}

// searcherFinds plants the sentence in every way and place.
func searcherFinds(t *testing.T) {
	sentence := benchMark()
	s := newSearcher(sentence)
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	w.Write([]byte(strings.Repeat("x", 60) + sentence + "\n"))
	w.Close()
	planted := map[string][]byte{"bytes": []byte("a" + sentence + "b"), "quoted": qp.Bytes(), "whole letter": benchLetter("7", sentence, 100<<10)}
	for i := range 40 { // every alignment, and every place of the line's end
		raw := []byte(strings.Repeat("x", i) + sentence + "tail")
		planted[fmt.Sprint("base64 at ", i)] = benchBase64(raw)
		planted[fmt.Sprint("base64 behind a header at ", i)] = []byte("Subject: =?utf-8?B?" + base64.StdEncoding.EncodeToString(raw) + "?=\r\n")
	}
	for where, body := range planted {
		if s.in(body) == "" {
			t.Errorf("%s: the planted sentence was not found in %q", where, body[:min(200, len(body))])
		}
		if way := newSearcher(benchMark()).in(body); way != "" {
			t.Errorf("%s: another sentence was found %s", where, way)
		}
	}
	// The same through all that a message's parts are made of: each alone must be found in a letter.
	for _, part := range []string{"Subject: ", "file name", "text", "attachment"} {
		body := benchLetterParts("7", func(p string) string {
			if p == part {
				return sentence
			}
			return "nothing"
		}, 50<<10)
		if s.in(body) == "" {
			t.Errorf("the sentence in %s alone was not found", part)
		}
	}
}

// searcherLooks is the control of where the searcher looks: this very process holds the sentence in a file without a name.
func searcherLooks(t *testing.T) {
	sentence := benchMark()
	self, err := os.FindProcess(os.Getpid())
	benchCheck(t, err)
	b := &benchGateway{root: t.TempDir(), cmd: &exec.Cmd{Process: self}}
	benchCheck(t, os.Mkdir(filepath.Join(b.root, "tmp"), 0o700))
	find := func() (found, unlinked int) {
		files, unlinked := b.files(t, true)
		for _, body := range files {
			if newSearcher(sentence).in(body) != "" {
				found++
			}
		}
		return found, unlinked
	}
	f, err := os.Create(filepath.Join(b.root, "tmp", "body"))
	benchCheck(t, err)
	defer f.Close()
	if found, unlinked := find(); found+unlinked > 0 {
		t.Fatalf("before: %d found, %d without a name", found, unlinked)
	}
	_, err = f.WriteString("a " + sentence)
	benchCheck(t, err)
	if found, unlinked := find(); found != 2 || unlinked != 0 { // by its name, and as a descriptor
		t.Errorf("with its name: %d found, %d without a name", found, unlinked)
	}
	benchCheck(t, os.Remove(f.Name()))
	if found, unlinked := find(); found != 1 || unlinked != 1 {
		t.Errorf("without its name: %d found, %d without a name", found, unlinked)
	}
}

// benchLetter is a message of about size bytes that says the sentence in subject, text, file name and all through the attachment.
func benchLetter(id, sentence string, size int) []byte {
	return benchLetterParts(id, func(string) string { return sentence }, size)
}

func benchLetterParts(id string, say func(part string) string, size int) []byte {
	return append(benchHead(id, say("Subject: ")), benchRest(say, size)...)
}

func benchHead(id, subject string) []byte {
	return fmt.Appendf(nil, "From: staff@clinic.test\r\nTo: r@dest.test\r\nSubject: %s\r\nMessage-ID: <%s@clinic.test>\r\nX-Check-Id: %s\r\n"+
		"Date: Mon, 02 Nov 2026 10:00:00 +0100\r\n", subject, id, id)
}

// benchRest is all of a letter but what tells it from others.
func benchRest(say func(part string) string, size int) []byte {
	var b bytes.Buffer
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\n")
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	for range 200 {
		fmt.Fprintf(&b, "Le dossier dit %s, à garder entre nous.\r\n", say("text"))
	}
	fmt.Fprintf(&b, "--frontier\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"%s.bin\"\r\n\r\n", say("file name"))
	raw := make([]byte, max(0, (size-b.Len())*3/4*76/78))
	rand.Read(raw) // so that nothing on the way packs it small
	for at := 0; at+100 < len(raw); at += 4099 {
		copy(raw[at:], say("attachment"))
	}
	b.Write(benchBase64(raw))
	b.WriteString("--frontier--\r\n")
	return b.Bytes()
}

func benchBase64(raw []byte) []byte {
	var b bytes.Buffer
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(raw)), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// searchGateway looks through all that the gateway has on disk and gives the number of its unlinked files.
func searchGateway(t *testing.T, when string, b *benchGateway, s searcher, running bool) int {
	t.Helper()
	files, unlinked := b.files(t, running)
	if len(files) < 3 {
		t.Errorf("%s: only %d files were looked at", when, len(files))
	}
	for name, body := range files {
		if way := s.in(body); way != "" {
			t.Errorf("%s: %s holds the sentence %s", when, name, way)
		}
	}
	return unlinked
}
