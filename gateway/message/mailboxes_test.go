package message

import "testing"

func TestParseMailboxes(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a@x.test", "<a@x.test>"},
		{"Dr_Jean_MARTIN <a@X.test>", "Dr_Jean_MARTIN <a@x.test>"},
		{`"Martin, Jean" <a@x.test>`, `"Martin, Jean" <a@x.test>`},
		{"=?iso-8859-1?q?Ren=E9e?= <a@x.test>", "=?utf-8?q?Ren=C3=A9e?= <a@x.test>"},
		{"Groupe: a@x.test, B <b@y.test>;, c@z.test (d)", "<a@x.test>, B <b@y.test>, d <c@z.test>"},
		{"undisclosed-recipients:;", ""},
		{"", ""},
		{`"a b"@x.test`, `<"a b"@x.test>`},
		{"a@x.test, b@", "!"},
		{"a @@ b", "!"},
		{"=?x-none?q?=41?= <a@x.test>", "!"},
	} {
		got := ""
		list, err := ParseMailboxes(c.in)
		if err != nil {
			got = "!"
		}
		for i, m := range list {
			if i > 0 {
				got += ", "
			}
			got += m.String()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}
