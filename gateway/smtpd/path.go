package smtpd

import (
	"net/url"
	"regexp"
	"strconv"
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

// libraryForm is the command as the library gets it. It wants a domain behind `<postmaster>`, takes a SIZE of more than 32 bits for nonsense
// and knows two types of address in ORCPT.
func libraryForm(verb, arg string) string {
	switch verb {
	case "MAIL":
		if _, params, ok := splitPath(arg, "FROM:"); ok {
			arg = strings.TrimSuffix(arg, params) + hugeSize.ReplaceAllStringFunc(params, librarySize)
		}
	case "RCPT":
		if path, params, ok := splitPath(arg, "TO:"); ok {
			_, rest, _ := otherORcpt(params)
			arg = strings.TrimSuffix(arg, params) + rest
			if strings.EqualFold(path, "postmaster") {
				arg = "TO:<postmaster@localhost>" + rest
			}
		}
	}
	if arg == "" {
		return verb
	}
	return verb + " " + arg
}

var (
	hugeSize = regexp.MustCompile(`(?i) SIZE=[0-9]{10,20}\b`)
	orcpt    = regexp.MustCompile(`(?i: ORCPT)=([A-Za-z0-9-]{1,20});((?:[!-*,-<>-~]|\+[2-7][0-9A-F])+)(?: |$)`)
)

// librarySize gives what the library answers as too large (RFC 1870 section 3: a size has up to 20 digits).
func librarySize(param string) string {
	if _, err := strconv.ParseUint(param[len(" SIZE="):], 10, 32); err != nil {
		return " SIZE=4294967295"
	}
	return param
}

// otherORcpt gives the original recipient where its type is another than rfc822 and utf-8, x400 say (RFC 3461 section 4.2: any that is
// registered), as type;address without xtext, and the parameters without it.
func otherORcpt(params string) (typed, rest string, ok bool) {
	at := orcpt.FindStringSubmatchIndex(params)
	if at == nil {
		return "", params, false
	}
	kind, value := strings.ToLower(params[at[2]:at[3]]), params[at[4]:at[5]]
	if kind == "rfc822" || kind == "utf-8" {
		return "", params, false
	}
	decoded, err := url.PathUnescape(strings.NewReplacer("%", "%25", "+", "%").Replace(value))
	if err != nil || strings.ContainsFunc(decoded, isControl) {
		return "", params, false
	}
	return kind + ";" + decoded, params[:at[0]] + params[at[5]:], true
}
