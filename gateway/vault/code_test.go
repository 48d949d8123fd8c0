package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"

	"go.uber.org/goleak"
)

func (h *house) wrong(code string) string {
	if code[0] == '9' {
		return "0" + code[1:]
	}
	return "9" + code[1:]
}

func TestWrongCodesLockThenVoidAndNeverDestroy(t *testing.T) {
	var told string
	h := open(t, func(c *Config) {
		c.ToSender = func(_ context.Context, to message.Address, b *message.Body) error {
			told = string(b.Peek(0))
			return nil
		}
	})
	d := h.deposit(t, "")
	link, bad := secretOf(d), h.wrong(d.Code)
	for n := 1; n <= 20; n++ {
		h.now = h.now.Add(20 * time.Second)
		_, err := h.Prove(t.Context(), link, bad, home)
		switch {
		case n == 20:
			want(t, err, CodeVoid)
		case n%5 == 0:
			want(t, err, Locked)
			_, err = h.Prove(t.Context(), link, d.Code, home)
			want(t, err, Locked) // also the right one
			h.now = h.now.Add(lockStep << (n/5 - 1))
		default:
			want(t, err, WrongCode)
		}
	}
	h.now = h.now.Add(time.Minute)
	_, err := h.Prove(t.Context(), link, d.Code, home)
	want(t, err, CodeVoid)
	if err := h.SendCode(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	i := strings.Index(told, "\r\n    ")
	if i < 0 {
		t.Fatalf("%s", told)
	}
	s, err := h.Prove(t.Context(), link, told[i+6:i+13], home)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Open(t.Context(), link, s)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestGuessesAreSlowedPerLinkAndRange(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	for range codeBurst - 1 {
		h.Prove(t.Context(), secretOf(d), h.wrong(d.Code), home)
	}
	h.now = h.now.Add(time.Second)
	h.Prove(t.Context(), secretOf(d), d.Code, home)
	_, err := h.Prove(t.Context(), secretOf(d), d.Code, netip.MustParseAddr("203.0.113.1"))
	want(t, err, SlowDown)
	for i := range peerBurst {
		h.Prove(t.Context(), secretOf(h.deposit(t, "")), "000000", netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	e := h.deposit(t, "")
	_, err = h.Prove(t.Context(), secretOf(e), e.Code, netip.MustParseAddr("192.0.2.200"))
	want(t, err, SlowDown)
	if _, err = h.Prove(t.Context(), secretOf(e), e.Code, home); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoCodeIsNoGuess(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "")
	for range 100 {
		_, err := h.Prove(t.Context(), secretOf(d), "", home)
		want(t, err, WrongCode)
	}
	if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
		t.Fatal(err)
	}
}

func TestLastTwoCodesAreValidFor15Minutes(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "0612341234")
	link := secretOf(d)
	var codes []string
	for range 3 {
		if err := h.SendCode(t.Context(), link); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, h.sms.code())
		h.now = h.now.Add(time.Minute)
	}
	_, err := h.Prove(t.Context(), link, codes[0], home)
	want(t, err, WrongCode)
	for _, c := range codes[1:] {
		if _, err := h.Prove(t.Context(), link, c, home); err != nil {
			t.Fatal(err)
		}
	}
	h.now = h.now.Add(13 * time.Minute) // the second is 15 minutes old, the third 14
	_, err = h.Prove(t.Context(), link, codes[1], home)
	want(t, err, WrongCode)
	if _, err := h.Prove(t.Context(), link, codes[2], home); err != nil {
		t.Fatal(err)
	}
}

func TestCodesAreLimitedPerLinkNumberAndDay(t *testing.T) {
	h := open(t)
	a, b := h.deposit(t, "0612341234"), h.deposit(t, "+33 6 12 34 12 34")
	for range perQuick {
		if err := h.SendCode(t.Context(), secretOf(a)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, h.SendCode(t.Context(), secretOf(a)), Limited)
	want(t, h.SendCode(t.Context(), secretOf(b)), Limited) // the same number
	for len(h.sms.text) < perDay {
		h.now = h.now.Add(quick)
		if err := h.SendCode(t.Context(), secretOf(b)); err != nil {
			t.Fatal(err)
		}
	}
	h.now = h.now.Add(quick)
	want(t, h.SendCode(t.Context(), secretOf(b)), Limited)
	h.now = h.now.Add(day)
	if err := h.SendCode(t.Context(), secretOf(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestUnsentCodeDoesNotCount(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "0612341234")
	h.sms.err = errors.New("provider away")
	for range 5 {
		want(t, h.SendCode(t.Context(), secretOf(d)), NotSent)
	}
	h.sms.err = nil
	if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
		t.Fatal(err)
	}
}

func TestPhones(t *testing.T) {
	for in, want := range map[string]string{
		"06 12 34 56 78": "+33612345678 true 06 .. .. 56 78 = 06 12 34 56 78", "07.12.34.56.78": "+33712345678 true 07 .. .. 56 78 = 07 12 34 56 78",
		"+33 (0)6 12 34 56 78": "+33612345678 true 06 .. .. 56 78 = 06 12 34 56 78", "0033612345678": "+33612345678 true 06 .. .. 56 78 = 06 12 34 56 78",
		"01 23 45 67 89": "+33123456789 false 01 .. .. 67 89 = 01 23 45 67 89", "0692 12 34 56": "+262692123456 true +26 .. .. 34 56 = 06 92 12 34 56",
		"+41 79 123 45 67": "+41791234567 true +41 .. .. 45 67 = +41791234567",
		"":                 "!", "06 12 34": "!", "06123456789": "!", "abc": "!", "+0612345678": "!", "06+12345678": "!", strings.Repeat("1", 50): "!",
	} {
		n, mobile, err := ParsePhone(in)
		got := fmt.Sprint(n, " ", mobile, " ", MaskPhone(n), " = ", ReadPhone(n))
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestSMSOverHTTP(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var got, auth string
	status, calls := 200, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, auth, calls = string(b), r.Header.Get("Authorization"), calls+1
		w.WriteHeader(status)
	}))
	defer srv.Close()
	s, err := NewSMS(SMSConfig{URL: srv.URL + "/send?key=SECRET", Headers: map[string]string{"Authorization": "Bearer x"}, Body: `{"to":"{{.To}}","text":{{json .Text}},"t2":"{{.Text}}"}`})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(t.Context(), "+33612345678", `Clinique "L'Été" : 123456`); err != nil {
		t.Fatal(err)
	}
	if w := `{"to":"+33612345678","text":"Clinique \"L'Été\" : 123456","t2":"Clinique \"L'Été\" : 123456"}`; got != w || auth != "Bearer x" {
		t.Errorf("%s %s", got, auth)
	}
	for _, status = range []int{500, 401, 302} {
		calls = 0
		err := s.Send(t.Context(), "+33612345678", "123456")
		if err == nil || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "612345678") || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("%d: %v", status, err)
		}
		if w := map[int]int{500: 3, 401: 1, 302: 1}[status]; calls != w {
			t.Errorf("%d: %d calls", status, calls)
		}
	}
	srv.Close()
	if err := s.Send(t.Context(), "+33612345678", "123456"); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("%v", err)
	}
	f, err := NewSMS(SMSConfig{URL: "https://sms.test", ContentType: "application/x-www-form-urlencoded", Body: "to={{.To}}&m={{.Text}}"})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := f.fill("+336", "a&b é")
	if v, err := url.ParseQuery(string(b)); err != nil || v.Get("to") != "+336" || v.Get("m") != "a&b é" {
		t.Errorf("%s", b)
	}
	if q, err := NewSMS(SMSConfig{URL: "https://sms.test", ContentType: "text/plain", Body: "m={{query .Text}}&n={{.Text | query}}"}); err != nil {
		t.Error(err)
	} else if b, _ := q.fill("+336", "a&b"); string(b) != "m=a%26b&n=a%26b" {
		t.Errorf("query: %s", b)
	}
	for _, c := range []SMSConfig{{URL: "ftp://x"}, {URL: "https://x", Body: "{{.Nope}}"}, {URL: "https://x", Body: "{{"}, {URL: "https://x", Body: "to {{.To}}"}} {
		if _, err := NewSMS(c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

// FuzzManifest: a hostile plain deposit gives an error or files that lie inside it.
func FuzzManifest(f *testing.F) {
	b, _ := io.ReadAll(container(Manifest{Subject: "s"}, []File{{Name: "n", Open: func() io.Reader { return strings.NewReader("abc") }}}))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readManifest(strings.NewReader(string(b)), int64(len(b)))
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if _, err := io.Copy(io.Discard, io.NewSectionReader(strings.NewReader(string(b)), e.Offset, e.Size)); err != nil || e.Offset+e.Size > int64(len(b)) {
				t.Fatalf("%+v, %v", e, err)
			}
		}
	})
}
