package protect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

func header(t testing.TB, s string) message.Header {
	t.Helper()
	h, _, err := message.ReadHeader(message.BytesBody([]byte(crlf(s))), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestMark(t *testing.T) {
	key := [32]byte{1}
	fields := "From: Dr Martin\n <m@hopital.test>\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@hopital.test>\nSubject: x\n\n"
	h := header(t, fields)
	o := Origin{"trust", "peer CN=hopital.test,O=Hôpital  \"A; B\"", strings.Repeat("ab", 32), "professional, verified, extraction 2026-11-20, Médecin", "id1"}
	v, err := Mark(key, o, h, noon)
	if err != nil {
		t.Fatal(err)
	}
	with := func(mark, fields string) message.Header { return header(t, "X-Passerelle-Origine: "+mark+"\n"+fields) }
	folded := strings.ReplaceAll(v, "; ", ";\n\t")
	for name, c := range map[string]struct {
		h    message.Header
		key  [32]byte
		at   time.Time
		want error
	}{
		"ours":               {with(v, fields), key, noon, nil},
		"folded on the way":  {with(folded, strings.Replace(fields, "\n <", " <", 1)), key, noon, nil},
		"other fields added": {with(v, "Received: x\nX-Spam: no\n"+fields), key, noon.Add(29 * 24 * time.Hour), nil},
		"beside a forged":    {with("v1; trust; verified=x; id=1; t=1; mac=x\nX-Passerelle-Origine: "+v, fields), key, noon, nil},
		"without blanks":     {with(strings.ReplaceAll(v, "; ", ";"), fields), key, noon, nil},
		"v1 of it":           {with(strings.Replace(v, "v2", "v1", 1), fields), key, noon, ErrForged},
		"v3":                 {with(strings.Replace(v, "v2", "v3", 1), fields), key, noon, ErrForged},
		"other certificate":  {with(strings.Replace(v, "cert=ab", "cert=aa", 1), fields), key, noon, ErrForged},
		"no certificate":     {with(strings.Replace(v, "; cert="+o.Cert, "", 1), fields), key, noon, ErrForged},
		"a word added":       {with(strings.Replace(v, "; id=", "; sender=patient; id=", 1), fields), key, noon, ErrForged},
		"not verified now":   {with(strings.Replace(v, "verified, ext", "not listed, ext", 1), fields), key, noon, ErrForged},
		"old":                {with(v, fields), key, noon.Add(31 * 24 * time.Hour), ErrOldMark},
		"from the future":    {with(v, fields), key, noon.Add(-2 * time.Hour), ErrOldMark},
		"none":               {h, key, noon, ErrNoMark},
		"other key":          {with(v, fields), [32]byte{2}, noon, ErrForged},
		"other sender":       {with(v, strings.Replace(fields, "m@", "n@", 1)), key, noon, ErrForged},
		"other message":      {with(v, strings.Replace(fields, "<1@", "<2@", 1)), key, noon, ErrForged},
		"second From":        {with(v, "From: x@evil.test\n"+fields), key, noon, ErrForged},
		"other origin":       {with(strings.Replace(v, "trust", "patient", 1), fields), key, noon, ErrForged},
		"other words":        {with(strings.Replace(v, "hopital.test", "chu.test", 1), fields), key, noon, ErrForged},
		"other time":         {with(strings.Replace(v, "t=1", "t=2", 1), fields), key, noon, ErrForged},
		"moved semicolon":    {with(strings.Replace(v, "; id=", " id=", 1), fields), key, noon, ErrForged},
		"rubbish":            {with("yes", fields), key, noon, ErrForged},
	} {
		got, err := VerifyMark(c.key, c.h, c.at)
		if !errors.Is(err, c.want) || (c.want == nil || errors.Is(c.want, ErrOldMark)) != (got == o) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, c.want)
		}
	}
	for _, bad := range []Origin{{}, {Origin: "else"}, {Origin: "trust; verified=x"}} {
		if _, err := Mark(key, bad, h, noon); err == nil {
			t.Errorf("%+v was marked", bad)
		}
	}
	m := with(v, fields)
	if Strip(&m); m.Get(MarkField) != "" {
		t.Error("the mark is still there")
	}
}

