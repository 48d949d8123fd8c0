package directory

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// sealedSecret begins an agreed phrase that is sealed: the version of the form, then base64url (RFC 4648 section 5, without padding).
const (
	sealedMark   = "sealed:"
	sealedSecret = sealedMark + "v1:"
)

const (
	minSecret  = 8  // characters: what is shorter is not sealed
	goodSecret = 12 // what ZIP and PDF take at least
)

// SealSecret gives an agreed phrase as the column secret takes it. It opens for that address alone, in whatever spelling, or for "@domain".
// seal seals octets for the key form of an address.
func SealSecret(address, phrase string, seal func(address string, phrase []byte) ([]byte, error)) (string, error) {
	key, err := contactKey(address)
	if err != nil {
		return "", err
	}
	phrase = strings.TrimSpace(phrase)
	switch {
	case strings.HasPrefix(phrase, sealedMark):
		return "", errors.New("the phrase is sealed already")
	case !utf8.ValidString(phrase) || strings.ContainsFunc(phrase, isControl):
		return "", errors.New("the phrase holds a control character, or is no UTF-8")
	case utf8.RuneCountInString(phrase) < minSecret:
		return "", fmt.Errorf("the phrase has fewer than %d characters: it would be guessed", minSecret)
	}
	sealed, err := seal(key, []byte(phrase))
	if err != nil {
		return "", fmt.Errorf("seal the phrase: %w", err)
	}
	text := sealedSecret + base64.RawURLEncoding.EncodeToString(sealed)
	if len(text) > maxField {
		return "", errors.New("the phrase is too long")
	}
	return text, nil
}

// openSecret opens the phrase of an entry where it is sealed. Without open, for a look at the list, it stays as it is: nothing is sealed with it.
func (c *Contact) openSecret(open func(address string, sealed []byte) ([]byte, error)) error {
	text := string(c.Secret)
	if !strings.HasPrefix(text, sealedMark) {
		return nil
	}
	rest, ok := strings.CutPrefix(text, sealedSecret)
	sealed, err := base64.RawURLEncoding.DecodeString(rest)
	if !ok || err != nil {
		return errors.New("secret: the sealed phrase is cut or of another version: seal it again")
	}
	if c.Sealed = true; open == nil {
		return nil
	}
	phrase, err := open(c.Address, sealed)
	if err != nil {
		return errors.New("secret: the phrase was sealed for another address or under another server key: seal it again")
	}
	c.Secret, c.opened = Secret(phrase), true
	return nil
}

// Weakness says why an agreed phrase is a poor one, "" where it is not: too short, of few characters, or such as ZIP and PDF do not take.
func (s Secret) Weakness() string {
	n := utf8.RuneCountInString(string(s))
	different := map[rune]bool{}
	for _, r := range string(s) {
		different[r] = true
	}
	switch {
	case n < goodSecret:
		return fmt.Sprintf("has %d characters, ZIP and PDF take %d or more", n, goodSecret)
	case strings.ContainsFunc(string(s), func(r rune) bool { return r < 0x20 || r > 0x7e }):
		return "holds other characters than printable ASCII (accents), which ZIP and PDF do not take"
	case !strings.ContainsFunc(string(s), func(r rune) bool { return (r < '0' || r > '9') && !strings.ContainsRune(" ./-", r) }):
		return "is of digits alone, as dates and numbers are"
	case len(different) < 6:
		return fmt.Sprintf("is of %d different characters", len(different))
	}
	return ""
}

// ListSecret is what the operator may know of one agreed phrase of the list.
type ListSecret struct {
	Line     int
	Sealed   bool
	Weakness string // "" where it is good, or sealed and not opened
}

// Secrets tells of the list's agreed phrases, in its order.
func (d *Directory) Secrets() (out []ListSecret) {
	d.list.mu.RLock()
	defer d.list.mu.RUnlock()
	for key, c := range d.list.contacts {
		if c.Secret == "" || c.Address != key || c.File == "" {
			continue
		}
		s := ListSecret{Line: c.Line, Sealed: c.Sealed}
		if !c.Sealed || c.opened {
			s.Weakness = c.Secret.Weakness()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b ListSecret) int { return a.Line - b.Line })
	return slices.CompactFunc(out, func(a, b ListSecret) bool { return a.Line == b.Line }) // a key of the config gives an address a copy of its domain's entry
}
