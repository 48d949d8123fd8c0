package message

import (
	"fmt"
	"net/mail"
	"strings"
)

// Mailbox is an address with its display name, decoded: one of a From or To field.
type Mailbox struct {
	Name    string
	Address Address
}

// ParseMailboxes reads the value of an address field (RFC 5322 section 3.4), comments and the names of groups left out. Its error tells
// nothing of the value.
func ParseMailboxes(value string) ([]Mailbox, error) {
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	p := mail.AddressParser{WordDecoder: &words}
	list, err := p.ParseList(value)
	if err != nil {
		return nil, fmt.Errorf("address field cannot be read")
	}
	out := make([]Mailbox, 0, len(list))
	for _, one := range list {
		at := strings.LastIndexByte(one.Address, '@')
		if at < 1 || at > maxLocal {
			return nil, fmt.Errorf("address field holds no address")
		}
		domain, err := ParseDomain(one.Address[at+1:])
		if err != nil {
			return nil, err
		}
		out = append(out, Mailbox{Name: clean(one.Name), Address: Address{Local: one.Address[:at], Domain: domain}})
	}
	return out, nil
}

// String writes the mailbox as it may stand in a field: `name <local@domain>`, the name bare where it is plain words.
func (m Mailbox) String() string {
	spec := "<" + m.Address.String() + ">"
	switch {
	case m.Name == "":
		return spec
	case plainWords(m.Name):
		return m.Name + " " + spec
	}
	return Phrase(m.Name) + " " + spec
}

// plainWords tells whether a name is atoms between single blanks (RFC 5322 section 3.2.5).
func plainWords(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAtext(c) && (c != ' ' || i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return s != "" && !strings.Contains(s, "=?")
}
