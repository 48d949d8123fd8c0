package smtpd

import (
	"strings"
	"testing"

	"passerelle/gateway/message"
)

// The library unquotes local parts, so that what it gives means something else in the next MAIL or RCPT.
func TestLibraryUnquotesAddresses(t *testing.T) {
	b := bare(t, nil)
	c := hello(t, b.addr)
	c.want(250, "MAIL FROM:a@b.test")
	for _, r := range []string{`<"x> NOTIFY=NEVER y"@d.test>`, `<"victim@evil"@d.test>`, `<u@d@e.test>`, "<a\x01b@d.test>", "<jos\u00e9@d.test>", "<a@-b>"} {
		c.want(250, "RCPT TO:"+r)
	}
	c.want(501, "RCPT TO:<postmaster>")
	c.want(250, `RCPT TO:<x@d.test> ORCPT=utf-8;a\x{01}b`)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rcpts[0] != "x> NOTIFY=NEVER y@d.test" || !strings.Contains(b.orcpt[6], "\x01") {
		t.Errorf("companion: the bare library gives %q %q now", b.rcpts, b.orcpt)
	}
}

func TestAddresses(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.want(250, "MAIL FROM:<>")
	want := map[string]message.Address{
		`<"a b"@d.test>`:               {Local: "a b", Domain: "d.test"},
		`<"x> NOTIFY=NEVER y"@d.test>`: {Local: "x> NOTIFY=NEVER y", Domain: "d.test"},
		`<"victim@evil"@d.test>`:       {Local: "victim@evil", Domain: "d.test"},
		`<"q"@d.test> NOTIFY=NEVER`:    {Local: "q", Domain: "d.test"},
		`<"\"<"@d.test>`:               {Local: `"<`, Domain: "d.test"},
		`<@evil.test:b@D.test>`:        {Local: "b", Domain: "d.test"},
		`<@evil.test,@x.test:b@d.co>`:  {Local: "b", Domain: "d.co"},
		` <c@d.test.>`:                 {Local: "c", Domain: "d.test"},
		`<postmaster>`:                 {Local: "postmaster"},
		`<Postmaster> NOTIFY=FAILURE`:  {Local: "Postmaster"},
		`<a%b!c@d.test>`:               {Local: "a%b!c", Domain: "d.test"},
		`<a@[127.0.0.1]>`:              {Local: "a", Domain: "[127.0.0.1]"},
		`<a@[IPv6:::1]>`:               {Local: "a", Domain: "[IPv6:::1]"},
	}
	order := []string{}
	for path := range want {
		c.want(250, "RCPT TO:"+path)
		order = append(order, path)
	}
	for _, path := range []string{
		"a@d.test", "<a@b@d.test>", "<>", "< >", "<a>", "<@>", "<@evil.test>", "<a b@d.test>", "<a@d.test", "<a@d.test>>", "<a@d.test>x", "<jos\u00e9@d.test>", "<a@\u0441linic.test>",
		`<"a@d.test>`, `<a"b"@d.test>`, "<.a@d.test>", "<a;b@d.test>", "<a@-b>", "<" + strings.Repeat("l", 65) + "@d.test>", "<a@d.test> NOTIFY=NEVER NOTIFY=SUCCESS",
		"<a@d.test> X=1", "<a@d.test> NOTIFY=MAYBE", `<a@d.test> ORCPT=utf-8;a\x{01}b`, "<a@d.test> ORCPT=rfc822;a+0Db", "<a@d.test> ORCPT=rfc822;\u00e9", "<postmaster> NOTIFY=X",
	} {
		c.send("RCPT TO:" + path + "\r\n")
		if code, text := c.reply(); code < 500 || code > 559 {
			t.Errorf("%q: got %q, want a refusal", path, text)
		}
		c.want(250, "NOOP") // still in step
		c = s.again(c, order)
	}
	c.want(354, "DATA")
	c.send("Subject: x\r\n\r\n.\r\n")
	c.expect(250)
	got := s.got()[0].env
	if !got.Sender.IsNull() {
		t.Errorf("sender %v", got.Sender)
	}
	for i, path := range order {
		r := got.Recipients[i]
		if r.Address != want[path] {
			t.Errorf("%s: got %+v, want %+v", path, r.Address, want[path])
		}
		if !strings.Contains(path, "<"+r.Raw+">") {
			t.Errorf("%s: raw is %q", path, r.Raw)
		}
	}
}

// again begins a new session with the same envelope, so that the limit of faults stays out of the way.
func (r *running) again(old *client, order []string) *client {
	old.t.Helper()
	old.want(221, "QUIT")
	c := hello(old.t, r.addr)
	c.want(250, "MAIL FROM:<>")
	for _, path := range order {
		c.want(250, "RCPT TO:"+path)
	}
	return c
}

