package config

import (
	"fmt"
	"strings"
)

// expand puts environment variables into a scalar: ${VAR}, which must be set, and ${VAR:-default}, whose default also stands for an
// empty VAR as in a shell. $${ is a literal ${. It runs on values that were already parsed, so that a variable's content can never
// become a key or a list. Every other $ stays.
func expand(s string, getenv func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		inner, rest, ok := strings.Cut(s[i+2:], "}")
		if !ok {
			return "", fmt.Errorf("${ without } (write $${ for a literal ${)")
		}
		name, def, hasDefault := strings.Cut(inner, ":-")
		if !isName(name) {
			return "", fmt.Errorf("${...} holds no name of a variable (write ${NAME}, ${NAME:-default}, or $${ for a literal ${)")
		}
		value, set := getenv(name)
		switch {
		case set && (value != "" || !hasDefault):
			b.WriteString(value)
		case hasDefault:
			b.WriteString(def)
		default:
			return "", fmt.Errorf("environment variable %s is not set (${%s:-} makes it optional)", name, name)
		}
		s = rest
	}
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}
