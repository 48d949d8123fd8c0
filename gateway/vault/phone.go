package vault

import (
	"errors"
	"strings"
)

// ErrPhone is returned for what cannot be read as a telephone number.
var ErrPhone = errors.New("not a telephone number")

// ErrMobile is returned where a rule asks for a code by SMS, and the number cannot take one.
var ErrMobile = errors.New("not a mobile number, and a code by SMS is asked for")

// overseas maps the first four digits of mobile numbers of the French overseas departments to their country code.
var overseas = map[string]string{
	"0690": "590", "0691": "590", // Guadeloupe, Saint-Martin, Saint-Barthélemy
	"0692": "262", "0693": "262", // La Réunion
	"0639": "262",                // Mayotte
	"0694": "594",                // Guyane
	"0696": "596", "0697": "596", // Martinique
}

// ParsePhone gives a telephone number in E.164 form ("+33612345678"), and whether it is known to be able to receive an SMS: a
// French landline is not; a foreign number is taken to be.
func ParsePhone(s string) (e164 string, mobile bool, err error) {
	if len(s) > 40 {
		return "", false, ErrPhone
	}
	s = strings.Replace(s, "(0)", "", 1) // +33 (0)6 12 34 56 78
	var b strings.Builder
	for i, r := range strings.TrimSpace(s) {
		switch {
		case r >= '0' && r <= '9', r == '+' && i == 0:
			b.WriteRune(r)
		case strings.ContainsRune(" .-/()\u00a0\u202f", r):
		default:
			return "", false, ErrPhone
		}
	}
	n := b.String()
	if rest, ok := strings.CutPrefix(n, "00"); ok {
		n = "+" + rest
	}
	if strings.HasPrefix(n, "0") {
		if len(n) != 10 {
			return "", false, ErrPhone
		}
		if cc, ok := overseas[n[:4]]; ok {
			return "+" + cc + n[1:], true, nil
		}
		n = "+33" + n[1:]
	}
	if !strings.HasPrefix(n, "+") || len(n) < 8 || len(n) > 16 || n[1] == '0' {
		return "", false, ErrPhone
	}
	if fr, ok := strings.CutPrefix(n, "+33"); ok {
		fr = strings.TrimPrefix(fr, "0")
		if len(fr) != 9 {
			return "", false, ErrPhone
		}
		return "+33" + fr, fr[0] == '6' || fr[0] == '7', nil
	}
	return n, true, nil
}

// ReadPhone writes an E.164 number as it is read and dialled in France: "06 12 34 56 78", "+41 791234567" as "+41791234567".
func ReadPhone(e164 string) string {
	for _, cc := range []string{"+33", "+590", "+262", "+594", "+596"} { // the overseas ones are dialled as the rest of France
		if n, ok := strings.CutPrefix(e164, cc); ok && len(n) == 9 {
			return "0" + n[:1] + " " + n[1:3] + " " + n[3:5] + " " + n[5:7] + " " + n[7:]
		}
	}
	return e164
}

// MaskPhone shows of an E.164 number what its owner knows it by: "06 .. .. 56 78", "+41 .. 56 78".
func MaskPhone(e164 string) string {
	if len(e164) < 8 {
		return ""
	}
	end := e164[len(e164)-4:len(e164)-2] + " " + e164[len(e164)-2:]
	if fr, ok := strings.CutPrefix(e164, "+33"); ok && len(fr) == 9 {
		return "0" + fr[:1] + " .. .. " + end
	}
	return e164[:3] + " .. .. " + end
}
