package trust

import (
	"strings"

	"passerelle/gateway/message"
)

// PatientDomain is where the patients' mailboxes of Mon espace sante are.
const PatientDomain = "patient.mssante.fr"

// ParseINS tells whether an address is a patient's (is), and whether its INS has a right key (valid).
func ParseINS(address message.Address) (valid, is bool) { return parseINS(address, PatientDomain) }

// ParseINS is the same under the configured patients' domain.
func (s *Space) ParseINS(address message.Address) (valid, is bool) {
	return parseINS(address, s.cfg.PatientDomain)
}

func parseINS(a message.Address, domain string) (valid, is bool) {
	if !strings.EqualFold(a.Domain, domain) {
		return false, false
	}
	return validINS(a.Local), true
}

// validINS checks 13 characters and their key of two digits: 97 - (N mod 97), Corsica's 2A and 2B at places 6 and 7 counted as 19 and
// 18. A single wrong digit is always found. The first digit is not looked at: which ones exist is written nowhere we could read.
func validINS(s string) bool {
	if len(s) != 15 {
		return false
	}
	switch strings.ToUpper(s[5:7]) {
	case "2A":
		s = s[:5] + "19" + s[7:]
	case "2B":
		s = s[:5] + "18" + s[7:]
	}
	var n, key int64
	for i := range s {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i < 13 {
			n = n*10 + d
		} else {
			key = key*10 + d
		}
	}
	return key == 97-n%97
}
