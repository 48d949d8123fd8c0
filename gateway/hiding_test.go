package gateway_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/crypto/zipaes"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// payload has no piece of twelve signs that could stand anywhere by chance, and signs whose hexadecimal, quoted-printable and base64 differ.
const payload = "Zk7QxW9vRb2MnHgT4LsYp0DcJf8AuEi5KoVw3Gt6XzNq1BhS"

// protecting are the forms in which a protecting route lets content leave, each with a recipient of its own. open gives what the recipient
// can read; nil where this test does not open.
var protecting = []struct {
	form string
	open func(t *testing.T, w *hidingWorld, data []byte) []byte
}{
	{"openpgp", nil},
	{"smime", func(t *testing.T, w *hidingWorld, data []byte) []byte {
		inner, err := w.holder.Open(data)
		if err != nil {
			t.Error(err)
		}
		return inner
	}},
	{"zip", unzipped},
	{"pdf", nil},
	{"pickup", nil},
}

const hidingPhrase = "corail-menthe-sillon-7421-amande"

type hidingWorld struct {
	*house
	holder *gatewaytest.Correspondent
}

// hiding is a house that protects what goes to dest.test, and sends plain what goes elsewhere.
func hiding(t *testing.T, encrypt string) *hidingWorld {
	t.Helper()
	dir := t.TempDir()
	w := &hidingWorld{}
	var err error
	if w.holder, err = gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "smime@dest.test"}); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "list.yaml")
	text := fmt.Sprintf("- {address: smime@dest.test, certificate: %q}\n- {address: zip@dest.test, secret: %q, form: zip}\n- {address: pdf@dest.test, secret: %[2]q, form: pdf}\n", w.holder.CertFile, hidingPhrase)
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.house = custom(t, withRules("encrypt: {keys: {openpgp@dest.test: \"{key}\"}"+encrypt+"}\ndirectory: {list: \"{list}\"}\npickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: open, domain: [open.test], route: plain}\n  - {name: zip, recipient: [\"zip@*\"], route: encrypt, form: zip}\n  - {name: pdf, recipient: [\"pdf@*\"], route: encrypt, form: pdf}\n  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n"), nil,
		func(h *house) { h.key = recipientKey(t, h.dir, "openpgp@dest.test") }, "{list}", list)
	return w
}

// hand sends bytes as they are, and gives the replies to the dot.
func (h *house) hand(letter []byte, to ...string) []string {
	h.t.Helper()
	conn, err := net.DialTimeout("tcp", h.lmtp, 5*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := textproto.NewConn(conn)
	say := func(line string, want int) {
		h.t.Helper()
		if line != "" {
			c.PrintfLine("%s", line)
		}
		if _, _, err := c.ReadResponse(want); err != nil {
			h.t.Fatalf("%s: %v", line, err)
		}
	}
	say("", 220)
	say("LHLO client.clinic.test", 250)
	say("MAIL FROM:<dr@clinic.test> BODY=8BITMIME", 250)
	for _, r := range to {
		say("RCPT TO:<"+r+">", 250)
	}
	say("DATA", 354)
	letter = bytes.ReplaceAll(append([]byte("\r\n"), letter...), []byte("\r\n."), []byte("\r\n.."))[2:]
	c.W.Write(letter)
	if !bytes.HasSuffix(letter, []byte("\r\n")) {
		c.W.WriteString("\r\n")
	}
	c.W.WriteString(".\r\n")
	c.W.Flush()
	var out []string
	for range to {
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			h.t.Fatal(err)
		}
		out = append(out, fmt.Sprint(code, " ", text))
	}
	return out
}

// TestNoTrickLeavesReadable: each letter that hides a payload goes to each form; where it is not refused, what reached the hop shows the payload
// in no dress, in no header and no part, and who opens it finds it. The same letters sent plain show it: the search sees what it looks for.
func TestNoTrickLeavesReadable(t *testing.T) {
	w := hiding(t, "")
	dresses := gatewaytest.NewDresses(payload)
	tricks := gatewaytest.Tricks(payload)
	if len(tricks) < 100 {
		t.Fatalf("%d tricks", len(tricks))
	}
	var to []string
	for _, p := range protecting {
		to = append(to, p.form+"@dest.test")
	}
	left, refused, plain := 0, 0, 0
	for _, trick := range tricks {
		before := len(w.sink.Messages())
		for i, got := range w.hand(trick.Bytes, to...) {
			switch got[:1] {
			case "2":
				left++
			case "5":
				refused++
			default:
				t.Errorf("%s as %s: %s", trick.Name, protecting[i].form, got)
			}
		}
		for _, m := range w.sink.Messages()[before:] {
			if len(m.Recipients) != 1 {
				t.Errorf("%s: one copy for %v", trick.Name, m.Recipients)
				continue
			}
			form := strings.TrimSuffix(m.Recipients[0], "@dest.test")
			if how := everywhere(dresses, m.Data); how != "" {
				t.Errorf("%s as %s: readable as %s\n%.2000s", trick.Name, form, how, m.Data)
			}
			for _, p := range protecting {
				if p.form == form && p.open != nil && !lost(trick.Name) {
					if inside := p.open(t, w, m.Data); everywhere(dresses, inside) == "" {
						t.Errorf("%s as %s: the payload is lost\n%.3000s", trick.Name, form, inside)
					}
				}
			}
		}
		before = len(w.sink.Messages())
		if got := w.hand(trick.Bytes, "a@open.test"); got[0][0] == '2' {
			if plain++; everywhere(dresses, w.sink.Messages()[before].Data) == "" {
				t.Errorf("%s: sent plain the payload is not seen: this test sees nothing", trick.Name)
			}
		}
	}
	t.Logf("%d tricks: %d copies left, %d refused, %d plain", len(tricks), left, refused, plain)
	if left < 3*len(tricks) || plain < len(tricks)*9/10 {
		t.Errorf("%d tricks: only %d copies left, %d plain", len(tricks), left, plain)
	}
	w.stop()
	onDisk(t, filepath.Join(w.dir, "state"), dresses)
	if how := dresses.In([]byte(w.log.String())); how != "" {
		t.Errorf("the log tells the payload as %s", how)
	}
}

