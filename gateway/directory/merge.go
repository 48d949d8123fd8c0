package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// Inactive is what one source may say beside the three verdicts: it knows the mailbox, and that it has ended. In an Answer it counts as
// NotListed.
const Inactive = "inactive"

// The sources that verify, in the order in which their words fill a record where the operator set none.
const (
	sourceExtraction = "extraction"
	sourceFHIR       = "fhir"
	sourceLDAP       = "ldap"
)

var defaultPrecedence = []string{sourceExtraction, sourceFHIR, sourceLDAP}

// Said is what one source said of an address.
type Said struct {
	Name    string    // extraction, fhir, ldap
	AsOf    time.Time // the source's own date, or when it was asked; zero where it could not be
	Verdict string    // Verified, Inactive, NotListed, CouldNotAsk
	Why     string    // why it could not be asked
	// Verifies: its word counts for the verdict; of the others the records alone are shown.
	Verifies bool

	reply   string
	records []Record
	keys    bool // the source tells of keys
}

// verdictBy gives a source's verdict on the records that it holds.
func verdictBy(recs []Record) string {
	switch {
	case len(recs) == 0:
		return NotListed
	case !slices.ContainsFunc(recs, func(r Record) bool { return !r.Inactive }):
		return Inactive
	}
	return Verified
}

// ask asks every source that the precedence names and merges what they say.
func (d *Directory) ask(ctx context.Context, a message.Address) Answer {
	if a.IsNull() {
		return Answer{Verdict: NotListed}
	}
	said := make([]Said, 0, 1+len(d.remotes))
	for _, name := range d.precedence() {
		if name == sourceExtraction {
			said = append(said, d.askMirror(ctx, a))
			continue
		}
		for _, r := range d.remotes {
			if r.name() == name && r.concerns(a) {
				s := d.asking.Load().ask(ctx, r, a)
				s.keys = r.tellsKeys()
				said = append(said, s)
			}
		}
	}
	return merge(said, len(d.cfg.Precedence) > 0)
}

func (d *Directory) precedence() []string {
	if len(d.cfg.Precedence) > 0 {
		return d.cfg.Precedence
	}
	return defaultPrecedence
}

// merge makes one answer of what the sources said, in the order of their precedence. Three-valued: one source that verifies is enough,
// whatever another could not say; but "not listed" needs the word of every verifying source. Between one that lists a mailbox and one
// that says it has ended the newer wins, or, where the operator set a precedence, the first.
func merge(said []Said, ordered bool) Answer {
	ans := Answer{Sources: said}
	win := -1 // of those who list it, in use or ended
	silent, plain := -1, -1
	for i, s := range said {
		if !s.Verifies {
			continue
		}
		switch {
		case s.Verdict == CouldNotAsk && silent < 0:
			silent = i
		case s.Verdict == NotListed && plain < 0:
			plain = i
		case s.Verdict != Verified && s.Verdict != Inactive:
		case win < 0 || !ordered && later(s, said[win]):
			win = i
		}
	}
	ans.Contradictions = contradictions(said)
	switch {
	case win >= 0 && said[win].Verdict == Verified:
		ans.Verdict, ans.Source, ans.AsOf = Verified, said[win].Name, said[win].AsOf
	case silent >= 0:
		s := said[silent]
		ans.Verdict, ans.Why, ans.Reply = CouldNotAsk, s.Why, s.reply
	case win >= 0:
		ans.Verdict, ans.Source, ans.AsOf = NotListed, said[win].Name, said[win].AsOf
	case plain >= 0:
		ans.Verdict, ans.Source, ans.AsOf = NotListed, said[plain].Name, said[plain].AsOf
	default: // no source verifies: nothing was asked
		ans.Verdict, ans.Why, ans.Reply = CouldNotAsk, "no source of the directory verifies", "annuaire national absent, nouvel essai plus tard"
	}
	ans.Records = mergeRecords(said, win)
	for _, s := range said {
		if s.keys && s.Verdict != CouldNotAsk {
			ans.KeysFrom, ans.KeysAsOf = s.Name, s.AsOf
			for _, r := range s.records {
				ans.Keys = append(ans.Keys, r.Keys...)
			}
		}
	}
	return ans
}

