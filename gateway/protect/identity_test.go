package protect

import (
	"bytes"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

func asDoctor() *Identity {
	names := NewNames([]string{"clinic.test", "clinïque.test", "srv-exch01"}, []string{"clinic.mss.test", "mss.clinic.test"})
	return &Identity{From: message.Mailbox{Name: "Dr_Jean_MARTIN", Address: message.Address{Local: "jean.martin", Domain: "clinic.mss.test"}},
		Known: func(a message.Address) (message.Address, bool) {
			known := map[string]string{"dr@clinic.test": "jean.martin", "sec@clinic.test": "cardio"}[a.Key()]
			return message.Address{Local: known, Domain: "clinic.mss.test"}, known != ""
		},
		Reachable: func(d string) bool { return d == "clinic.mss.test" || d == "dest.test" },
		Names:     names, IDs: NewIDs([32]byte{1}, names, "clinic.mss.test"), Keep: []string{"X-Dossier-*"}, ID: "<new@clinic.mss.test>", Host: "clinic.mss.test",
		Now: func() time.Time { return time.Unix(1_795_000_000, 0).UTC() }}
}

func trickHeader(t testing.TB, text string) message.Header {
	t.Helper()
	h, _, err := message.ReadHeader(message.BytesBody([]byte(strings.ReplaceAll(text, "\n", "\r\n")+"\r\n")), 1<<20)
	if err != nil {
		t.Skip()
	}
	return h
}

// tricks are headers of mail programs and of people who hide an address in one.
const tricks = `Received: from PC-MARTIN.clinic.test (pc [10.1.2.3]) by srv-exch01.clinic.test with ESMTPSA (Authenticated sender: dr@clinic.test)
	id 1; Mon, 23 Nov 2026 10:00:00 +0100
Return-Path: <dr@clinic.test>
Delivered-To: dr@clinic.test
X-Original-To: list@clinic.test
X-Sender: dr@clinic.test
X-Originating-IP: [10.1.2.3]
X-MS-Exchange-Organization-AuthSource: srv-exch01.clinic.test
Authentication-Results: mx.clinic.test; auth=pass smtp.mailfrom=dr@clinic.test
DKIM-Signature: v=1; d=clinic.test; s=x; h=from; b=AAAA
Autocrypt: addr=dr@clinic.test; keydata=AAAA
Resent-From: dr@clinic.test
Resent-To: sec@clinic.test
From: "Martin (dr@clinic.test)" <dr@clinic.test>
Sender: =?utf-8?q?Sec=40clinic=2Etest?= <sec@clinic.test>
Reply-To: dr@clinic.test, private@webmail.test, "x" <colleague@dest.test>
To: Groupe: dr@clinic.test, none@clinic.test, "a@clinic.test" <b@dest.test>;, Other
 <other@dest.test>
Cc: =?utf-8?b?c2VjQGNsaW5pYy50ZXN0?= <sec@CLINIC.test>, dr@clinic.test (x)
Cc: dr(x)@clinic.test, sec@clinic.test
Cc: dr@PC-MARTIN, dr@[10.1.2.3], dr@srv.local
Bcc: hidden@clinic.test
Bcc : hidden@clinic.test
Errors-To: bounce@clinic.test
Return-Receipt-To: dr@clinic.test
Disposition-Notification-To: <dr@clinic.test>
List-Unsubscribe: <mailto:list%40clinic%2Etest>
List-Id: <chirurgie.list.test>
Subject: =?utf-8?q?Vu_par_dr=40clini?= =?utf-8?q?c=2Etest?= et none@clinic.test
Date: Mon, 23 Nov 2026 10:00:00 +0100 (srv-exch01.clinic.test)
Message-ID: <abc@PC-MARTIN.clinic.test>
In-Reply-To: <q1@mail.dest.test> (message of dr@clinic.test)
References: <old@srv-exch01> <q1@mail.dest.test>
	<abc0@clinic.test>
MIME-Version: 1.0 (clinic.test)
Auto-Submitted: no (dr@clinic.test)
Content-Type: multipart/mixed; name="dr@clinic.test"; boundary="b1"
Content-Disposition: attachment; filename="clinic.test.pdf"
Content-Description: dr\@clinic\.test
Thread-Topic: pour dr@clinic。test
X-MSS-NIL: 3734
X-MSS-CODECDA: 34112-3 (clinic.test)
X-Dossier-Id: 4711
X-Dossier-From: dr@clinïque.test
X-Unknown: 1
`

func TestOutgoing(t *testing.T) {
	o := asDoctor()
	got := string(o.Outgoing(trickHeader(t, tricks)).Bytes())
	want := strings.ReplaceAll(`From: Dr_Jean_MARTIN <jean.martin@clinic.mss.test>
Reply-To: <jean.martin@clinic.mss.test>, x <colleague@dest.test>
To: <jean.martin@clinic.mss.test>, <b@dest.test>, Other <other@dest.test>
Cc: <cardio@clinic.mss.test>, x <jean.martin@clinic.mss.test>
Disposition-Notification-To: <jean.martin@clinic.mss.test>
List-Id: <chirurgie.list.test>
Subject: Vu par jean.martin@clinic.mss.test et ...
Date: Mon, 23 Nov 2026 10:00:00 +0100
Message-ID: ID1
In-Reply-To: <q1@mail.dest.test>
References: ID2
 <q1@mail.dest.test>
 ID3
MIME-Version: 1.0
Auto-Submitted: no
Content-Type: multipart/mixed; boundary=b1
Content-Disposition: attachment
X-MSS-NIL: 3734
X-Dossier-Id: 4711

`, "\n", "\r\n")
	for n, id := range map[string]string{"ID1": "<abc@PC-MARTIN.clinic.test>", "ID2": "<old@srv-exch01>", "ID3": "<abc0@clinic.test>"} {
		want = strings.ReplaceAll(want, n, o.IDs.Outside(id))
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := shows(got); s != "" {
		t.Errorf("shows %s", s)
	}
}

var shown = regexp.MustCompile(`(^|[^a-z0-9-])(clinic\.test|srv-exch01|clinïque\.test|xn--clinque-p2a\.test)($|[^a-z0-9-])`)

// shows reads a header as a curious stranger does, by means of its own: as it stands, unfolded, decoded.
func shows(header string) string {
	flat := strings.ReplaceAll(header, "\r\n", "")
	dec := mime.WordDecoder{}
	decoded, _ := dec.DecodeHeader(flat)
	percent, _ := url.PathUnescape(flat)
	for _, s := range []string{header, flat, decoded, percent, strings.ReplaceAll(flat, `\`, "")} {
		for _, line := range strings.Split(s, "\r\n") {
			line = boundaryParam.ReplaceAllString(strings.ToLower(line), "")
			line = strings.ReplaceAll(line, "mss.clinic.test", "") // public
			if m := shown.FindString(line); m != "" {
				return m
			}
		}
	}
	return ""
}

var boundaryParam = regexp.MustCompile(`boundary\*?[0-9]*\*?=("[^"]*"?|[^;\s]*)`)

func FuzzOutgoing(f *testing.F) {
	for _, l := range strings.Split(strings.ReplaceAll(strings.ReplaceAll(tricks, "\n ", "\x00 "), "\n\t", "\x00\t"), "\n") {
		f.Add(strings.ReplaceAll(l, "\x00", "\n") + "\n")
	}
	f.Add(tricks)
	f.Add("From: a@clinic.test\nFrom: b@clinic.test\nTo: \"a\\\"b\" <dr@clinic.test>, =?x?q?clinic.test?= <x@y.test>\n")
	f.Add("Content-Type: a/b; n*0=\"clin\"; n*1=\"ic.test\"\nContent-Type: text/plain; charset=\"clinic.test\n")
	f.Add("Subject: =?utf-8?q?clinic=2Etest\nSubject: =?utf-8?b?Y2xpbmljLnRlc3Q=?=\nSubject: cli\u00adnic.test\n")
	f.Add("Content-TYpe:CliniC.test\n")
	f.Add("Message-ID: <a@[10.0.0.1]>\nReferences: <clinic.test\n")
	o := asDoctor()
	f.Fuzz(func(t *testing.T, text string) {
		out := o.Outgoing(trickHeader(t, text))
		raw := string(out.Bytes())
		if s := shows(raw); s != "" {
			t.Errorf("shows %q in\n%q", s, raw)
		}
		if n := len(out.Values("From")); n != 1 || out.Get("From") != "Dr_Jean_MARTIN <jean.martin@clinic.mss.test>" {
			t.Errorf("From: %q", out.Values("From"))
		}
		if again := string(o.Outgoing(out).Bytes()); again != raw { // what passed once passes
			t.Errorf("not settled:\n%q\n%q", raw, again)
		}
		for _, line := range strings.SplitAfter(raw, "\n") {
			if !strings.HasSuffix(line, "\r\n") && strings.HasSuffix(line, "\n") && !strings.Contains(text, "\n") {
				t.Errorf("a bare line end: %q", line)
			}
		}
	})
}

// A word in a charset that is not known hides nothing of the words beside it, nor itself: readers show what they can.
func TestUnknownCharsetHidesNothing(t *testing.T) {
	names := NewNames([]string{"clinic.test"}, nil)
	for _, s := range []string{"=?x-none?q?a?= =?utf-8?b?ZHJAY2xpbmljLnRlc3Q=?=", "=?x-none?b?ZHJAY2xpbmljLnRlc3Q=?="} {
		if !names.In(s) {
			t.Errorf("%s shows nothing", s)
		}
	}
}

// What leaves under another id comes back under its own, on both sides; nobody else's token is taken.
func TestIDs(t *testing.T) {
	x := asDoctor().IDs
	other := NewIDs([32]byte{2}, x.names, x.host)
	for _, id := range []string{"<abc@PC.clinic.test>", "<a@PC-MARTIN>", "<a@x.local>", "<no-at>", "<a@[10.0.0.1]>", "<clinic.test.1@gmail.test>"} {
		out := x.Outside(id)
		if out == id || shows(out) != "" || x.Outside(id) != out || x.Inside(out) != id || x.Outside(out) != out || other.Inside(out) == id {
			t.Errorf("%s left as %s, came back as %s", id, out, x.Inside(out))
		}
		if spoilt := strings.Replace(out, "@", "0@", 1); x.Inside(spoilt) == id {
			t.Errorf("%s was taken for %s", spoilt, id)
		}
	}
	for _, id := range []string{"<a@dest.test>", "<a@clinic.mss.test>", "<a@PC-DUPONT>", "<a@srv.lan>", "<p1.aaaa@clinic.mss.test>"} { // of the other side
		in := x.Inside(id)
		if in != x.Theirs(id) || x.Outside(in) != id {
			t.Errorf("%s is known as %s and leaves as %s", id, in, x.Outside(in))
		}
	}
	long := "<" + strings.Repeat("a", 900) + "@clinic.test>"
	if out := x.Outside(long); len(out) > 100 || out != x.Outside(long) || shows(out) != "" {
		t.Errorf("a long id left as %s", out)
	}
}

func TestIncoming(t *testing.T) {
	o := asDoctor()
	internal := func(a message.Address) (message.Address, bool) {
		return message.Address{Local: "dr", Domain: "clinic.test"}, a.Key() == "jean.martin@clinic.mss.test"
	}
	was := "From: Peer <p@dest.test>\nTo: \"Dr, Martin\" <Jean.Martin@clinic.mss.test>, other@dest.test\nCc: x@dest.test\nMessage-ID: <m@PC-DUPONT>\n" +
		"In-Reply-To: " + o.IDs.Outside("<abc@clinic.test>") + "\nReferences: <r@dest.test>\n " + o.IDs.Outside("<abc@clinic.test>") + "\nX-Odd:  1\n"
	h := trickHeader(t, was)
	if !Incoming(&h, internal, o.IDs) {
		t.Error("nothing changed")
	}
	got := strings.ReplaceAll(string(h.Bytes()), "\r\n", "\n")
	theirs := o.IDs.Theirs("<m@PC-DUPONT>")
	want := "From: Peer <p@dest.test>\nTo: \"Dr, Martin\" <dr@clinic.test>, <other@dest.test>\nCc: x@dest.test\nMessage-ID: " + theirs +
		"\nIn-Reply-To: <abc@clinic.test>\nReferences: <r@dest.test> <abc@clinic.test>\nX-Odd:  1\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	untouched := trickHeader(t, "From: Peer <p@dest.test>\nTo:  x@dest.test ,\n\ty@dest.test\nMessage-ID:  <m@dest.test>\nReferences: <a@dest.test>\n\t<b@dest.test>\n")
	before := string(untouched.Bytes())
	if Incoming(&untouched, internal, o.IDs) || string(untouched.Bytes()) != before {
		t.Error("changed what names nobody of ours")
	}
}

func TestIdentityReport(t *testing.T) {
	const mdn = `From: dr@clinic.test
To: peer@dest.test
Subject: =?utf-8?q?[KO Int=C3=A9gration syst=C3=A8me !][902] XDM/1.0/DDM+X?=
Message-ID: <mdn@PC-MARTIN>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b
Content-Type: text/plain

dr@clinic.test a ouvert le message sur PC-MARTIN
--b
Content-Type: message/disposition-notification

Reporting-UA: PC-MARTIN.clinic.test; Outlook
Original-Recipient: rfc822;jean.martin@clinic.mss.test
Final-Recipient: rfc822; none@clinic.test
Original-Message-ID: ORIGINAL
Disposition: automatic-action/MDN-sent-automatically; processed/Error: 902
Error: 902 patient inconnu
X-Extension: dr@clinic.test

--b
Content-Type: message/rfc822

Received: from srv-exch01 by clinic.test; Mon, 23 Nov 2026 10:00:00 +0100
From: Peer <peer@dest.test>
To: dr@clinic.test
Subject: XDM/1.0/DDM+X
Message-ID: ORIGINAL

secret dr@clinic.test
--b--
`
	o := asDoctor()
	theirs := o.IDs.Theirs("<q@SRV-PEER>")
	raw := strings.ReplaceAll(strings.ReplaceAll(mdn, "ORIGINAL", theirs), "\n", "\r\n")
	body := message.BytesBody([]byte(raw))
	x, err := message.Parse(body, message.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.Report(body, x)
	if err != nil {
		t.Fatal(err)
	}
	got := out.Peek(0)
	for _, want := range []string{"From: Dr_Jean_MARTIN <jean.martin@clinic.mss.test>", "902", "Reporting-UA: clinic.mss.test\r\n", "Final-Recipient: rfc822; jean.martin@clinic.mss.test\r\n",
		"Original-Recipient: rfc822;jean.martin@clinic.mss.test\r\n", "Original-Message-ID: <q@SRV-PEER>\r\n", "Message-ID: <q@SRV-PEER>\r\n", "processed/Error: 902\r\nError: 902 patient inconnu", "To: <jean.martin@clinic.mss.test>"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("lacks %q", want)
		}
	}
	if s := shows(string(got)); s != "" || bytes.Contains(got, []byte("MARTIN\r")) || bytes.Contains(got, []byte("PC-MARTIN")) || bytes.Contains(got, []byte("secret")) {
		t.Errorf("shows %s", s)
	}
	again, err := message.Parse(out, message.DefaultLimits)
	if err != nil || again.Unclear != "" || len(again.Parts) != 4 {
		t.Errorf("read again: %v %+v", err, again)
	}
	if t.Failed() {
		t.Logf("%s", got)
	}
	if _, err := o.Report(message.BytesBody([]byte("Subject: x\r\n\r\n")), &message.Index{Parts: []message.Part{{Type: "text/plain"}}}); err == nil {
		t.Error("a letter was taken for a report")
	}
}

// No header of a stranger's making costs more than a moment, or grows beyond measure.
func TestOutgoingIsNoSlower(t *testing.T) {
	o := asDoctor()
	for name, s := range map[string]string{
		"addresses": "To: " + strings.Repeat("dr@clinic.test, ", 15_000) + "x@y.test\n",
		"words":     "Subject: " + strings.Repeat("=?utf-8?q?a?= ", 18_000) + "\n",
		"thread":    "References: " + strings.Repeat("<a@clinic.test> ", 15_000) + "\n",
		"fields":    strings.Repeat("Subject: a@clinic.test\n", 11_000),
		"open":      "References: " + strings.Repeat("<", 250_000) + "\n",
		"names":     "X-MSS-A: " + strings.Repeat("clinic.mss.test.srv-exch01.", 9000) + "clinic.mss.test\n",
		"public":    "X-MSS-A: " + strings.Repeat("mss.clinic.test.", 16_000) + "mss.clinic.test\n",
		"params":    "Content-Type: a/b; " + strings.Repeat("a=b; ", 40_000) + "\n",
		"comment":   "To: " + strings.Repeat("(", 250_000) + "\n",
	} {
		start := time.Now()
		n := len(o.Outgoing(trickHeader(t, s)).Bytes())
		if took := time.Since(start); took > 30*time.Second || n > 300<<10 {
			t.Errorf("%s: %v, %d octets", name, took, n)
		}
	}
}

func BenchmarkOutgoing(b *testing.B) {
	o := asDoctor()
	h := trickHeader(b, tricks)
	for b.Loop() {
		o.Outgoing(h)
	}
}

// A report does not say where else somebody of the clinic has his mail sent to.
func TestReportHidesForwarding(t *testing.T) {
	o := asDoctor()
	for final, want := range map[string]string{"rfc822; prive@gmail.test": "rfc822; jean.martin@clinic.mss.test", "rfc822; peer@dest.test": "rfc822; peer@dest.test"} {
		if got := o.recipient("final-recipient", final); got != want {
			t.Errorf("%s: %s", final, got)
		}
	}
}
