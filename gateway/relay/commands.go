package relay

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"passerelle/gateway/message"
)

// steps are the commands for this connection. Recipients that the hop cannot take as it is are settled here; nil if none is left.
func (t *transfer) steps() []step {
	l, c := t.letter, t.c
	if fail := t.capable(); fail != nil {
		t.failOpen(fail)
		return nil
	}
	utf8 := !l.Sender.IsASCII()
	if utf8 && !c.offers("SMTPUTF8") {
		t.failOpen(t.hop.permanent("mail", 553, [3]int{5, 6, 7}, noUTF8))
		return nil
	}
	header := l.SMTPUTF8 && t.survey.utf8 // RFC 6531 section 3.6; without the client's word raw 8-bit in a header is only an old sin
	utf8 = utf8 || header
	dsn := c.offers("DSN")
	var rcpts []step
	for i, r := range l.Recipients {
		switch {
		case !wireSafe(r.Address.String()) || r.IsNull():
			t.fail(i, t.hop.permanent("rcpt", 553, [3]int{5, 1, 3}, "adresse de destinataire invalide"), "")
			continue
		case r.IsASCII() && header && !c.offers("SMTPUTF8"):
			t.fail(i, t.hop.permanent("mail", 554, [3]int{5, 6, 9}, "en-tete en UTF-8 refuse par le relais suivant, envoyez sans adresse internationale"), "")
			continue
		case r.IsASCII():
		case !c.offers("SMTPUTF8"):
			t.fail(i, t.hop.permanent("rcpt", 553, [3]int{5, 6, 7}, noUTF8), "")
			continue
		default:
			utf8 = true
		}
		rcpts = append(rcpts, step{"rcpt", i, "RCPT TO:<" + r.Address.String() + ">" + rcptParams(r, dsn)})
	}
	if rcpts == nil {
		return nil
	}
	steps := append([]step{{"mail", -1, t.mail(utf8, dsn)}}, rcpts...)
	if t.probe {
		return append(steps, step{"rset", -1, "RSET"})
	}
	return append(steps, step{"data", -1, "DATA"})
}

const noUTF8 = "adresse internationale refusee par le relais suivant, ecrivez a une adresse sans accents"

// capable tells why this hop cannot take the letter for anybody.
func (t *transfer) capable() *Error {
	l, c := t.letter, t.c
	// RFC 8689 section 4.2.1: the hop must be authenticated and promise to keep it so.
	if l.RequireTLS && (c.tls == nil || t.hop.TLS.Mode != Verify && t.hop.TLS.Check == nil || !c.offers("REQUIRETLS")) {
		return t.hop.permanent("mail", 550, [3]int{5, 7, 30}, "REQUIRETLS demande mais non garanti par le relais suivant")
	}
	if t.probe {
		return nil
	}
	if fail := t.tooLarge(c.sizeLimit()); fail != nil {
		return fail
	}
	if t.survey.eightBit && !c.offers("8BITMIME") { // RFC 6152 section 3; converting would break signatures
		return t.hop.permanent("mail", 554, [3]int{5, 6, 3}, "contenu 8 bits refuse par le relais suivant")
	}
	return nil
}

// tooLarge refuses a letter over a limit in octets; 0 is none.
func (t *transfer) tooLarge(limit int64) *Error {
	if limit > 0 && t.survey.octets() > limit {
		return t.hop.permanent("mail", 552, [3]int{5, 3, 4}, fmt.Sprintf("message de %d octets, le relais suivant accepte %d", t.survey.octets(), limit))
	}
	return nil
}

func (t *transfer) mail(utf8, dsn bool) string {
	l, c := t.letter, t.c
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + l.Sender.String() + ">")
	if c.offers("SIZE") && !t.probe {
		b.WriteString(" SIZE=" + strconv.FormatInt(t.survey.octets(), 10))
	}
	if t.survey.eightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if l.RequireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if dsn && !t.probe {
		if l.Ret == "FULL" || l.Ret == "HDRS" {
			b.WriteString(" RET=" + l.Ret)
		}
		if id := xtext(l.EnvID); id != "" && len(id) <= 100 { // RFC 3461 section 4.4
			b.WriteString(" ENVID=" + id)
		}
	}
	return b.String()
}

var (
	notify   = regexp.MustCompile(`^(NEVER|(SUCCESS|FAILURE|DELAY)(,(SUCCESS|FAILURE|DELAY)){0,2})$`)
	addrType = regexp.MustCompile(`^[A-Za-z0-9-]{1,20}$`)
)

// rcptParams are those of RFC 3461 sections 4.1 and 4.2; what would not be valid is left out.
func rcptParams(r message.Recipient, dsn bool) string {
	if !dsn {
		return ""
	}
	var b strings.Builder
	if n := strings.Join(r.Notify, ","); notify.MatchString(n) {
		b.WriteString(" NOTIFY=" + n)
	}
	if kind, addr, ok := strings.Cut(r.ORcpt, ";"); ok && addrType.MatchString(kind) && addr != "" {
		if x := xtext(addr); len(kind)+1+len(x) <= 500 {
			b.WriteString(" ORCPT=" + kind + ";" + x)
		}
	}
	return b.String()
}

// xtext encodes as RFC 3461 section 4 has it.
func xtext(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c > 0x20 && c < 0x7f && c != '+' && c != '=' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "+%02X", c)
	}
	return b.String()
}

// wireSafe tells whether a name or address stays within its place on a command line, whoever built it. A quoted local part may hold
// spaces and brackets; elsewhere they would end the path.
func wireSafe(s string) bool {
	rest := s
	if strings.HasPrefix(s, `"`) {
		rest = ""
		for i := 1; i < len(s); i++ {
			if s[i] == '\\' {
				i++
			} else if s[i] == '"' {
				rest = s[i+1:]
				break
			}
		}
		if !strings.HasPrefix(rest, "@") {
			return false
		}
	}
	for _, c := range []byte(s) {
		if c < 0x20 || c == 0x7f {
			return false
		}
	}
	return !strings.ContainsAny(rest, " <>\"")
}
