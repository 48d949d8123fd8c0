package protect

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// form is one way of sealing, and who opens it.
type form struct {
	name    string
	seal    func(b *message.Body, x *message.Index, o Options) (*message.Body, error)
	outer   func(ob *message.Body, ox *message.Index) error // what is particular of the sealed message
	readers []opener
}

// opener is a program that recipients have. open gives what it gets out of a sealed message: the MIME entity that was sealed, or files by
// their names.
type opener struct {
	name string
	open func(sealed []byte) (entity []byte, files map[string][]byte, err error)
}

// TestMatrix is the table of docs/formats.md: every form of every sample, opened by every program that opens the form, holds what was
// sealed, byte for byte; outside nothing of it can be read.
func TestMatrix(t *testing.T) {
	k := newRing(t)
	forms := k.forms(t)
	var cells [][]string
	heads := []string{"message"}
	for _, f := range forms {
		for _, r := range f.readers {
			heads = append(heads, f.name+": "+r.name)
		}
	}
	for _, s := range append(shapes(), k.shapes(t)...) {
		row := []string{s.name}
		in := crlf(s.text)
		b, x := indexed(t, in)
		for _, f := range forms {
			row = append(row, k.check(t, f, s, in, b, x, options(t))...)
		}
		cells = append(cells, row)
	}
	cells = append(cells, k.large(t, forms))
	table := "| " + strings.Join(heads, " | ") + " |\n|" + strings.Repeat("---|", len(heads)) + "\n"
	for _, row := range cells {
		table += "| " + strings.Join(row, " | ") + " |\n"
	}
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	if !t.Failed() && !strings.Contains(string(page), "\n"+table+"\n") {
		t.Errorf("docs/formats.md has another table than this:\n%s", table)
	}
}

// large is the row of an attachment of 25 MB, which goes from one encrypted temp file to another; once in each form, for the bytes are many
// and what another program or key changes is not in their number.
func (k *ring) large(t *testing.T, forms []form) []string {
	o := options(t)
	o.Budget = message.NewBudget(0, t.TempDir())
	w := o.Budget.NewWriter(0)
	raw := strings.Replace(string(letter(25<<20*78/57)), "Subject: Compte rendu", "Subject: "+encodeWords(marker), 1)
	if _, err := io.WriteString(w, raw); err != nil {
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
	s := sample{name: "attachment of 25 MB"}
	row := []string{s.name}
	for _, f := range forms {
		others := len(f.readers)
		if !strings.Contains(f.name, "P-256") {
			f.readers = f.readers[:1]
			row = append(row, k.check(t, f, s, raw, b, x, o)...)
			others--
		}
		for range others {
			row = append(row, "not run")
		}
	}
	return row
}

// check seals one sample in one form, and gives for each reader how it came out: as the entity it was, by its files, or whole as message.eml.
func (k *ring) check(t *testing.T, f form, s sample, in string, b *message.Body, x *message.Index, o Options) (cells []string) {
	t.Helper()
	used := o.Budget.Used()
	sealed, err := f.seal(b, x, o)
	if err != nil {
		t.Fatalf("%s, %s: %v", f.name, s.name, err)
	}
	out := all(t, sealed)
	sealed.Close()
	if o.Budget.Used() != used {
		t.Errorf("%s, %s: %d bytes of the budget never came back", f.name, s.name, o.Budget.Used()-used)
	}
	fault := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %s: %s", f.name, s.name, fmt.Sprintf(format, args...))
	}
	if how := leaks(out); how != "" || bytes.Contains(out, []byte(passphrase)) {
		fault("readable outside: %s", how)
	}
	ob, ox := indexed(t, string(out))
	if strings.Contains(in, "X-Check-Id") {
		var fields []string
		for _, h := range ox.Header.Fields() {
			if !strings.HasPrefix(h.Name, "Content-") {
				fields = append(fields, h.Name)
			}
		}
		if got := strings.Join(fields, " "); got != "From To Subject Date Message-ID References X-Check-Id MIME-Version" || ox.Header.Get("Subject") != encodeWords(neutralSubject) {
			fault("the outer header is %s\n%s", got, ox.Header.Bytes())
		}
	}
	for line := range bytes.SplitSeq(out, []byte("\r\n")) {
		if len(line) > 100 {
			fault("a line of %d bytes", len(line))
			break
		}
	}
	if err := f.outer(ob, ox); err != nil {
		fault("outside: %v", err)
	}
	for i, r := range f.readers {
		entity, files, err := r.open(out)
		if err != nil {
			fault("%s: %v", r.name, err)
			continue
		}
		how := "yes"
		if files != nil {
			how, entity = k.files(t, s, in, b, x, files), files["message.eml"]
		} else {
			k.entity(t, s, in, b, x, entity)
		}
		cells = append(cells, how)
		if t.Failed() {
			t.Fatalf("%s, %s, opened by %s", f.name, s.name, r.name)
		}
		if i == 0 { // the others gave the same bytes
			k.stillGood(t, s, entity)
		}
	}
	return cells
}