// lost tells which tricks put the payload where it is not for the recipient: in fields beside Subject, From and Date, or where the decoded
// content is another.
func lost(name string) bool {
	switch name {
	case "head-subject", "head-subject-folded", "head-subject-twice", "head-from-twice", "head-from-broken", "head-blank-colon", "head-no-colon", "head-mbox":
		return false
	case "field-description", "field-id", "field-location", // of one part, without its content
		"encoding-base64-plain": // the payload is base64 of something
		return true
	}
	return strings.HasPrefix(name, "head-")
}

// TestUnclearIsRefused: with encrypt.unclear: refuse a letter that readers take apart differently goes nowhere, by no form; what is only packed
// goes, and so does the ordinary one.
func TestUnclearIsRefused(t *testing.T) {
	w := hiding(t, ", unclear: refuse")
	want := map[string]string{"place-ordinary": "250", "file-uuencode": "250", "file-tnef": "250", "boundary-two": "550", "preamble": "550", "encoding-base64-junk": "550", "field-name-both": "550"}
	for _, trick := range gatewaytest.Tricks(payload) {
		code := want[trick.Name]
		if code == "" {
			continue
		}
		delete(want, trick.Name)
		before := len(w.sink.Messages())
		for i, got := range w.hand(trick.Bytes, "openpgp@dest.test", "smime@dest.test", "zip@dest.test", "pickup@dest.test") {
			if got[:3] != code {
				t.Errorf("%s to recipient %d: %s", trick.Name, i, got)
			}
		}
		if n := len(w.sink.Messages()) - before; n != map[string]int{"250": 4}[code] {
			t.Errorf("%s: %d copies left", trick.Name, n)
		}
		x, err := w.g.Explain(t.Context(), "dr@clinic.test", "smime@dest.test", trick.Bytes)
		if err != nil || strings.Contains(x.Sees, "ambigue") != (code == "550") {
			t.Errorf("%s: explain: %v %+v", trick.Name, err, x)
		}
	}
	if len(want) > 0 {
		t.Errorf("no such tricks: %v", want)
	}
}

// everywhere searches bytes as they stand, then the fields of each part decoded, then each part without its transfer encoding.
func everywhere(d gatewaytest.Dresses, data []byte) string {
	if how := d.In(data); how != "" {
		return how
	}
	b := message.BytesBody(data)
	lim := message.DefaultLimits
	lim.Signed = true
	x, err := message.Parse(b, lim)
	if err != nil {
		return ""
	}
	for i, p := range x.Parts {
		h, _, err := message.ReadHeader(message.BytesBody(data[p.Start:p.End]), 1<<20)
		if err != nil {
			continue
		}
		for _, f := range h.Fields() {
			if how := d.In([]byte(message.DecodeText(f.Value()) + p.Name)); how != "" {
				return fmt.Sprintf("%s in the header of part %d", how, i)
			}
		}
		plain, _ := io.ReadAll(message.DecodePart(b, p)) // to where it breaks
		if how := d.In(plain); how != "" {
			return fmt.Sprintf("%s in part %d", how, i)
		}
	}
	return ""
}

// unzipped gives all entries of message.zip one behind the other.
func unzipped(t *testing.T, _ *hidingWorld, data []byte) (all []byte) {
	b := message.BytesBody(data)
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, a := range x.Attachments() {
		raw, err := io.ReadAll(message.DecodePart(b, x.Parts[a.Part]))
		if err != nil {
			t.Error(err)
			return nil
		}
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Error(err)
			return nil
		}
		for _, f := range z.File {
			r, err := zipaes.Open(f, hidingPhrase)
			if err != nil {
				t.Error(err)
				return nil
			}
			p, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			all = append(append(all, p...), '\n')
		}
	}
	return all
}

// onDisk searches every file below dir.
func onDisk(t *testing.T, dir string, d gatewaytest.Dresses) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for name, dress := range d {
			if bytes.Contains(p, dress) {
				t.Errorf("%s holds the payload as %s", filepath.Base(path), name)
			}
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestNoTrickInTheText: where the text stays readable and the files are sealed, no trick makes a file pass for text. A letter that readers take
// apart differently is sealed whole.
func TestNoTrickInTheText(t *testing.T) {
	w := hiding(t, ", scope: attachments")
	dresses, split := gatewaytest.NewDresses(payload), 0
	for _, trick := range gatewaytest.Tricks(payload) {
		before := len(w.sink.Messages())
		w.hand(trick.Bytes, "openpgp@dest.test", "zip@dest.test", "pdf@dest.test")
		for _, m := range w.sink.Messages()[before:] {
			if how := everywhere(dresses, m.Data); how != "" {
				t.Errorf("%s to %s: readable as %s", trick.Name, m.Recipients[0], how)
			}
			if bytes.Contains(m.Data, []byte("Bonjour\r\n")) {
				split++
			}
		}
	}
	if split < 4 {
		t.Errorf("only %d copies with a readable text: this test sees nothing", split)
	}
}
