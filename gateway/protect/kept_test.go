package protect

import (
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// TestKept: globs as docs/formats/marks.md words them; no glob is wide enough for a field that tells something.
func TestKept(t *testing.T) {
	const raw = "Received: inner\r\nX-Dossier-Id: 1\r\nx-dossier-service: 2\r\nX-Check-Id: 3\r\nSubject: s\r\nBcc: b@c.test\r\nContent-Type: text/plain\r\n" +
		"X-Passerelle-Origine: v1\r\nX-Passerelle-Opposition: non\r\nReferences: <1@c.test>\r\n\r\n"
	h, _, err := message.ReadHeader(message.BytesBody([]byte(raw)), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ keep, want string }{
		{"", ""}, {"X-Check-Id", "3"}, {"x-DOSSIER-*", "1 2"}, {"X-Dossier-I?", "1"}, {"*", "1 2 3"}, {"Subject", ""}, {"[", ""}, {"X-*,X-Check-Id", "1 2 3"},
	} {
		var got []string
		for _, f := range Kept(h, strings.Split(c.keep, ",")) {
			got = append(got, f.Value())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("keep %q: got %q, want %q", c.keep, got, c.want)
		}
	}
}
