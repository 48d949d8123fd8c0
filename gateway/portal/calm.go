package portal

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"io"
	"regexp"
	"strconv"
	"sync"

	"passerelle/gateway/vault"
)

// A PDF may hold scripts, which readers in browsers run: apart from our page, but an alert of theirs looks like ours. It is shown in place only
// where no name in it is that of a script, in clear or in the compressed streams that may hold objects; any character of a name may be
// written as #xx (ISO 32000-1 section 7.3.5). What cannot be looked through is a download.
//
// What a stream says of itself is not believed, because readers differ in it: pdf.js takes objects out of a stream of any /Type. But all of
// them want the key /First in its dictionary, which is in clear (section 7.5.7); where there is none, there are no hidden objects.
const (
	maxCalm    = 10 << 20 // octets of a PDF that is looked through, it is in memory meanwhile
	maxInflate = 64 << 20 // of all its streams; they pass through a window
	maxStreams = 20_000
	maxPacked  = 3  // times inside a packed stream
	pdfOverlap = 64 // longer than any name that is looked for
)

var (
	pdfActive = regexp.MustCompile(pdfNames("JavaScript", "Launch", "RichMedia", "XFA", "SubmitForm", "ImportData"))
	pdfCrypt  = regexp.MustCompile(pdfNames("Encrypt"))
	pdfFirst  = regexp.MustCompile(pdfNames("First"))
	// pdfHiding are the filters and parameters, with their short forms, that can make a stream of objects unreadable to the look for names.
	pdfHiding  = regexp.MustCompile(pdfNames("LZWDecode", "ASCIIHexDecode", "ASCII85Decode", "RunLengthDecode", "Crypt") + `|/(?:LZW|AHx|A85|RL)[\s\]>/]`)
	pdfPredict = regexp.MustCompile(pdfNames("Predictor"))
	pdfBegin   = regexp.MustCompile(`\d\s+obj\s*<<`)
	pdfStream  = regexp.MustCompile(`stream[^\r\n]*(?:\r\n|\r|\n)`)
)

// pdfNames matches these names as PDF lets them be written.
func pdfNames(names ...string) string {
	const hex = "0123456789abcdef"
	var b bytes.Buffer
	for i, name := range names {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, c := range []byte(name) {
			b.WriteString("(?:" + string(rune(c)) + "|#" + string(hex[c>>4]) + "(?i:" + string(hex[c&15]) + "))")
		}
	}
	return `/(?:` + b.String() + `)(?:[^0-9A-Za-z]|$)`
}

// calmed keeps what was found of files: a reader of PDF asks for one in many ranges. The bytes of a deposit never change.
type calmed struct {
	mu    sync.Mutex
	found map[string]bool
	scans chan struct{}
}

func newCalmed() *calmed { return &calmed{found: map[string]bool{}, scans: make(chan struct{}, 2)} }

// calm tells whether the n-th file, a PDF, can be shown in place.
func (p *Portal) calm(ctx context.Context, c *vault.Content, n int) bool {
	k, name := p.calmed, c.ID+"/"+strconv.Itoa(n)
	k.mu.Lock()
	yes, known := k.found[name]
	k.mu.Unlock()
	if known {
		return yes
	}
	select {
	case k.scans <- struct{}{}:
		defer func() { <-k.scans }()
	case <-ctx.Done():
		return false
	}
	yes, err := calmPDF(c.File(n))
	if err != nil {
		p.cfg.Log.Warn("a PDF is not looked through", "deposit", c.ID, "err", err)
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.found) >= 1000 {
		clear(k.found)
	}
	k.found[name] = yes
	return yes
}

func calmPDF(r *io.SectionReader) (bool, error) {
	if r.Size() > maxCalm {
		return false, nil
	}
	b := make([]byte, r.Size())
	if _, err := io.ReadFull(r, b); err != nil {
		return false, err
	}
	if pdfActive.Match(b) || pdfCrypt.Match(b) {
		return false, nil
	}
	if !pdfFirst.Match(b) {
		return true, nil
	}
	return !pdfHiding.Match(b) && predictsTables(b) && calmStreams(b), nil
}

// predictsTables tells whether every predictor stands in a dictionary that can be no stream of objects, but one of numbers or pixels: no string
// and no comment there can hide what it says.
func predictsTables(b []byte) bool {
	const around = 600
	for _, at := range pdfPredict.FindAllIndex(b, -1) {
		before, after := b[max(0, at[0]-around):at[0]], b[at[0]:min(len(b), at[1]+around)]
		begins, end := pdfBegin.FindAllIndex(before, -1), bytes.Index(after, []byte("stream"))
		if begins == nil || end < 0 {
			return false
		}
		start := at[0] - len(before) + begins[len(begins)-1][0]
		dict := b[start : at[0]+end]
		if bytes.ContainsAny(dict, "()%#") || bytes.Count(dict, []byte("<<")) != bytes.Count(dict, []byte(">>")) || pdfFirst.Match(dict) {
			return false
		}
	}
	return true
}

// calmStreams looks into all that unpacks, whatever it is said to be.
func calmStreams(b []byte) bool {
	at := pdfStream.FindAllIndex(b, maxStreams+1)
	if len(at) > maxStreams {
		return false
	}
	room := maxInflate
	var z io.ReadCloser
	for _, s := range at {
		data := b[s[1]:]
		if len(data) < 2 || data[0]&15 != 8 || (int(data[0])<<8|int(data[1]))%31 != 0 { // RFC 1950 section 2.2
			continue
		}
		var err error
		if z == nil {
			z, err = zlib.NewReader(bytes.NewReader(data))
		} else {
			err = z.(zlib.Resetter).Reset(bytes.NewReader(data), nil)
		}
		if err != nil {
			return false
		}
		if calm, err := calmInside(z, maxPacked, &room); !calm || err != nil {
			return false
		}
	}
	return true
}

// calmInside looks into what a stream unpacks to, and into what that unpacks to: a stream may name its filter several times. The error is that
// of r; an inner one is no fault, for most that begins as packed octets do is none: all that a reader gets out of it was looked at.
func calmInside(r io.Reader, times int, room *int) (bool, error) {
	l := &looked{r: r, room: room}
	in := bufio.NewReader(l)
	if z, err := zlib.NewReader(in); err == nil {
		if times == 0 {
			return false, nil
		}
		if calm, _ := calmInside(z, times-1, room); !calm {
			return false, nil
		}
	}
	_, err := io.Copy(io.Discard, in)
	return !l.active, err
}

// looked looks for names in all that is read through it.
type looked struct {
	r      io.Reader
	room   *int
	last   []byte // pdfOverlap octets at most, and what came behind them
	active bool
}

func (l *looked) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	*l.room -= n
	l.last = append(l.last, p[:n]...)
	if *l.room < 0 || pdfActive.Match(l.last) || pdfHiding.Match(l.last) || pdfPredict.Match(l.last) {
		l.active = true
		return 0, io.EOF
	}
	l.last = append(l.last[:0], l.last[max(0, len(l.last)-pdfOverlap):]...)
	return n, err
}
