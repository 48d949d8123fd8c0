package vault

import "strings"

// Receipt tells a sender how his message stands with each recipient, French then English, with the link to its page: all that a mail to him
// says, in plain text.
func (v *Vault) Receipt(s *Sending, what Summary) (subject, text string) {
	about := ""
	switch {
	case s.Undelivered():
		about = "lost"
	case s.Asks():
		about = "ask"
	case what == NotOpened:
		about = "unopened"
	case what == AllSettled && s.allOpened():
		about = "opened"
	case what == AllSettled:
		about = "end"
	default:
		about = "sent"
	}
	part := func(lang string) string {
		var b strings.Builder
		b.WriteString(v.cfg.sentence(lang, "receipt."+about) + "\n\n")
		for _, d := range s.Deposits {
			b.WriteString("  " + d.Recipient.String() + "\n      " + v.Stands(d, lang) + "\n")
		}
		if s.holds() {
			b.WriteString("\n" + v.cfg.sentence(lang, "receipt.complete"))
		}
		return b.String() + "\n" + v.cfg.sentence(lang, "receipt.page") + "\n" + v.SendingLink(s.ID) + "\n"
	}
	return v.cfg.sentence("fr", "receipt.subject."+about), part("fr") + "\n--------------------\n\n" + part("en")
}
