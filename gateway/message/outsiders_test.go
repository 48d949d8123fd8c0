package message

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/mail"
	"os/exec"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// leaf is a body as another parser sees it.
type leaf struct {
	encoding        string // "" where it is none that is compared
	stands, decoded []byte // what stands, without base64
}

// python is a child that parses for us.
type python struct {
	in  io.WriteCloser
	out io.Reader
}

func startPython(t testing.TB) *python {
	t.Helper()
	cmd := exec.Command(tool(t, "python3", "python3"), "testdata/parts.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("python3: %v", err)
		}
	})
	return &python{in, out}
}

// leaves gives what Python's email package sees, by its old and its new policy.
func (p *python) leaves(t testing.TB, raw []byte) (out []leaf) {
	t.Helper()
	p.in.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	var head [4]byte
	if _, err := io.ReadFull(p.out, head[:]); err != nil {
		t.Fatalf("python3: %v", err)
	}
	answer := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(p.out, answer); err != nil {
		t.Fatalf("python3: %v", err)
	}
	var seen [][3]string
	if err := json.Unmarshal(answer, &seen); err != nil {
		t.Fatal(err)
	}
	for _, s := range seen {
		stands, _ := base64.StdEncoding.DecodeString(s[1])
		decoded, _ := base64.StdEncoding.DecodeString(s[2])
		out = append(out, leaf{s[0], stands, decoded})
	}
	return out
}

// goLeaves gives what net/mail and mime/multipart see, attached messages opened.
func goLeaves(raw []byte, depth int) (out []leaf) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil || depth > 20 {
		return nil
	}
	return goEntity(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body, depth)
}

func goEntity(kind, encoding string, body io.Reader, depth int) (out []leaf) {
	typ, params, _ := mime.ParseMediaType(kind)
	if strings.HasPrefix(typ, "multipart/") && params["boundary"] != "" && depth <= 20 {
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return out
			}
			kind := p.Header.Get("Content-Type")
			if kind == "" && typ == "multipart/digest" { // RFC 2046 section 5.1.5
				kind = "message/rfc822"
			}
			out = append(out, goEntity(kind, p.Header.Get("Content-Transfer-Encoding"), p, depth+1)...)
		}
	}
	raw, _ := io.ReadAll(body)
	if typ == "message/rfc822" {
		return goLeaves(raw, depth+1)
	}
	if len(raw) == 0 {
		return nil
	}
	l := leaf{encoding: strings.ToLower(encoding), stands: raw}
	if l.encoding == "base64" {
		var err error
		if l.decoded, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(raw))); err != nil {
			l.encoding = "" // Go takes no blanks between the signs; RFC 2045 section 6.8 drops them
		}
	}
	return []leaf{l}
}

// inside says what is wrong with the index in the light of what others see: a message that may be taken apart holds each of their bodies within
// one of its own leaves, and where both are the same base64 it decodes to the same.
func inside(raw []byte, seen []leaf) error {
	b := BytesBody(raw)
	x, err := Parse(b, DefaultLimits)
	if err != nil || x.Whole() || x.Check(b) != nil { // refused or sealed as one
		return nil
	}
	for _, s := range seen {
		held := false
		for _, p := range x.Parts {
			if len(p.Children) > 0 {
				continue
			}
			from := p.HeaderEnd
			if p.Opaque {
				from = p.Start
			}
			ours := raw[from:p.End]
			if !bytes.Contains(ours, bytes.TrimRight(s.stands, "\r\n")) {
				continue
			}
			held = true
			if p.Encoding == "base64" && s.encoding == "base64" && bytes.Equal(bytes.TrimSpace(ours), bytes.TrimSpace(s.stands)) {
				if got, err := io.ReadAll(DecodePart(b, p)); err != nil || !bytes.Equal(got, s.decoded) {
					return fmt.Errorf("base64 decodes to %q here (%v), to %q there", got, err, s.decoded)
				}
			}
			break
		}
		if !held {
			return fmt.Errorf("others see a body that lies in no leaf of %s: %.300q", outline(x), s.stands)
		}
	}
	return nil
}

// spliced puts a message together from its parts and what lies between them, with nothing changed.
func spliced(raw []byte, x *Index) []byte {
	var out []byte
	var entity func(i int)
	entity = func(i int) {
		p := x.Parts[i]
		out = append(out, raw[p.Start:p.HeaderEnd]...)
		at := p.HeaderEnd
		for _, c := range p.Children {
			out = append(out, raw[at:x.Parts[c].Start]...)
			entity(c)
			at = x.Parts[c].End
		}
		out = append(out, raw[at:p.End]...)
	}
	entity(0)
	return out
}

