package policy

import (
	"net/textproto"
	"slices"
	"strings"
)

// matcher is one field of a rule made ready. say gives what it read, for the reason; it never names a local part, a file name or a
// header's value, because reasons are logged.
type matcher struct {
	field string
	holds func(*Facts) bool
	say   func(*Facts) string
}

// matchers gives the rule's matchers: those that read neither the white list nor the verdict, and those that do.
func matchers(r Rule) (plain, listed, verdict []matcher) {
	text := func(field string, patterns []string, value func(*Facts) string, say func(*Facts) string) []matcher {
		if len(patterns) == 0 {
			return nil
		}
		g := globs(patterns)
		if say == nil {
			say = value
		}
		return []matcher{{field, func(f *Facts) bool { return g.match(value(f)) }, say}}
	}
	flag := func(field string, want *bool, value func(*Facts) bool) []matcher {
		if want == nil {
			return nil
		}
		w := *want
		return []matcher{{field, func(f *Facts) bool { return value(f) == w }, func(f *Facts) string { return yesno(value(f)) }}}
	}
	fixed := func(s string) func(*Facts) string { return func(*Facts) string { return s } }

	plain = slices.Concat(
		text("sender", r.Sender, func(f *Facts) string { return f.Sender }, func(f *Facts) string { return "*@" + f.SenderDomain }),
		text("sender_domain", r.SenderDomain, func(f *Facts) string { return f.SenderDomain }, nil),
		text("recipient", r.Recipient, func(f *Facts) string { return f.Recipient }, func(f *Facts) string { return "*@" + f.RecipientDomain }),
		text("domain", r.Domain, func(f *Facts) string { return f.RecipientDomain }, nil),
		text("person", r.Person, func(f *Facts) string { return f.Person }, nil),
		flag("opposed", r.Opposed, func(f *Facts) bool { return f.Opposed }),
		flag("patient", r.Patient, func(f *Facts) bool { return f.PatientINS }),
		flag("known_as", r.KnownAs, func(f *Facts) bool { return f.KnownAs }),
		flag("null", r.Null, func(f *Facts) bool { return f.Null }),
		flag("auto", r.Auto, func(f *Facts) bool { return f.Auto }),
		flag("list", r.List, func(f *Facts) bool { return f.List }),
		flag("encrypted", r.Encrypted, func(f *Facts) bool { return f.Encrypted }),
	)
	if r.Lookalike != nil {
		want := *r.Lookalike
		plain = append(plain, matcher{"lookalike", func(f *Facts) bool { return (f.Lookalike != "") == want }, func(f *Facts) string {
			if f.Lookalike == "" {
				return "no"
			}
			return f.Lookalike
		}})
	}
	if len(r.Has) > 0 {
		plain = append(plain, matcher{"has", func(f *Facts) bool { return slices.ContainsFunc(r.Has, f.has) }, func(f *Facts) string {
			return strings.Join(slices.DeleteFunc(slices.Clone(has), func(h string) bool { return !f.has(h) }), "+")
		}})
	}
	if r.SizeOver > 0 || r.SizeUnder > 0 {
		plain = append(plain, matcher{"size", func(f *Facts) bool {
			return f.Size > int64(r.SizeOver) && (r.SizeUnder == 0 || f.Size < int64(r.SizeUnder))
		}, func(f *Facts) string { return Size(f.Size).String() }})
	}
	if len(r.Sensitivity) > 0 {
		plain = append(plain, text("sensitivity", r.Sensitivity, func(f *Facts) string { return f.Sensitivity }, nil)...)
	}
	if len(r.Tag) > 0 {
		g := globs(r.Tag)
		plain = append(plain, matcher{"tag", func(f *Facts) bool { return slices.ContainsFunc(f.Tags, g.match) }, fixed(strings.Join(r.Tag, "|"))})
	}
	if len(r.Attachments) > 0 {
		g := globs(r.Attachments)
		plain = append(plain, matcher{"attachments", func(f *Facts) bool {
			return slices.ContainsFunc(f.Attachments, func(a Attachment) bool { return g.attachment(a) })
		}, fixed(strings.Join(r.Attachments, "|"))})
	}
	for _, name := range sortedKeys(r.Header) {
		key, g := textproto.CanonicalMIMEHeaderKey(name), globs([]string{r.Header[name]})
		plain = append(plain, matcher{"header", func(f *Facts) bool { return slices.ContainsFunc(f.Headers[key], g.match) }, fixed(key)})
	}
	if r.Preferred && r.Route == "" {
		plain = append(plain, matcher{"preferred", func(f *Facts) bool { return f.Preferred != "" }, func(f *Facts) string { return string(f.Preferred) }})
	}

	listed = flag("trust_domain", r.TrustDomain, func(f *Facts) bool { return f.TrustDomain })

	if len(r.Verdict) > 0 {
		verdict = append(verdict, matcher{"verdict", func(f *Facts) bool { return slices.Contains(r.Verdict, f.Verdict) },
			func(f *Facts) string { return string(f.Verdict) }})
	}
	verdict = slices.Concat(verdict,
		text("kind", r.Kind, func(f *Facts) string { return f.Kind }, nil),
		text("profession", r.Profession, func(f *Facts) string { return f.Profession }, nil),
		text("category", r.Category, func(f *Facts) string { return f.Category }, nil),
		text("structure", r.Structure, func(f *Facts) string { return f.Structure }, nil),
	)
	return plain, listed, verdict
}

// has answers one word of the matcher of that name.
func (f *Facts) has(what string) bool {
	switch what {
	case "smime":
		return f.SMIME
	case "openpgp":
		return f.OpenPGP
	case "phone":
		return f.Phone
	case "secret":
		return f.Secret
	case "preferred":
		return f.Preferred != ""
	}
	return false
}

// patterns are globs in lower case; `*` is the only sign with a meaning.
type patterns [][]string

// globs splits each pattern at its stars once, so that matching allocates nothing for lower-case values.
func globs(list []string) patterns {
	var p patterns
	for _, s := range list {
		p = append(p, strings.Split(strings.ToLower(s), "*"))
	}
	return p
}

func (p patterns) match(s string) bool {
	s = strings.ToLower(s)
	for _, parts := range p {
		if glob(parts, s) {
			return true
		}
	}
	return false
}

// attachment matches patterns with a slash against the media type and the others against the file name.
func (p patterns) attachment(a Attachment) bool {
	for _, parts := range p {
		value := a.Name
		if slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(s, "/") }) {
			value = a.Type
		}
		if glob(parts, strings.ToLower(value)) {
			return true
		}
	}
	return false
}

// glob matches s against the text between the stars: first and last are anchored, the rest are found leftmost, which is enough
// because a star takes anything. Time is linear in practice: no backtracking, whatever strangers write into s.
func glob(parts []string, s string) bool {
	if len(parts) == 1 {
		return s == parts[0]
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

func yesno(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func lower(list []string) []string { return mapped(list, strings.ToLower) }
func upper(list []string) []string { return mapped(list, strings.ToUpper) }

func mapped(list []string, fn func(string) string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fn(s)
	}
	return out
}
