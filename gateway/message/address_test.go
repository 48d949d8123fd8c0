package message

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"a@b.test":                 "a@b.test",
		"A.b+c@B.Test":             "A.b+c@b.test",
		"a@b.test.":                "a@b.test",
		`"a b"@d.test`:             `"a b"@d.test`,
		`"a\"b"@d.test`:            `"a\"b"@d.test`,
		`"simple"@d.test`:          "simple@d.test",
		`"victim@evil"@d.test`:     `"victim@evil"@d.test`,
		`"x> NOTIFY=NEVER y"@d.co`: `"x> NOTIFY=NEVER y"@d.co`,
		"a@[127.0.0.1]":            "a@[127.0.0.1]",
		"a@[IPv6:::1]":             "a@[IPv6:::1]",
		"victim%evil.test@d.test":  "victim%evil.test@d.test",
		"-oQ/tmp@d.test":           "-oQ/tmp@d.test",
		"":                         "",
		// refused
		"a@b@c.test": "!", "a": "!", "@": "!", "a@": "!", "@b": "!", "a b@c.test": "!", ".a@b": "!", "a.@b": "!", "a..b@c": "!",
		`"a@b`: "!", `"a"b@c`: "!", `"a\`: "!", "a@b\r": "!", "a\x00@b": "!", "a@-b": "!", "a@b.test..": "!", "a@b..c": "!", "a@[1.2.3]": "!", "a@[127.0.0.1": "!",
		"josé@d.test": "!", "a\xff@d": "!", "a\u0085@d": "!", "a@[fe80::1%lo]": "!",
		strings.Repeat("l", 65) + "@d.test":                         "!",
		"a@" + strings.Repeat(strings.Repeat("d", 60)+".", 5) + "t": "!",
	} {
		a, err := ParseAddress(in, false)
		got := a.String()
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", in, got, err, want)
		}
	}
	if a, err := ParseAddress("josé@élan.test", true); err != nil || a.String() != "josé@xn--lan-9la.test" {
		t.Errorf("SMTPUTF8: got %q, %v", a, err)
	}
}

// One domain has one name: a second one would miss the white list.
func TestParseDomainHasNoTrailingDot(t *testing.T) {
	for _, s := range []string{"d.test.", "d.test..", "d.test\u3002", "d.test\uff0e", "d.test\uff61."} {
		if d, err := ParseDomain(s); err == nil && d != "d.test" {
			t.Errorf("%q gives %q", s, d)
		}
	}
}

// Two signs of Unicode have an ASCII letter as their lower case. A mailbox written with one is not the one that the directory verified.
func TestAddressKeyMakesNoASCII(t *testing.T) {
	for written, key := range map[string]string{"Marc.DUPONT@X.test": "marc.dupont@x.test", "mar\u212a@x.test": "mar\u212a@x.test", "mart\u0130n@x.test": "mart\u0130n@x.test",
		"\u00c9LISE@x.test": "\u00e9lise@x.test"} {
		a, err := ParseAddress(written, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Key(); got != key {
			t.Errorf("%q: got %q, want %q", written, got, key)
		}
		if again, err := ParseAddress(key, true); err != nil || again.Key() != key {
			t.Errorf("%q: the key's key is %q (%v)", written, again.Key(), err)
		}
	}
}

func TestAddressLogValueHidesPerson(t *testing.T) {
	if got := (Address{"jean.dupont", "d.test"}).LogValue().String(); got != "*@d.test" {
		t.Errorf("got %q", got)
	}
}

// FuzzParseAddress: what was accepted comes out on one line, parses again to the same address, and cannot leave its brackets.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c.test`, `"\""@c`, "a@[IPv6:::1]", "é@é.fr"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		a, err := ParseAddress(s, utf8)
		if err != nil {
			return
		}
		out := a.String()
		if strings.ContainsAny(out, "\r\n\x00") {
			t.Fatalf("%q -> %q", s, out)
		}
		b, err := ParseAddress(out, utf8)
		if err != nil || b != a {
			t.Fatalf("%q -> %q -> %+v, %v; want %+v", s, out, b, err, a)
		}
		if strings.ContainsAny(a.Local, " >") && !strings.HasPrefix(out, `"`) {
			t.Fatalf("%q leaves without quotes: %q", s, out)
		}
	})
}
