package protect

import (
	"testing"
	"time"

	"passerelle/gateway/message"
)

// The outer header says what the fields mean, and nothing else that stands in them.
func TestOuterIsWrittenAnew(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"From", "Dr Martin <m@clinic.test>", "Dr Martin <m@clinic.test>"},
		{"From", "=?utf-8?Q?L=C3=A9a?= <m@clinic.test>", "=?utf-8?q?L=C3=A9a?= <m@clinic.test>"},
		{"From", "L\xe9a <m@clinic.test>", "=?utf-8?q?L=C3=A9a?= <m@clinic.test>"},
		{"From", `"Martin, Dr (chef)" <m@clinic.test>`, `"Martin, Dr (chef)" <m@clinic.test>`},
		{"From", "m@clinic.test (secret)", "<m@clinic.test>"},
		{"From", "(a(b)\\)c) Dr <m@clinic.test> (d", "Dr <m@clinic.test>"},
		{"From", "secret", "<m@clinic.test>"}, // the envelope's
		{"From", "", "<m@clinic.test>"},
		{"Reply-To", "secret <r@clinic.test>, s@clinic.test", "<r@clinic.test>, <s@clinic.test>"},
		{"Reply-To", "secret", ""},
		{"Date", "Mon, 23 Nov 2026 11:00:00 +0100 (secret)", "Mon, 23 Nov 2026 11:00:00 +0100"},
		{"Date", "secret", "Mon, 23 Nov 2026 12:00:00 +0000"},
		{"Message-ID", "(secret) <1@clinic.test> secret", "<1@clinic.test>"},
		{"Message-ID", "secret", ""},
		{"References", "<1@a>\r\n\tsecret <2@b>", "<1@a> <2@b>"},
		{"In-Reply-To", "your secret of Monday <1@a>", "<1@a>"},
	} {
		o := options(t)
		o.Now = func() time.Time { return noon }
		h, _, err := message.ReadHeader(message.BytesBody([]byte(c.name+": "+c.in+"\r\n\r\n")), 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		out := outer(envelope, h, dest, o)
		if got := out.Get(c.name); got != c.want {
			t.Errorf("%s: %q leaves as %q, want %q", c.name, c.in, got, c.want)
		}
	}
}