// entity: the body is what it was, and the header tells what a reader shows, of this recipient alone.
func (k *ring) entity(t *testing.T, s sample, in string, b *message.Body, x *message.Index, inner []byte) {
	t.Helper()
	original := in[x.Parts[0].HeaderEnd:]
	if at := len(inner) - len(original); at < 0 || sha256.Sum256(inner[at:]) != sha256.Sum256([]byte(original)) {
		t.Errorf("%s: the body changed", s.name)
	}
	ib, ix := indexed(t, string(inner))
	if ix.Header.Text("Subject") != marker || ix.Header.Get("To") != "<a@dest.test>" || ix.Header.Get("Cc") != "" {
		t.Errorf("%s: protected header\n%s", s.name, ix.Header.Bytes())
	}
	if how := otherRecipients(inner); how != "" {
		t.Errorf("%s: inside stands %s", s.name, how)
	}
	switch {
	case x.Whole():
		if ix.Parts[0].Type != "message/rfc822" {
			t.Errorf("%s: is unclear (%s) and was not sealed whole", s.name, x.Unclear)
		}
	case !s.odd && (ix.Unclear != x.Unclear || !slices.Equal(leaves(t, ib, ix), leaves(t, b, x))):
		t.Errorf("%s: leaves differ, %q", s.name, ix.Unclear)
	}
}

// files: every leaf is a file, decoded, and contenu.txt has their real names; or all is message.eml.
func (k *ring) files(t *testing.T, s sample, in string, b *message.Body, x *message.Index, got map[string][]byte) string {
	t.Helper()
	for name, p := range got {
		if how := otherRecipients(p); how != "" {
			t.Errorf("%s: %s holds %s", s.name, name, how)
		}
	}
	if s.odd || s.signed != "" || s.encrypted != "" {
		if eml := string(got["message.eml"]); len(got) != 1 || !strings.HasSuffix(eml, in[x.Parts[0].HeaderEnd:]) {
			t.Errorf("%s: not sealed whole: %v", s.name, slices.Sorted(maps.Keys(got)))
		}
		return "message.eml"
	}
	list := string(got["contenu.txt"])
	delete(got, "contenu.txt")
	var want, have [][sha256.Size]byte
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
		want = append(want, sha256.Sum256(d))
		if p.Name != "" && !strings.Contains(list, " = "+p.Name+"\r\n") {
			t.Errorf("%s: the list has no %q:\n%s", s.name, p.Name, list)
		}
	}
	for _, v := range got {
		have = append(have, sha256.Sum256(bytes.TrimPrefix(v, []byte("\ufeff"))))
	}
	bySum := func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(have, bySum)
	slices.SortFunc(want, bySum)
	if !slices.Equal(have, want) {
		t.Errorf("%s: entries %v do not hold the leaves", s.name, slices.Sorted(maps.Keys(got)))
	}
	if !strings.Contains(list, "Objet / Subject : "+marker) {
		t.Errorf("%s: list\n%s", s.name, list)
	}
	if s.name == "all of these at once" {
		for _, line := range []string{"message.txt = (text/plain)", "message.html = (text/html)", "piece-01.png = logo.png", "piece-02.jpg = signature.jpg",
			"piece-03.pdf = résultat Mme Durand.pdf", "piece-04.bin = 日本.zip", "piece-05.ics = (text/calendar)", "piece-06.eml = (message/rfc822)"} {
			if !strings.Contains(list, line) {
				t.Errorf("list has no %q:\n%s", line, list)
			}
		}
	}
	return "files"
}

func otherRecipients(p []byte) string {
	for _, s := range []string{"secret@", "tiers@", "autre@", "poste-12"} {
		if bytes.Contains(p, []byte(s)) {
			return s
		}
	}
	return ""
}
