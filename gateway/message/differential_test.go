package message

import "testing"

// A boundary that readers unquote or clean apart must not let one of them see parts that we do not.
func TestBoundaryReadApart(t *testing.T) {
	for name, c := range map[string]struct{ param, ours, theirs string }{
		"escape":        {`"a\b"`, `a\b`, "ab"},
		"double":        {`"a\\b"`, `a\b`, `a\\b`},
		"quote":         {`"a\"b"`, `a"b`, `a\"b`},
		"direction":     {"\"a\u202eb\"", "ab", "a\u202eb"},
		"8-bit":         {"\"a\xe9b\"", "a\u00e9b", "a\xe9b"},
		"control":       {"\"a\x01b\"", "ab", "a\x01b"},
		"not in quotes": {"a\u202eb", "ab", "a\u202eb"},
	} {
		_, x := parse(t, crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="+c.param+"\n\n--"+c.ours+"\nContent-Type: text/plain\n\nhello\n--"+
			c.theirs+"\nContent-Type: application/pdf; name=x.pdf\n\npdf\n--"+c.theirs+"--\n--"+c.ours+"--\n"))
		if x.Unclear == "" {
			t.Errorf("%s: taken for clear: %s", name, outline(x))
		}
	}
}
