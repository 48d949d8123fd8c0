package smtpd

import (
	"strings"

	"passerelle/gateway/message"
)

// splitPath cuts `FROM:<path> parameters` as it came from the client into path and parameters. Unlike the library it demands the
// angle brackets of RFC 5321 section 4.1.2 and leaves quotes in the path alone.
func splitPath(arg, prefix string) (path, params string, ok bool) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", "", false
	}
	s := strings.TrimLeft(arg[len(prefix):], " \t") // QUIRK: a blank behind the colon is common
	if !strings.HasPrefix(s, "<") {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			path, params = s[1:i], s[i+1:]
			return path, params, params == "" || params[0] == ' '
		}
	}
	return "", "", false
}

// readPath reads the path of a MAIL or RCPT command. lib is the library's reading of the same: where the two disagree on what is
// the address, nobody knows what the parameters are, and the command is refused. raw is the path as written.
func readPath(arg, prefix, lib string, utf8 bool, refusal *Reply) (a message.Address, raw string, no *Reply) {
	raw, params, ok := splitPath(arg, prefix)
	if !ok || !soundParams(params, utf8) {
		return a, raw, errSyntax
	}
	if raw == "" && prefix == "FROM:" {
		if lib != "" {
			return a, raw, refusal
		}
		return a, raw, nil
	}
	if prefix == "TO:" && strings.EqualFold(raw, "postmaster") { // RFC 5321 section 4.1.1.3
		return message.Address{Local: raw}, raw, nil
	}
	path := raw
	if strings.HasPrefix(path, "@") { // RFC 5321 appendix C: source routes are stripped
		if _, path, ok = strings.Cut(path, ":"); !ok {
			return a, raw, refusal
		}
	}
	if !utf8 && strings.ContainsFunc(path, func(r rune) bool { return r >= 0x80 }) {
		return a, raw, &Reply{553, [3]int{5, 6, 7}, "Adresse non ASCII sans SMTPUTF8"}
	}
	a, err := message.ParseAddress(path, utf8)
	if err != nil || a.IsNull() || a.Local+path[strings.LastIndexByte(path, '@'):] != lib {
		return message.Address{}, raw, refusal
	}
	return a, raw, nil
}

// soundParams refuses a parameter given twice (the library lets the last one win) and 8-bit text outside SMTPUTF8.
func soundParams(params string, utf8 bool) bool {
	seen := map[string]bool{}
	for _, f := range strings.Fields(params) {
		key, _, _ := strings.Cut(strings.ToUpper(f), "=")
		if seen[key] || !utf8 && strings.ContainsFunc(f, func(r rune) bool { return r >= 0x80 }) {
			return false
		}
		seen[key] = true
	}
	return true
}

// libraryForm is the command as the library gets it: it wants a domain behind `<postmaster>`.
func libraryForm(verb, arg string) string {
	if verb == "RCPT" {
		if path, params, ok := splitPath(arg, "TO:"); ok && strings.EqualFold(path, "postmaster") {
			return "RCPT TO:<postmaster@localhost>" + params
		}
	}
	if arg == "" {
		return verb
	}
	return verb + " " + arg
}
