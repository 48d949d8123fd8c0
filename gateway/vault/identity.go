package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"passerelle/crypto/seal"
	"passerelle/gateway/store"
)

// Identity is who a recipient is: as its sender gave it, or as an OpenID provider shows who is before the page. It is sealed in the deposit and
// erased with it; neither log nor ledger gets it.
type Identity struct {
	BirthName  string `json:"birth_name,omitempty"`
	FirstNames string `json:"first_names,omitempty"`
	BirthDate  string `json:"birth_date,omitempty"` // 1962-08-24; 00 for a month or day that nobody knows
	RPPS       string `json:"rpps,omitempty"`       // of a professional: eleven digits
}

func (Identity) String() string { return "<identity>" }

// Patient tells whether it has all that a patient is compared by, Professional the same of a professional.
func (i Identity) Patient() bool {
	return letters(i.BirthName) != "" && letters(i.FirstNames) != "" && birthDate(i.BirthDate) != ""
}
func (i Identity) Professional() bool { return i.RPPS != "" }

// samePatient tells whether who was shown is who was given: the same birth name, the same birth date, and first names of which the given
// ones are the first. Letters alone count, without their accents, in whatever case; a hyphen, an apostrophe or a blank is none. A given "Anne"
// is the first of a shown "Anne Marie", never part of "Anne-Marie"; a given "Anne Marie" is both of them.
func (i Identity) samePatient(shown Identity) bool {
	if !i.Patient() || !shown.Patient() || letters(i.BirthName) != letters(shown.BirthName) || birthDate(i.BirthDate) != birthDate(shown.BirthDate) {
		return false
	}
	given, so := letters(i.FirstNames), ""
	for _, name := range strings.FieldsFunc(shown.FirstNames, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
		if so += letters(name); so == given {
			return true
		}
	}
	return false
}

// sameProfessional compares the national number. Pro Santé Connect writes it with the digit of its kind in front: 8 and the RPPS.
func (i Identity) sameProfessional(shown Identity) bool {
	plain := func(s string) string {
		s = strings.Join(strings.Fields(s), "")
		if len(s) == 12 && s[0] == '8' {
			s = s[1:]
		}
		return s
	}
	return len(plain(i.RPPS)) == 11 && plain(i.RPPS) == plain(shown.RPPS)
}

// letters are what counts of a name: letters without their marks, in lower case.
func letters(s string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(s) {
		switch r = unicode.ToLower(r); r {
		case 'œ':
			b.WriteString("oe")
		case 'æ':
			b.WriteString("ae")
		case 'ß':
			b.WriteString("ss")
		case 'ø':
			b.WriteByte('o')
		case 'ł':
			b.WriteByte('l')
		case 'đ', 'ð':
			b.WriteByte('d')
		default:
			if unicode.IsLetter(r) {
				b.WriteRune(r)
			}
		}
	}
	return b.String()
}

// birthDate reads 1962-08-24 and 24/08/1962 (also with dots, hyphens or blanks), "" for what is none. Month and day may be 00: not known.
func birthDate(s string) string {
	p := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '/' || r == '.' || r == ' ' })
	if len(p) != 3 {
		return ""
	}
	if len(p[0]) != 4 {
		slices.Reverse(p)
	}
	if len(p[1]) == 1 {
		p[1] = "0" + p[1]
	}
	if len(p[2]) == 1 {
		p[2] = "0" + p[2]
	}
	day := strings.Join(p, "-")
	known := strings.ReplaceAll(day, "-00", "-01")
	if _, err := time.Parse(time.DateOnly, known); err != nil {
		return ""
	}
	return day
}

// ParseIdentity checks what a sender gave. One that is of no use is a fault: a wrong date would keep its patient out.
func ParseIdentity(i Identity) (Identity, error) {
	if len(i.BirthName)+len(i.FirstNames)+len(i.BirthDate)+len(i.RPPS) > 1000 {
		return Identity{}, errors.New("the identity is too long")
	}
	if i.BirthDate != "" && birthDate(i.BirthDate) == "" {
		return Identity{}, errors.New("the birth date is none: 1962-08-24 or 24/08/1962")
	}
	i.BirthDate = birthDate(i.BirthDate)
	if !i.Patient() && !i.Professional() {
		return Identity{}, errors.New("an identity is birth name, first names and birth date, or an RPPS number")
	}
	return i, nil
}

func (v *Vault) sealIdentity(id string, i Identity) ([]byte, error) {
	if !i.Patient() && !i.Professional() {
		return nil, nil
	}
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	return seal.Value(v.cfg.Key, "identity", id, b)
}

// identity is what the sender gave, empty where he gave nothing or the content is gone.
func (v *Vault) identity(r *row) (i Identity) {
	if b, err := seal.OpenValue(v.cfg.Key, "identity", r.id, r.identity); err != nil || json.Unmarshal(b, &i) != nil {
		return Identity{}
	}
	return i
}

// Shown is who an OpenID provider says is before the page.
type Shown struct {
	Identity
	Provider      string // its name in the config
	Professionals bool   // it knows professionals by their RPPS, else patients
}

// Identify opens the deposit to the person whom its sender meant. Somebody else counts as a wrong code. A lock that wrong codes made does not
// hold here: no number of guesses makes a provider name somebody else, and it is a patient's way past those who guess.
func (v *Vault) Identify(ctx context.Context, link string, who Shown, from netip.Addr) (session string, err error) {
	r, _, err := v.find(ctx, link)
	if err != nil {
		return "", err
	}
	now := v.cfg.Now()
	if !v.links.Allow("identity "+r.id, now) || !v.peers.Allow(Range(from), now) {
		codesTotal.WithLabelValues("slowed").Inc()
		return "", &Error{Reason: SlowDown, Until: now.Add(codeEvery)}
	}
	same := v.identity(r).samePatient
	if who.Professionals {
		same = v.identity(r).sameProfessional
	}
	var outcome error
	var was State
	err = v.db.Write(ctx, func(tx store.Tx) error {
		outcome, was = nil, ""
		r, err := readRow(tx.QueryRow, `id = ?`, r.id)
		if err != nil {
			return err
		}
		if outcome = r.check(now); outcome != nil {
			return nil
		}
		if same(who.Identity) {
			was = r.state
			return v.opened(tx, r, string(ByOIDC)+"/"+who.Provider, now)
		}
		outcome = &Error{Reason: NotSame}
		return v.wrong(tx, r, &Error{Reason: NotSame}, now)
	})
	if err == nil {
		err = outcome
	}
	if err != nil {
		v.counted(r.id, err, from)
		return "", fmt.Errorf("compare identity: %w", err)
	}
	codesTotal.WithLabelValues("right").Inc()
	moved(was, Opened)
	return v.session(r.id, now.Add(sessionLife)), nil
}

// SealForBrowser seals what a browser keeps and neither it nor anybody else may read or change; OpenFromBrowser opens it.
func (v *Vault) SealForBrowser(b []byte) (string, error) {
	sealed, err := seal.Value(v.cfg.Key, "browser", "", b)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (v *Vault) OpenFromBrowser(s string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return seal.OpenValue(v.cfg.Key, "browser", "", sealed)
}
