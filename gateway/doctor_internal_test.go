package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"passerelle/config"
)

func TestCreditIn(t *testing.T) {
	for _, c := range []struct {
		body, path, regex string
		want              float64
		fault             string
	}{
		{`{"credits": 12}`, "credits", "", 12, ""}, {`[{"a": {"left": "7,5"}}]`, "0.a.left", "", 7.5, ""}, {`42`, "", "", 42, ""},
		{"OK credits=99.5;", "", `credits=([0-9.]+)`, 99.5, ""},
		{`{"credits": 12}`, "credit", "", 0, "no number"}, {`{"a": 1}`, "a.b", "", 0, `no "b"`}, {`[1]`, "5", "", 0, `no "5"`}, {`<html>`, "a", "", 0, "no JSON"},
		{"none", "", `credits=([0-9.]+)`, 0, "does not have"}, {"credits=x", "", `credits=(.)`, 0, "no number"}, {`{"a": true}`, "a", "", 0, "no number"},
	} {
		got, err := creditIn([]byte(c.body), c.path, c.regex)
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s by %q or %q: got %g, %v", c.body, c.path, c.regex, got, err)
		}
	}
}

// TestClocks: an answer's second bounds the difference; nobody is accused of less than it shows.
func TestClocks(t *testing.T) {
	began := time.Date(2026, 11, 23, 10, 0, 0, 9e8, time.UTC)
	ended := began.Add(300 * time.Millisecond)
	for _, c := range []struct {
		theirs time.Time
		want   time.Duration
	}{
		{began.Truncate(time.Second), 0}, {ended.Truncate(time.Second), 0},
		{ended.Add(time.Minute).Truncate(time.Second), 58*time.Second + 800*time.Millisecond + 1*time.Second}, // 10:01:01 less 10:00:01.2
		{began.Add(-time.Minute).Truncate(time.Second), -(58*time.Second + 900*time.Millisecond + 1*time.Second)},
	} {
		var k clocks
		k.note("host", c.theirs.Format(http.TimeFormat), began, ended)
		if len(k.seen) != 1 || k.seen[0].off != c.want {
			t.Errorf("theirs %s: got %v, want %s", c.theirs, k.seen, c.want)
		}
	}
	var k clocks
	k.note("host", "yesterday", began, ended)
	if len(k.seen) != 0 {
		t.Error("a date that is none was taken")
	}
}

func TestJudge(t *testing.T) {
	for days, want := range map[int]Level{61: Fine, 59: Warn, 29: Warn, 8: Warn, 6: Fail, -1: Fail} {
		s := &sheet{}
		judge(s, "", "our certificate", time.Duration(days)*aDay+time.Hour, ordered)
		if len(s.list) != 1 || s.list[0].Level != want {
			t.Errorf("%d days: %+v, want %s", days, s.list, want)
		}
	}
}

// TestSideBySide: a check that the system holds is left behind; the others' findings stand in their order.
func TestSideBySide(t *testing.T) {
	d := &doctor{o: Examination{Each: 50 * time.Millisecond}}
	hang := make(chan struct{})
	defer close(hang)
	began := time.Now()
	list := d.sideBySide(t.Context(), []check{
		{"first", func(ctx context.Context, s *sheet) { <-ctx.Done(); s.ok("", "late, but there") }},
		{"hangs", func(context.Context, *sheet) { <-hang }},
		{"last", func(_ context.Context, s *sheet) { s.ok("", "quick") }},
	})
	if len(list) != 3 || list[0].Check != "first" || list[1].Level != Fail || !strings.Contains(list[1].Finding, "did not end") || list[2].Finding != "quick" {
		t.Errorf("%+v", list)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestCleaner: secrets and patients' numbers do not pass; an organisation's number does.
func TestCleaner(t *testing.T) {
	cfg := &config.Config{}
	cfg.SMS.URL = "https://sms.test/?key=abcd1234"
	cfg.SMS.Headers = map[string]config.Secret{"Authorization": "Bearer xyz"}
	cfg.Directory.LDAP.Password = "ab" // too short to look for
	clean := cleaner(cfg)
	for text, want := range map[string]string{
		"get https://sms.test/?key=abcd1234: Bearer xyz refused": "get <secret>: <secret> refused",
		"to 279035121518989@patient.mssante.fr":                  "to <INS>@patient.mssante.fr",
		"279035121518989 and 279035121518988@x":                  "<INS> and <INS>@x",
		"OU=318003502400041,O=CNAM able":                         "OU=318003502400041,O=CNAM able",
		"two\nlines":                                             "two lines",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