// What a certificate or a directory says comes back as it was said, however hostile, or cut; it is one line, and never another field.
func TestMarkOfHostileValues(t *testing.T) {
	key := [32]byte{1}
	h := header(t, "From: a@b.test\nMessage-ID: <1@b.test>\n\n")
	for _, s := range []string{"a;b", "a; id=2; t=1", "a\r\nBcc: x@y.test", " a ", "a  b", "100%", "%3B", "é\x00\xff", "a=b; mac=c", "\u202etxt", strings.Repeat(";", 3000)} {
		v, err := Mark(key, Origin{Origin: FromTrust, Verified: s, Sender: s, Cert: s, ID: s}, h, noon)
		if err != nil || len(v) > 620 {
			t.Fatalf("%.20q: %v, %d octets", s, err, len(v))
		}
		field, err := message.FormatField(MarkField, v)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(field)) {
			if len(line) > 998 || strings.TrimSpace(line) == "" {
				t.Errorf("%.20q: line %q", s, line)
			}
		}
		marked := header(t, strings.ReplaceAll(string(field), "\r\n", "\n")+"From: a@b.test\nMessage-ID: <1@b.test>\n\n")
		if len(marked.Fields()) != 3 {
			t.Errorf("%.20q: %d fields", s, len(marked.Fields()))
		}
		got, err := VerifyMark(key, marked, noon)
		if err != nil || len(s) < 50 && (got.Verified != s || got.Sender != s) {
			t.Errorf("%.20q: got %+v, %v", s, got, err)
		}
	}
}

