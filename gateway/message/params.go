package message

import (
	"maps"
	"slices"
	"strings"
)

// parseParams reads "value; key=value; ..." of Content-Type and Content-Disposition (RFC 2045 section 5.1, RFC 2231). The value comes in lower
// case, keys too, parameter values decoded. fault says why another parser may read it otherwise, "" where it may not; mime.ParseMediaType
// is not used because it drops values in charsets other than UTF-8.
func parseParams(s string) (value string, params map[string]string, fault string) {
	value, rest, more := strings.Cut(s, ";")
	value = strings.ToLower(strings.Trim(value, " \t"))
	if !isValue(value) {
		fault = "a media type or disposition is malformed"
	}
	raw := map[string]string{}
	for more {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			break
		}
		var key, v string
		var ok bool
		key, rest, ok = strings.Cut(rest, "=")
		key = strings.ToLower(key)
		if !ok || !isToken(key) {
			fault = "a parameter is malformed"
			break
		}
		if v, rest, ok = paramValue(rest); !ok {
			fault = "a parameter is malformed"
			break
		}
		if key == "boundary" && (strings.ContainsAny(v, `\"`) || v != clean(v)) {
			fault = "a boundary holds signs that parsers read apart"
		}
		if _, twice := raw[key]; twice {
			fault = "the parameter " + known(key) + " stands twice"
		} else {
			raw[key] = v
		}
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			break
		}
		if rest[0] != ';' {
			fault = "a parameter is malformed"
			break
		}
		rest = rest[1:]
	}
	params, odd := joinParams(raw)
	if fault == "" {
		fault = odd
	}
	return value, params, fault
}

// known names a parameter in a reason; what strangers called their own is not repeated.
func known(key string) string {
	switch base, _, _ := strings.Cut(key, "*"); base {
	case "boundary", "charset", "name", "filename", "protocol":
		return base
	}
	return "of another name"
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	a, b, slash := strings.Cut(s, "/")
	return isToken(a) && (!slash || isToken(b))
}

func paramValue(s string) (v, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		n := strings.IndexAny(s, "; \t")
		if n < 0 {
			n = len(s)
		}
		// QUIRK: mailers leave non-ASCII, "/" or "=" without quotes; the end is clear all the same. A quote or comment inside is not.
		if n == 0 || strings.ContainsAny(s[:n], "\"()\\") {
			return "", "", false
		}
		return s[:n], s[n:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			// QUIRK: Windows mailers write paths in names without escaping the backslash; only \" and \\ are escapes.
			if i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
				i++
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// joinParams puts continued and encoded parameters (RFC 2231 sections 3 and 4) together.
func joinParams(raw map[string]string) (params map[string]string, fault string) {
	params = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(raw)) { // the RFC 2231 form comes behind the plain one for old readers, and wins
		base, star, starred := strings.Cut(key, "*")
		if starred && base == "boundary" {
			fault = "the boundary is written in pieces or encoded" // readers differ in whether they know that
		}
		if starred && star != "" && star != "0" && star != "0*" {
			if _, a := raw[base+"*0"]; a {
				continue
			}
			if _, a := raw[base+"*0*"]; !a {
				fault = "a continued parameter has no beginning"
			}
			continue
		}
		switch {
		case !starred:
			params[base] = clean(raw[key])
			if base == "name" || base == "filename" {
				params[base] = DecodeText(raw[key])
			}
		case star == "":
			params[base] = decodeExtended(raw[key])
		default:
			params[base] = joinPieces(raw, base)
		}
	}
	return params, fault
}

func joinPieces(raw map[string]string, base string) string {
	var value, cs string
	for i := 0; ; i++ {
		key := base + "*" + itoa(i)
		v, plain := raw[key]
		if !plain {
			var enc bool
			if v, enc = raw[key+"*"]; !enc {
				break
			}
			if i == 0 {
				if p := strings.SplitN(v, "'", 3); len(p) == 3 {
					cs, v = p[0], p[2]
				}
			}
			v = unpercent(v)
		}
		value += v
	}
	return inCharset(value, cs)
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + itoa(i%10)
}

func decodeExtended(v string) string {
	p := strings.SplitN(v, "'", 3)
	if len(p) != 3 {
		return clean(unpercent(v))
	}
	return inCharset(unpercent(p[2]), p[0])
}

func inCharset(v, name string) string {
	if e, err := charset(name); err == nil && e != nil {
		if d, err := e.NewDecoder().String(v); err == nil {
			v = d
		}
	}
	return clean(v)
}

func unpercent(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			a, b := unhex(s[i+1]), unhex(s[i+2])
			if a >= 0 && b >= 0 {
				out = append(out, byte(a<<4|b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
