package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func compile(t interface {
	Helper()
	Fatal(...any)
}, rules ...Rule) *Policy {
	t.Helper()
	p, err := Compile(rules, Options{ClinicDomains: []string{"clinique.example"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompileFaults(t *testing.T) {
	_, err := Compile([]Rule{
		{Name: "a", Route: "nowhere"},
		{Name: "a", Route: Plain, Form: "zip", When: "size >"},
		{Route: Refuse, Text: "a\nb"},
		{Name: "c", Route: Pickup, Verdict: []Verdict{CouldNotAsk}},
		{Name: "d", Route: Pickup, When: `now().Year() > 2000`},
		{Name: "e", Route: Pickup, When: `nobody == 1`},
		{Name: "f", Route: Pickup, When: `size`},
	}, Options{})
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var r *RuleError
		if !errors.As(e, &r) {
			t.Fatalf("%T: %v", e, e)
		}
		line, _, _ := strings.Cut(r.Error(), ":")
		got = append(got, line)
	}
	want := []string{"rules[0].route", "rules[1].name", "rules[1].form", "rules[1].when", "rules[2].name", "rules[2].text", "rules[3].verdict", "rules[4].when", "rules[5].when", "rules[6].when"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if _, err := Compile(nil, Options{ListedUnverified: Pickup}); err == nil {
		t.Error("listed_unverified pickup was taken")
	}
}

// TestWhenReads: an expression that mentions the directory anywhere reads it, in whatever disguise.
func TestWhenReads(t *testing.T) {
	for src, want := range map[string]bool{
		`size > 10`:                                false,
		`true or verdict == "verified"`:            true,
		`any(tag, # == kind)`:                      true,
		`$env["ver" + "dict"] == "verified"`:       true,
		`header["X"] == ["verdict"]`:               false,
		`size > 1 ? phone : structure contains ""`: true,
		`let x = profession; x == "a"`:             true,
	} {
		w, err := compileWhen(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
		} else if w.reads != want {
			t.Errorf("%s: reads = %v, want %v", src, w.reads, want)
		}
	}
}

// TestWhenTroubleWaits: an expression that fails decides nothing.
func TestWhenTroubleWaits(t *testing.T) {
	for _, src := range []string{
		`len(filter(1..1000000, # > 5)) > 0`,
		`any(1..1000, any(1..1000, len(1..1000) == 0))`,
		`attachments[3].size > 0`,
	} {
		p := compile(t, Rule{Name: "heavy", When: src, Route: Plain})
		if d := p.Decide(Facts{RecipientDomain: "d.test", Verdict: NotListed}); d.Route != Later || d.Rule != "heavy" {
			t.Errorf("%s: got %s by %s, want later", src, d.Route, d.Rule)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "A", true}, {"a", "ab", false}, {"*", "", true}, {"*@d.test", "x@d.test", true}, {"*@d.test", "x@sub.d.test", false},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"*a*b*", "xaxbx", true}, {"*a*b*", "ba", false}, {"a*", "ab", true}, {"*.dcm", "SCAN.DCM", true},
		{"a**b", "ab", true}, {"a.b", "axb", false}, {"médecin*", "Médecin", true},
	} {
		if got := globs([]string{c.pattern}).match(c.s); got != c.want {
			t.Errorf("glob %q on %q = %v", c.pattern, c.s, got)
		}
	}
}

func TestReaches(t *testing.T) {
	always := Rule{Name: "end", Route: Refuse}
	for _, c := range []struct {
		name  string
		rules []Rule
		want  []Route
	}{
		{"no rule", nil, []Route{Trust, Encrypt, Pickup}},
		{"refuse all", []Rule{always}, []Route{Refuse}},
		{"behind the end", []Rule{always, {Name: "x", Route: Plain}}, []Route{Refuse}},
		{"mandatory", []Rule{{Name: "x", Route: Encrypt, Fallback: Refuse}}, []Route{Encrypt, Refuse}},
		{"encrypt may become pickup", []Rule{{Name: "x", Route: Encrypt, Tag: []string{"a"}}, always}, []Route{Encrypt, Pickup, Refuse}},
		{"preferred", []Rule{{Name: "x", Route: Pickup, Preferred: true}}, []Route{Trust, Encrypt, Pickup, Plain, Refuse}},
	} {
		p := compile(t, c.rules...)
		for _, r := range routes {
			if got := p.Reaches(r); got != slices.Contains(c.want, r) {
				t.Errorf("%s: reaches %s = %v", c.name, r, got)
			}
		}
	}
}

func TestTexts(t *testing.T) {
	for _, s := range []string{textLater, textBroken, textWhiteList, textRefused, textNoForm, textTooLarge, textNotCarried, textOpposed, textMarked, textEnclosed, textAutomatic, textNotInSpace, textTrustSender, textNoMailbox, textNotAllowed, textForeign, textNotDelegate, textUnclear, textNotFound, textUnverified, textINS, textOnePatient, textQualified} {
		if !isLine(s) || len(s) >= maxText || strings.Contains(s, "\n") {
			t.Errorf("no reply text: %q", s)
		}
	}
}

// TestReasonIsOneLineOfASCII: what strangers wrote into a directory stays harmless in the ledger.
func TestReasonIsOneLineOfASCII(t *testing.T) {
	p := compile(t, Rule{Name: "x", Structure: []string{"*"}, Route: Trust})
	f := Facts{RecipientDomain: "d.test", TrustDomain: true, TrustSender: true, Verdict: Verified}
	for _, s := range []string{"Hôpital Évreux", "a\r\nb", "日本", strings.Repeat("é", 5000)} {
		f.Structure = s
		if d := p.Decide(f); !isLine(d.Reason) || len(d.Reason) > maxReason {
			t.Errorf("%q: reason %q", s, d.Reason)
		}
	}
}

// TestFallback: a patient without a mailbox is no way out for what may not become a deposit.
func TestFallback(t *testing.T) {
	p := compile(t, Rule{Name: "x", Route: Trust, Qualified: true, Fallback: Pickup})
	own := Facts{RecipientDomain: "patient.test", TrustDomain: true, TrustSender: true, PatientINS: true, INSValid: true, Recipients: 1}
	if d := p.Decide(own); d.Route != Trust || d.Fallback != Pickup {
		t.Errorf("a letter: %+v", d)
	}
	for name, change := range map[string]func(*Facts){"marked": func(f *Facts) { f.Marked = true }, "null": func(f *Facts) { f.Null = true }, "automatic": func(f *Facts) { f.Auto = true }, "list": func(f *Facts) { f.List = true }} {
		f := own
		change(&f)
		if d := p.Decide(f); d.Route != Trust || d.Fallback != "" {
			t.Errorf("%s: %s %s, fallback %s", name, d.Route, d.Reason, d.Fallback)
		}
	}
}

// A mark that does not verify binds, and opens nothing: a rule on marked does not see it.
func TestBrokenMark(t *testing.T) {
	p := compile(t, Rule{Name: "ours", When: "marked", Route: Trust, Qualified: true}, Rule{Name: "rest", Route: Plain})
	f := Facts{RecipientDomain: "d.test", TrustSender: true, Recipients: 1, Marked: true}
	if d := p.Decide(f); d.Rule != "ours" || d.Route != Refuse {
		t.Errorf("whole: %+v", d)
	}
	f.BrokenMark = true
	if d := p.Decide(f); d.Rule != "rest" || d.Route != Refuse {
		t.Errorf("broken: %+v", d)
	}
}

func TestVerify(t *testing.T) {
	p := compile(t, Starter()...)
	facts := func(from, to string) (Facts, error) {
		if to == "gone@d.test" {
			return Facts{}, errors.New("no such facts")
		}
		_, domain, _ := strings.Cut(to, "@")
		return Facts{Sender: from, Recipient: to, RecipientDomain: domain, Verdict: NotListed}, nil
	}
	got := Verify(p, []Expectation{
		{From: "a@clinique.example", To: "b@clinique.example", Route: Local},
		{From: "a@clinique.example", To: "b@d.test", Route: Plain},
		{From: "a@clinique.example", To: "b@d.test", Route: Pickup, Rule: "patients"},
		{From: "a@clinique.example", To: "gone@d.test", Route: Pickup},
	}, facts)
	if len(got) != 3 || got[0].Index != 1 || len(got[0].Got.Tried) == 0 || !strings.Contains(got[1].String(), "by rule patients, got pickup (rule everyone-else") || got[2].Err == nil {
		t.Errorf("got %v", got)
	}
}

var boolean = rapid.Bool()

// anyFacts draws facts in which every truth that a law reads may hold.
func anyFacts() *rapid.Generator[Facts] {
	return rapid.Custom(func(t *rapid.T) Facts {
		flag := func(s string) bool { return boolean.Draw(t, s) }
		return Facts{
			Sender: "a@clinique.example", SenderDomain: "clinique.example",
			Recipient: "b@d.test", RecipientDomain: rapid.SampledFrom([]string{"d.test", "e.test", "clinique.example"}).Draw(t, "domain"),
			Verdict: rapid.SampledFrom(verdicts).Draw(t, "verdict"), Kind: rapid.SampledFrom([]string{"", "PER", "ORG"}).Draw(t, "kind"),
			Preferred: rapid.SampledFrom(append([]Route{"", Later, "odd"}, routes...)).Draw(t, "preferred"), Form: rapid.SampledFrom(forms).Draw(t, "form"),
			SMIME: flag("smime"), OpenPGP: flag("openpgp"), Phone: flag("phone"), Secret: flag("secret"), Opposed: flag("opposed"),
			TrustDomain: flag("trust domain"), TrustSender: flag("trust sender"), SenderTrouble: rapid.SampledFrom([]string{"", SenderForeign, SenderRefused}).Draw(t, "trouble"), PatientINS: flag("patient"), INSValid: flag("ins"), INSQualified: flag("ins qualified"),
			Size: rapid.Int64Range(0, 100).Draw(t, "size"), Recipients: rapid.IntRange(0, 3).Draw(t, "recipients"),
			Null: flag("null"), Auto: flag("auto"), List: flag("list"), Marked: flag("marked"), Enclosed: flag("enclosed"),
			Encrypted: flag("encrypted"), Whole: rapid.SampledFrom([]string{"", "unclear"}).Draw(t, "whole"),
			Sizes:      map[string]int64{FormSMIME: rapid.Int64Range(0, 60).Draw(t, "smime size"), FormZIP: rapid.Int64Range(0, 60).Draw(t, "zip size")},
			TrustDoubt: rapid.SampledFrom([]string{"", "", "", "too old"}).Draw(t, "trust doubt"),
		}
	})
}

func anyRule(name string) *rapid.Generator[Rule] {
	return rapid.Custom(func(t *rapid.T) Rule {
		r := Rule{Name: name, Route: rapid.SampledFrom(routes).Draw(t, "route"), Preferred: boolean.Draw(t, "preferred")}
		maybe := func(s string) *bool {
			return rapid.SampledFrom([]*bool{nil, nil, new(true), new(false)}).Draw(t, s)
		}
		r.TrustDomain, r.Patient, r.Auto, r.Null = maybe("trust_domain"), maybe("patient"), maybe("auto"), maybe("null")
		r.Domain = rapid.SampledFrom([][]string{nil, {"d.test"}, {"*"}}).Draw(t, "domain")
		r.Verdict = rapid.SampledFrom([][]Verdict{nil, {Verified}, {NotListed}, {Verified, NotListed}}).Draw(t, "verdict")
		r.Kind = rapid.SampledFrom([][]string{nil, {"PER"}}).Draw(t, "kind")
		r.Has = rapid.SampledFrom([][]string{nil, {"openpgp"}, {"smime", "openpgp"}, {"phone", "preferred"}}).Draw(t, "has")
		r.When = rapid.SampledFrom([]string{"", "", "size > 50", `verdict == "verified" or size > 50`, `kind != "PER"`, "trust_domain"}).Draw(t, "when")
		if r.Route == Encrypt {
			r.Form, r.Scope = rapid.SampledFrom(forms).Draw(t, "rule form"), rapid.SampledFrom(scopes).Draw(t, "rule scope")
			r.Fallback = rapid.SampledFrom([]Route{"", Pickup, Refuse}).Draw(t, "rule fallback")
		}
		r.Qualified = r.Route == Trust && boolean.Draw(t, "qualified")
		if r.Route == Trust && boolean.Draw(t, "fallback") {
			r.Fallback = Pickup
		}
		return r
	})
}

func anyPolicy(t *rapid.T) *Policy {
	rules := make([]Rule, rapid.IntRange(0, 5).Draw(t, "rules"))
	for i := range rules {
		rules[i] = anyRule(string(rune('a'+i))).Draw(t, "rule")
	}
	p, err := Compile(rules, Options{ClinicDomains: []string{"clinique.example"}, Limits: map[string]Size{FormSMIME: 50, FormOpenPGP: 50, FormZIP: 50, FormPDF: 50},
		Scope: rapid.SampledFrom(scopes).Draw(t, "scope"), ListedUnverified: rapid.SampledFrom([]Route{Trust, Refuse}).Draw(t, "listed")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLaws holds every law of the design against any table and any facts.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, f := anyPolicy(t), anyFacts().Draw(t, "facts")
		d := p.Decide(f)
		law := func(ok bool, text string) {
			if !ok {
				t.Fatalf("%s: got %s %s\n%+v", text, d.Route, d.Reason, f)
			}
		}
		out := internet(d.Route)
		law(d.Route == Later || slices.Contains(routes, d.Route), "a decision has a route")
		law((f.RecipientDomain == "clinique.example") == (d.Rule == ruleOwn), "own mail is local, first")
		if d.Route == Local {
			return
		}
		law(!out || !f.TrustDomain && !f.PatientINS, "mail for a listed domain takes no Internet route")
		law(!out || !f.Marked, "marked mail never leaves over the Internet")
		law(!out || !f.Enclosed || d.Route == Encrypt, "what came encrypted never leaves in clear, nor as a deposit")
		law(!f.Opposed || d.Route == Refuse, "who opposes is not written to")
		law(d.Route != Pickup || !f.Null && !f.Auto && !f.List, "automatic mail never becomes a deposit")
		law(d.Route != Encrypt || !f.Null && !f.Auto && !f.List || f.Null && (d.Form == FormSMIME || d.Form == FormOpenPGP || d.Form == FormAsIs), "automatic mail never triggers a code")
		law(d.Route != Plain || !f.Null || d.Form == FormReport, "a null sender's mail leaves as a report")
		law(d.Route != Trust || f.TrustSender || f.Null && f.SenderTrouble != SenderForeign, "only our trust domains write into the trust space")
		law(d.Fallback != Pickup || !f.Marked && !f.Enclosed && !f.Null && !f.Auto && !f.List, "what may not become a deposit does not by a fallback")
		law(d.Route != Trust || f.TrustDomain || f.PatientINS, "trust reaches listed domains alone")
		law(d.Route != Trust || !f.PatientINS || f.INSValid && f.Recipients == 1 && d.Qualified, "patients: valid, alone, qualified")
		law(d.Route != Trust || f.PatientINS || f.Verdict == Verified || p.opt.ListedUnverified == Trust, "refuse unverified means it")
		law(d.Route != Encrypt || possible(&f, d.Form) || d.Form == FormAsIs && f.Encrypted, "what is encrypted can be opened")
		law(d.Route != Encrypt || d.Form != FormZIP && d.Form != FormPDF || f.Form == d.Form || slices.ContainsFunc(p.rules, func(r rule) bool { return r.Name == d.Rule && r.Form == d.Form }),
			"zip and pdf are asked for")
		law(d.Route != Encrypt || d.Form == FormAsIs || f.Sizes[d.Form] <= int64(p.opt.Limits[d.Form]), "what is encrypted is under its limit")
		law(d.Route != Encrypt || d.Fallback == Pickup || d.Fallback == Refuse && d.Text != "" || f.Null, "what a form turns out not to carry has a way")
		law((d.Scope != "") == (d.Route == Encrypt), "what is encrypted has a scope")
		law(d.Scope != ScopeAttachments || f.Whole == "" && d.Form != FormSMIME && d.Form != FormAsIs, "attachments are sealed alone where that is possible")
		law(f.TrustDoubt == "" || !out && d.Route != Trust, "nothing leaves on a doubtful white list")
		law(d.Route != Later || f.TrustDoubt != "" || f.Verdict == CouldNotAsk && f.TrustDomain && !f.PatientINS, "only a doubt about a listed domain waits")
		law((d.Route != Refuse && d.Route != Later) || d.Text != "", "who is refused is told what to do")
		law(isLine(d.Reason) && isLine(d.Text) && d.Rule != "", "reason and text are one line")
		for _, r := range []Route{Pickup, Encrypt, Plain, Trust, Refuse} {
			if d.Route == r && d.Form != FormReport && r != Refuse && r != Trust {
				law(p.Reaches(r), "what is decided was said to be reachable")
			}
		}
	})
}

// TestDoubtNeverOpens: where the directory could not be asked, an Internet route comes out only where the table would have said so
// whatever the directory had answered; and where the two answers lead apart by a rule that reads them, the mail waits.
func TestDoubtNeverOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, f := anyPolicy(t), anyFacts().Draw(t, "facts")
		f.Verdict, f.Kind, f.TrustDoubt = CouldNotAsk, "", ""
		doubt := p.Decide(f)
		yes, not := f, f
		yes.Verdict, yes.Kind, not.Verdict = Verified, rapid.SampledFrom(kinds).Draw(t, "kind when asked"), NotListed
		dy, dn := p.Decide(yes), p.Decide(not)
		if !f.TrustDomain || f.PatientINS { // no directory lists patients
			if doubt.Route != dn.Route {
				t.Fatalf("a recipient whom no directory could list was delayed: %s, asked %s", doubt.Reason, dn.Reason)
			}
			return
		}
		if internet(doubt.Route) {
			t.Fatalf("doubt opened: %s", doubt.Reason)
		}
		if doubt.Route != Later && (doubt.Rule != dy.Rule || doubt.Rule != dn.Rule) {
			t.Fatalf("decided by %s in doubt, by %s and %s when asked", doubt.Rule, dy.Rule, dn.Rule)
		}
	})
}

