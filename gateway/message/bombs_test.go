package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBombs: what is written to keep an index busy or to fill memory takes no more time than its bytes, and is not kept.
func TestBombs(t *testing.T) {
	const size = 2 << 20
	lines := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var nested, closing strings.Builder
	for i := range 49 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=x%02dy\r\n\r\n--x%02dy\r\n", i, i)
		fmt.Fprintf(&closing, "\r\n--x%02dy--\r\n", 48-i)
	}
	pieces, names := "Content-Type: text/plain", "Content-Type: text/plain"
	for i := range 18_000 {
		pieces += fmt.Sprintf(";n*%d=a", i)
		names += fmt.Sprintf(";n%d*=''a", i)
	}
	uu := "begin 644 x\r\n" + strings.Repeat("#86)C\r\n", size/7) + "`\r\nend\r\n"
	for name, raw := range map[string]string{
		"dashes in a text":      "Subject: x\r\n\r\n" + lines("--\r\n"),
		"nearly boundaries":     nested.String() + "\r\n" + lines("--x\r\n") + closing.String(),
		"lines of a boundary":   nested.String() + "\r\n" + lines("--x00y z\r\n") + closing.String(),
		"parts without an end":  "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + lines("--b\r\n"),
		"messages in messages":  lines("Content-Type: message/rfc822\r\n\r\n"),
		"one line":              "Subject: x\r\n\r\n" + lines("x"),
		"carriage returns":      "Subject: x\r\n\r\n" + lines("\r"),
		"18 000 pieces":         pieces + "\r\n\r\nx",
		"18 000 parameters":     names + "\r\n\r\nx",
		"comments":              "Content-Type: text/plain " + strings.Repeat("(", 200_000) + "\r\n\r\nx",
		"headers of parts":      "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + lines("--b\r\nX: "+strings.Repeat("y", 200_000)+"\r\n\r\nx\r\n"),
		"uuencode, three bytes": "Subject: x\r\n\r\n" + uu,
		"uuencode, no end":      "Subject: x\r\n\r\n" + lines("begin 644 x\r\n"),
		"tnef of nothing":       winmail(append([]byte("\x78\x9f\x3e\x22\x01\x00"), bytes.Repeat([]byte{1, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, 500_000)...)),
	} {
		began := time.Now()
		b := BytesBody([]byte(raw))
		x, err := Parse(b, DefaultLimits)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if x.Weight > 2<<20 || len(x.Parts) > DefaultLimits.Parts {
			t.Errorf("%s: an index of %d bytes, %d parts", name, x.Weight, len(x.Parts))
		}
		budget := NewBudget(64<<20, t.TempDir())
		u, _ := Unpack(b, x, budget)
		u.Close()
		if n := budget.Used(); n != 0 {
			t.Errorf("%s: %d bytes of the budget are kept", name, n)
		}
		if took := time.Since(began); took > 40*time.Second { // a tenth of a second each on an idle core; fifty times that was seen under -race on a busy one
			t.Errorf("%s: took %s", name, took)
		} else if testing.Verbose() {
			t.Logf("%s: %s", name, took)
		}
	}
}