// A mark as it was written before v2 still speaks for its 30 days.
func TestMarkV1(t *testing.T) {
	key, at := [32]byte(bytes.Repeat([]byte{7}, 32)), time.Unix(1795435200, 0)
	h := header(t, `X-Passerelle-Origine: v1; trust; verified=peer CN=mx.hopital.example; id=abcdefgh; t=1795435200; mac=xAw3N54ulxquolHZNG4Jc-H3RzdxwGqroMsmdnqywdI
Message-ID: <1@hopital.example>
Date: Mon, 23 Nov 2026 12:00:00 +0000
From: Dr Martin <martin@hopital.example>

`)
	want := Origin{Origin: FromTrust, Verified: "peer CN=mx.hopital.example", ID: "abcdefgh"}
	if got, err := VerifyMark(key, h, at.Add(29*24*time.Hour)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := VerifyMark(key, h, at.Add(31*24*time.Hour)); !errors.Is(err, ErrOldMark) || got != want {
		t.Errorf("old: %+v, %v", got, err)
	}
}

// A notice's mark never hides that of a message: the law of the trust space reads the other.
func TestMarkOfNotice(t *testing.T) {
	key := [32]byte{1}
	const fields = "From: a@b.test\nMessage-ID: <1@b.test>\n\n"
	h := header(t, fields)
	n, _ := Mark(key, Origin{Origin: FromNotice, Verified: "peer"}, h, noon)
	v, _ := Mark(key, Origin{Origin: FromTrust, Verified: "peer"}, h, noon)
	for name, c := range map[string]struct {
		marks []string
		want  string
		err   error
	}{
		"alone": {[]string{n}, FromNotice, nil}, "first": {[]string{n, v}, FromTrust, nil}, "last": {[]string{v, n}, FromTrust, nil},
		"before a forged one": {[]string{n, "v2; trust; mac=x"}, FromNotice, nil}, "behind it": {[]string{"v2; trust; mac=x", n}, FromNotice, nil},
	} {
		var top string
		for _, m := range c.marks {
			top += MarkField + ": " + m + "\n"
		}
		if got, err := VerifyMark(key, header(t, top+fields), noon); got.Origin != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestLoopToken(t *testing.T) {
	if LoopToken("GW.clinic.test") != LoopToken("gw.clinic.test") || LoopToken("other.test") == LoopToken("gw.clinic.test") {
		t.Error("one token for each host name, however it is written")
	}
}

func TestTrace(t *testing.T) {
	env := &message.Envelope{Helo: "mx (x)\r\nBcc: y", Client: "10.0.0.1", Recipients: []message.Recipient{dest}}
	got := string(Trace(env, "gw.test", noon, "id7"))
	want := "Received: from mx__x___Bcc:_y (10.0.0.1)\r\n\tby gw.test with ESMTP id id7\r\n\tfor <a@dest.test>;\r\n\tMon, 23 Nov 2026 12:00:00 +0000\r\n"
	if got != want {
		t.Errorf("got %q", got)
	}
	env.Recipients = append(env.Recipients, dest)
	if got := Trace(env, "gw.test", noon, "id7"); bytes.Contains(got, []byte("dest.test")) {
		t.Errorf("names one of several recipients: %q", got)
	}
	env.Protocol = "LMTPS"
	if got := Trace(env, "gw.test", noon, "id7"); !bytes.Contains(got, []byte(" with LMTPS id id7")) {
		t.Errorf("does not say how it came: %q", got)
	}
}

func TestBounce(t *testing.T) {
	env := *envelope
	env.EnvID = "env\r\n1"
	never := dest
	never.Notify = []string{"NEVER"}
	failed := []Failure{
		{Recipient: dest, Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such\r\nuser", Hop: "mx.dest.test"},
		{Recipient: message.Recipient{Address: message.Address{Local: "b c", Domain: "dest.test"}, ORcpt: "rfc822;old@dest.test"}, Enhanced: [3]int{5, 7, 1}, Text: "refusé"},
		{Recipient: never, Code: 550},
	}
	original := header(t, head+"X-Long: "+strings.Repeat("y", 3000)+"\n\n")
	body, err := Bounce("gw.clinic.test", &env, failed, original, noon)
	if err != nil {
		t.Fatal(err)
	}
	out := all(t, body)
	for _, line := range bytes.Split(out, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
			t.Fatalf("line of %d octets", len(line))
		}
	}
	b, x := indexed(t, string(out))
	if x.Unclear != "" || len(x.Parts) != 4 || x.Parts[0].Params["report-type"] != "delivery-status" || x.Header.Get("Auto-Submitted") == "" {
		t.Fatalf("unclear %q, %d parts", x.Unclear, len(x.Parts))
	}
	status, _ := io.ReadAll(message.DecodePart(b, x.Parts[2]))
	want := crlf(`Reporting-MTA: dns; gw.clinic.test
Original-Envelope-Id: env  1
Arrival-Date: Mon, 23 Nov 2026 12:00:00 +0000

Final-Recipient: rfc822; a@dest.test
Action: failed
Status: 5.1.1
Remote-MTA: x-passerelle-hop; mx.dest.test
Last-Attempt-Date: Mon, 23 Nov 2026 12:00:00 +0000
Diagnostic-Code: smtp; 550 5.1.1 no such  user

Original-Recipient: rfc822;old@dest.test
Final-Recipient: rfc822; "b c"@dest.test
Action: failed
Status: 5.7.1
`)
	if string(status) != want {
		t.Errorf("status:\n%s", status)
	}
	headers, _ := io.ReadAll(message.DecodePart(b, x.Parts[3]))
	if x.Parts[3].Type != "text/rfc822-headers" || !bytes.Contains(headers, []byte("X-Check-Id: 42\r\n")) || !bytes.Contains(headers, []byte(strings.Repeat("y", 3000))) {
		t.Errorf("headers:\n%.500s", headers)
	}
	for name, f := range map[string]func() error{
		"null sender": func() error { _, err := Bounce("gw", &message.Envelope{}, failed, original, noon); return err },
		"never":       func() error { _, err := Bounce("gw", &env, failed[2:], original, noon); return err },
		"none":        func() error { _, err := Bounce("gw", &env, nil, original, noon); return err },
	} {
		if err := f(); !errors.Is(err, ErrNoBounce) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReport(t *testing.T) {
	dsn := "From: MAILER-DAEMON@clinic.test\nTo: a@dest.test\nSubject: Undelivered " + marker + "\nDate: x\nMessage-ID: <d@clinic.test>\nAuto-Submitted: auto-replied\n" +
		"Received: from poste-12.interne.test\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=r\n\n" +
		"This is a MIME-encapsulated message.\n\n--r\n\nsorry " + marker + "\n--r\nContent-Type: message/delivery-status\n\n" +
		"Reporting-MTA: dns; mx.clinic.test\nX-Postfix-Queue-ID: " + marker + "\n\nFinal-Recipient: rfc822; p@clinic.test\nAction: failed\nStatus: 5.1.1\n" +
		"Diagnostic-Code: smtp; 550 5.1.1 unknown\n user\n\n--r\nContent-Type: message/rfc822\n\nSubject: " + marker + "\n\n" + marker + "\n--r--\n"
	b, x := indexed(t, crlf(dsn))
	if x.Unclear != "" {
		t.Fatal(x.Unclear)
	}
	null := &message.Envelope{}
	got, err := Report(null, b, x)
	if err != nil {
		t.Fatal(err)
	}
	out := all(t, got)
	if how := leaks(out); how != "" {
		t.Errorf("readable: %s\n%s", how, out)
	}
	rb, rx := indexed(t, string(out))
	if rx.Unclear != "" || len(rx.Parts) != 3 {
		t.Fatalf("unclear %q, %d parts\n%s", rx.Unclear, len(rx.Parts), out)
	}
	status, _ := io.ReadAll(message.DecodePart(rb, rx.Parts[2]))
	if want := crlf("Reporting-MTA: dns; mx.clinic.test\n\nFinal-Recipient: rfc822; p@clinic.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 unknown user\n"); string(status) != want {
		t.Errorf("status %q", status)
	}
	mdn := strings.NewReplacer("delivery-status", "disposition-notification", "Action: failed", "Disposition: manual-action/MDN-sent-manually; displayed").Replace(dsn)
	b, x = indexed(t, crlf(mdn))
	if got, err = Report(null, b, x); err != nil || !bytes.Contains(all(t, got), []byte("Disposition: manual-action")) || leaks(all(t, got)) != "" {
		t.Errorf("reading report: %v", err)
	}
	for name, in := range map[string]string{"plain": head + "\nx", "no status": strings.Replace(dsn, "message/delivery-status", "text/plain", 1)} {
		b, x := indexed(t, crlf(in))
		if _, err := Report(null, b, x); !errors.Is(err, ErrNoReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, x = indexed(t, crlf(strings.TrimSuffix(dsn, "--r--\n")+marker))
	if got, err := Report(null, b, x); err != nil || x.Unclear == "" || leaks(all(t, got)) != "" {
		t.Errorf("returned message cut short: %v", err)
	}
	if _, err := Report(envelope, b, x); !errors.Is(err, ErrNoReport) {
		t.Errorf("with a sender: %v", err)
	}
}

// FuzzProtect: whatever comes in, the archive and the report hold no bytes of it in the clear, and nothing panics.
func FuzzProtect(f *testing.F) {
	for _, s := range shapes() {
		if len(s.text) < 10_000 {
			f.Add([]byte(crlf(s.text)))
		}
	}
	o := Options{Budget: message.NewBudget(64<<20, f.TempDir()), Now: func() time.Time { return noon }}
	f.Fuzz(func(t *testing.T, p []byte) {
		b := message.BytesBody(p)
		x, err := message.Parse(b, message.DefaultLimits)
		if err != nil {
			return
		}
		out, err := ZIP(ctx, envelope, b, x, dest, passphrase, o)
		if err != nil {
			t.Fatal(err)
		}
		ob, ox := indexed(t, string(all(t, out)))
		out.Close()
		if ox.Unclear != "" || len(ox.Parts) != 3 {
			t.Fatalf("outer is unclear: %s, %s", ox.Unclear, fmt.Sprintf("%.300q", all(t, ob)))
		}
		if r, err := Report(&message.Envelope{}, b, x); err == nil {
			if _, rx := indexed(t, string(all(t, r))); rx.Unclear != "" {
				t.Fatalf("report is unclear: %s", rx.Unclear)
			}
		}
	})
}

// RFC 6533: where the message came by SMTPUTF8 its header is returned as such, and an address with accents changes the status part.
func TestBounceInternational(t *testing.T) {
	env := *envelope
	env.SMTPUTF8 = true
	to := message.Recipient{Address: message.Address{Local: "zoé", Domain: "dest.test"}, ORcpt: "utf-8;zoé@dest.test"}
	body, err := Bounce("gw.clinic.test", &env, []Failure{{Recipient: to, Code: 553, Enhanced: [3]int{5, 6, 7}, Text: "x", Arrived: noon.Add(-time.Hour)}},
		header(t, "From: Zoé <m@clinic.test>\nSubject: été\n\n"), noon)
	if err != nil {
		t.Fatal(err)
	}
	b, x := indexed(t, string(all(t, body)))
	if x.Parts[2].Type != "message/global-delivery-status" || x.Parts[3].Type != "message/global-headers" {
		t.Errorf("parts %q and %q", x.Parts[2].Type, x.Parts[3].Type)
	}
	status, _ := io.ReadAll(message.DecodePart(b, x.Parts[2]))
	for _, want := range []string{"Original-Recipient: utf-8;zoé@dest.test\r\n", "Final-Recipient: utf-8; zoé@dest.test\r\n", "Arrival-Date: Mon, 23 Nov 2026 11:00:00 +0000\r\n"} {
		if !bytes.Contains(status, []byte(want)) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	headers, _ := io.ReadAll(message.DecodePart(b, x.Parts[3]))
	if !bytes.Contains(headers, []byte("Subject: été")) {
		t.Errorf("headers:\n%s", headers)
	}
}

// A header of a stranger may have tens of thousands of fields; each message is stripped.
func TestStripOfManyFields(t *testing.T) {
	h := header(t, strings.Repeat("a:\n", 60000)+"X-Passerelle-Origine: v1\n\n")
	began := time.Now()
	if !Strip(&h) || len(h.Fields()) != 60000 {
		t.Errorf("%d fields", len(h.Fields()))
	}
	Inside(h)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}