// TestUnknownListNeverDecides: where nobody knows whether the domain is listed, a rule that decides would have decided either way.
func TestUnknownListNeverDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, f := anyPolicy(t), anyFacts().Draw(t, "facts")
		f.TrustDoubt, f.TrustDomain = "never loaded", false
		doubt := p.Decide(f)
		if internet(doubt.Route) || doubt.Route == Trust {
			t.Fatalf("doubt opened: %s", doubt.Reason)
		}
		listed, not := f, f
		listed.TrustDoubt, not.TrustDoubt, listed.TrustDomain = "", "", true
		if dl, dn := p.Decide(listed), p.Decide(not); doubt.Route != Later && (doubt.Rule != dl.Rule || doubt.Rule != dn.Rule) {
			t.Fatalf("decided by %s in doubt, by %s and %s when known", doubt.Rule, dl.Rule, dn.Rule)
		}
	})
}

func tenRules() []Rule {
	rules := Starter()
	return slices.Concat(rules[:9], rules[11:])
}

func BenchmarkDecide(b *testing.B) {
	p := compile(b, tenRules()...)
	f := Facts{
		Sender: "dr.a@clinique.example", SenderDomain: "clinique.example", Recipient: "p@courriel.example", RecipientDomain: "courriel.example",
		Verdict: NotListed, TrustSender: true, Phone: true, Size: 12345, Recipients: 1, Tags: []string{"x"},
		Headers: map[string][]string{"X-Mailer": {"Outlook"}}, Attachments: []Attachment{{Type: "application/pdf", Name: "a.pdf", Size: 10000}},
	}
	if d := p.Decide(f); d.Rule != "everyone-else" || p.Len() != 10 {
		b.Fatalf("decided by %s of %d rules, want the last of 10", d.Rule, p.Len())
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(f)
	}
}

// BenchmarkDecideWhen is the same table with an expression reached before the last rule.
func BenchmarkDecideWhen(b *testing.B) {
	rules := tenRules()
	rules[8].Person, rules[8].When = nil, `size > 1000000 and any(attachments, .type startsWith "image/")`
	p := compile(b, rules...)
	f := Facts{RecipientDomain: "courriel.example", Verdict: NotListed, Size: 12345, Recipients: 1}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(f)
	}
}