// pieces are what mutations put in: the signs at which parsers part.
var pieces = []string{"\r\n", "\n", "\r", "\x00", " ", "\t", "--b\r\n", "--b--\r\n", "--b", "\r\n--b\r\n\r\n", "--in\r\n", "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: message/rfc822\r\n",
	"Content-Type: text/plain\r\n", "Content-Transfer-Encoding: base64\r\n", "; boundary=in", "; boundary=\"b\"", "boundary*=us-ascii''b", "; boundary*0=b", "(", ")", "\"", "\\", ";", "=", ":", "=?", "--", "multipart/digest", "multipart/", "X:", " \r\n", "\xe9", "\xc2\xa0"}

func mutate(r *rand.Rand, p, other []byte) []byte {
	p = bytes.Clone(p)
	for range 1 + r.IntN(4) {
		if len(p) == 0 {
			return p
		}
		at := r.IntN(len(p))
		lines := bytes.SplitAfter(p, []byte("\n"))
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		switch r.IntN(7) {
		case 0:
			p[at] = byte(r.Uint32())
		case 1:
			p = append(p[:at:at], p[min(len(p), at+1+r.IntN(8)):]...)
		case 2, 3:
			p = append(p[:at:at], append([]byte(pieces[r.IntN(len(pieces))]), p[at:]...)...)
		case 4:
			lines[i] = nil
			p = bytes.Join(lines, nil)
		case 5:
			lines[i], lines[j] = lines[j], append(bytes.Clone(lines[i]), lines[j]...)
			p = bytes.Join(lines, nil)
		case 6:
			from := r.IntN(len(other) + 1)
			p = append(p[:at:at], other[from:min(len(other), from+200)]...)
		}
	}
	return p
}

// mutations is how many letters Python reads beside the corpus: some seconds.
const mutations = 5_000

// TestOutsidersSeeNothingElse: what Go's and Python's parsers see in the corpus, in the tricks and in mutations of both lies within a leaf that
// is sealed, or the message is sealed as one; and an index of parts, put together again, is the message.
func TestOutsidersSeeNothingElse(t *testing.T) {
	py := startPython(t)
	var seeds [][]byte
	for _, l := range append(gatewaytest.Tricks(strings.Repeat("Charge-Utile ", 4)), gatewaytest.Corpus("Marqueur")...) {
		seeds = append(seeds, l.Bytes)
	}
	seeds = append(seeds, []byte(crlf(clinic)), []byte(crlf(strings.ReplaceAll(clinic, "multipart/signed", "multipart/mixed"))))
	split, bad := 0, 0
	var clear [][]byte // what is taken apart as it stands: most of its mutations are too
	check := func(name string, raw []byte) {
		t.Helper()
		b := BytesBody(raw)
		x, err := Parse(b, DefaultLimits)
		if err != nil {
			return
		}
		if got := spliced(raw, x); !bytes.Equal(got, raw) {
			t.Fatalf("%s: spliced to %d of %d bytes\n%q", name, len(got), len(raw), raw)
		}
		if x.Whole() {
			return
		}
		split++
		err = inside(raw, append(goLeaves(raw, 0), py.leaves(t, raw)...))
		if bad++; err == nil {
			bad--
		} else if t.Errorf("%s: %v\n%.3000q", name, err, raw); bad > 5 {
			t.FailNow()
		}
	}
	for i, s := range seeds {
		before := split
		if check(fmt.Sprint("seed ", i), s); split > before && len(s) < 8<<10 {
			clear = append(clear, s)
		}
	}
	if split < 100 {
		t.Errorf("only %d of %d seeds are taken apart: this test sees little", split, len(seeds))
	}
	r := rand.New(rand.NewPCG(6, 2026))
	n := mutations
	if testing.Short() {
		n /= 10
	}
	for i := range n {
		check(fmt.Sprint("mutation ", i), mutate(r, clear[r.IntN(len(clear))], seeds[r.IntN(len(seeds))]))
	}
	t.Logf("%d messages taken apart", split)
}

// FuzzIndex is the same for whatever the fuzzer writes.
func FuzzIndex(f *testing.F) {
	for _, l := range gatewaytest.Tricks(strings.Repeat("Charge-Utile ", 4)) {
		if len(l.Bytes) < 4<<10 {
			f.Add(l.Bytes)
		}
	}
	f.Add([]byte(crlf(clinic)))
	py := startPython(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := Parse(BytesBody(raw), DefaultLimits)
		if err != nil {
			return
		}
		if got := spliced(raw, x); !bytes.Equal(got, raw) {
			t.Fatalf("spliced to %d of %d bytes", len(got), len(raw))
		}
		if x.Whole() {
			return
		}
		if err := inside(raw, append(goLeaves(raw, 0), py.leaves(t, raw)...)); err != nil {
			t.Fatal(err)
		}
	})
}