func TestEnvelopeParameters(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.want(250, "MAIL FROM:<jos\u00e9@\u00e9lan.test> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=a+2Bb SIZE=100")
	c.want(250, "RCPT TO:<b@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bx@d.test")
	c.want(250, "RCPT TO:<jos\u00e9@d.test>")
	c.want(354, "DATA")
	c.send("Subject: x\r\n\r\n.\r\n")
	c.expect(250)
	e := s.got()[0].env
	if e.Sender.Local != "jos\u00e9" || !e.SMTPUTF8 || !e.EightBit || e.Ret != "HDRS" || e.EnvID != "a+b" || e.ID != "id1" || e.Helo != "client.test" || e.Client != "127.0.0.1" {
		t.Errorf("got %+v", e)
	}
	if r := e.Recipients[0]; strings.Join(r.Notify, ",") != "SUCCESS,DELAY" || r.ORcpt != "rfc822;old+x@d.test" {
		t.Errorf("got %+v", r)
	}
	for param, code := range map[string]int{"FROBNICATE=1": 555, "BODY=NONSENSE": 501, "BODY=BINARYMIME": 555, "RET=X": 501, "SIZE=1 SIZE=2": 501, "ENVID=\u00e9": 501} {
		c.want(code, "MAIL FROM:<a@b.test> "+param)
	}
	c.want(553, "MAIL FROM:<jos\u00e9@d.test>")
}

// RFC 3461 section 4.2: an original recipient may have an address of any registered type; the library refuses all but two.
func TestORcptOfAnyType(t *testing.T) {
	b := bare(t, nil)
	lib := hello(t, b.addr)
	lib.want(250, "MAIL FROM:<a@b.test>")
	lib.want(501, "RCPT TO:<a@d.test> ORCPT=x400;/C=FR/")
	s := start(t, nil)
	c := hello(t, s.addr)
	c.want(250, "MAIL FROM:<a@b.test>")
	want := map[string]string{
		"<a@d.test> ORCPT=x400;/C+3DFR/ADMD+3Datlas/+20x": "x400;/C=FR/ADMD=atlas/ x",
		"<b@d.test> NOTIFY=NEVER ORCPT=X-OTHER;50%25+2B":  "x-other;50%25+",
		"<c@d.test> ORCPT=unknown;a NOTIFY=NEVER":         "unknown;a",
		`<"x ORCPT=x400;y"@d.test>`:                       "",
		"<postmaster> ORCPT=x400;/G+3DPost/":              "x400;/G=Post/",
		"<d@d.test> orcpt=rfc822;a+2Bb@d.test":            "rfc822;a+b@d.test",
	}
	var order []string
	for path := range want {
		c.want(250, "RCPT TO:"+path)
		order = append(order, path)
	}
	for _, path := range []string{"x400;", ";a", "x400;a=b", "x400;a+0Db", "x400;a+b", "x400;a+2b", "x400;\u00e9", "x400", "x400;a ORCPT=x400;b"} {
		c.want(501, "RCPT TO:<a@d.test> ORCPT="+path)
	}
	c.send("RCPT TO:<a@d.test> ORCPT=x 400;a\r\n")
	if code, text := c.reply(); code != 501 && code != 555 { // two faults: the library names either first
		t.Errorf("ORCPT=x 400;a: got %d %q", code, text)
	}
	c.want(354, "DATA")
	c.send("Subject: x\r\n\r\n.\r\n")
	c.expect(250)
	for i, r := range s.got()[0].env.Recipients {
		if path := order[i]; r.ORcpt != want[path] {
			t.Errorf("%s: got %q, want %q", path, r.ORcpt, want[path])
		}
	}
}

// FuzzReadPath: a path that is accepted is one that the library reads alike, and its parameters hold no second address.
func FuzzReadPath(f *testing.F) {
	for _, s := range []string{"TO:<a@b>", `TO:<"a>b"@c> NOTIFY=NEVER`, "TO:<@a:b@c>", "TO:<postmaster>"} {
		f.Add(s, "a@b", true)
	}
	f.Fuzz(func(t *testing.T, arg, lib string, utf8 bool) {
		a, raw, no := readPath(arg, "TO:", lib, utf8, errRecipient)
		if no != nil {
			return
		}
		if a.Domain == "" && !strings.EqualFold(raw, "postmaster") || !strings.Contains(arg, "<"+raw+">") {
			t.Fatalf("%q: got %+v, raw %q", arg, a, raw)
		}
		if a.Domain != "" && !strings.HasPrefix(lib, a.Local+"@") {
			t.Fatalf("%q: read %+v, the library %q", arg, a, lib)
		}
	})
}