// later tells whether s decides over the winner so far. Of the same date the one that says "ended" does: doubt never opens.
func later(s, win Said) bool {
	return s.AsOf.After(win.AsOf) || s.AsOf.Equal(win.AsOf) && s.Verdict == Inactive
}

// mergeRecords puts the winner's records first, of them those in use: rules read the first. Records of the same person at the same place get
// one place: empty fields are filled from the sources behind, doubts are gathered. What does not verify stands behind, for itself.
func mergeRecords(said []Said, win int) []Record {
	var out []Record
	take := func(s Said) {
		for _, r := range s.records {
			i := slices.IndexFunc(out, func(o Record) bool { return sameSubject(o, r) && o.Source != r.Source })
			if i < 0 || !s.Verifies {
				r.Flags = slices.Clone(r.Flags)
				out = append(out, r)
				continue
			}
			out[i].fill(r)
		}
	}
	if win >= 0 {
		take(said[win])
		slices.SortStableFunc(out, func(a, b Record) int { return rank(a.Inactive) - rank(b.Inactive) })
	}
	for _, verifies := range []bool{true, false} {
		for i, s := range said {
			if i != win && s.Verifies == verifies {
				take(s)
			}
		}
	}
	return out
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// sameSubject tells whether two records are of one mailbox's same holder: the same person, at the same place where both name one.
func sameSubject(a, b Record) bool {
	if a.Address != b.Address {
		return false
	}
	if a.ID != "" || b.ID != "" {
		return a.ID == b.ID && (a.StructureID == b.StructureID || a.StructureID == "" || b.StructureID == "")
	}
	return a.StructureID != "" && a.StructureID == b.StructureID
}

func (r *Record) fill(o Record) {
	for _, f := range []struct {
		to   *string
		from string
	}{{&r.Kind, o.Kind}, {&r.Title, o.Title}, {&r.FirstName, o.FirstName}, {&r.LastName, o.LastName}, {&r.IDType, o.IDType}, {&r.Structure, o.Structure},
		{&r.StructureID, o.StructureID}, {&r.Service, o.Service}, {&r.Profession, o.Profession}, {&r.Category, o.Category}, {&r.Speciality, o.Speciality},
		{&r.City, o.City}, {&r.PostalCode, o.PostalCode}, {&r.Department, o.Department}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	if r.Dematerialised == nil {
		r.Dematerialised = o.Dematerialised
	}
	r.RedList = r.RedList || o.RedList
	for _, f := range o.Flags {
		if !slices.Contains(r.Flags, f) {
			r.Flags = append(r.Flags, f)
		}
	}
	r.Also = append(r.Also, o.Source)
}

// contradictions names in a few words each where two sources that were asked differ; no word of them is of a person.
func contradictions(said []Said) (out []string) {
	for i, a := range said {
		for _, b := range said[i+1:] {
			if a.Verdict == CouldNotAsk || b.Verdict == CouldNotAsk {
				continue
			}
			if a.Verdict != b.Verdict {
				out = append(out, fmt.Sprintf("%s of %s says %s, %s of %s says %s", a.Name, dayOf(a.AsOf), a.Verdict, b.Name, dayOf(b.AsOf), b.Verdict))
				continue
			}
			if fields := differ(a.records, b.records); len(fields) > 0 {
				out = append(out, fmt.Sprintf("%s of %s and %s of %s differ in %s", a.Name, dayOf(a.AsOf), b.Name, dayOf(b.AsOf), strings.Join(fields, ", ")))
			}
		}
	}
	return out
}

// differ names the fields in which every record of one source is told otherwise by the other. Names are compared without case.
func differ(a, b []Record) (fields []string) {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	for _, f := range []struct {
		name string
		of   func(Record) string
	}{{"kind", func(r Record) string { return r.Kind }}, {"identifier", func(r Record) string { return r.ID }},
		{"last name", func(r Record) string { return headerKey(r.LastName) }}, {"profession", func(r Record) string { return headerKey(r.Profession) }},
		{"structure", func(r Record) string { return r.StructureID }}} {
		known, shared := 0, false
		for _, x := range a {
			for _, y := range b {
				if f.of(x) == "" || f.of(y) == "" {
					continue
				}
				known++
				shared = shared || f.of(x) == f.of(y)
			}
		}
		if known > 0 && !shared {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func dayOf(t time.Time) string {
	if t.IsZero() {
		return "an unknown date"
	}
	return t.UTC().Format(time.DateOnly)
}
