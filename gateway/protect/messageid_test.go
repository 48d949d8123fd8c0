package protect

import (
	"strings"
	"testing"
)

// A value that is one id and nothing else is given without the expression; both must say the same of whatever a stranger wrote.
func FuzzMessageID(f *testing.F) {
	for _, v := range []string{"<a@b.test>", "", "<>", "<a", "a>", "<a b>", "<a\tb>", "<a\vb>", "<a\u00a0b>", "<\xff>", "<a><b>", "<a>>", "<<a>", "x <a@b> y", "<a@b>\r\n", `<a\b>`, `<"a"@b>`, "<a,b>", "<(c)>",
		"<" + strings.Repeat("a", 500) + ">", "<" + strings.Repeat("a", 501) + ">", "<" + strings.Repeat("é", 251) + ">"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		want := ""
		if ids := messageID.FindAllString(v, -1); len(ids) > 0 {
			want = ids[len(ids)-1]
		}
		if got := messageIDs(v, 1); got != want {
			t.Errorf("id of %q: %q, want %q", v, got, want)
		}
	})
}
