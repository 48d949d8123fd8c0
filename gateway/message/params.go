package message

import (
	"maps"
	"slices"
	"strconv"
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
		quoted := strings.HasPrefix(rest, `"`)
		if v, rest, ok = paramValue(rest); !ok {
			fault = "a parameter is malformed"
			break
		}
		if !quoted && !isToken(v) && strings.HasPrefix(value, "multipart/") { // some parsers take no word of such a field, and show no parts
			fault = "a parameter of a multipart lacks its quotes"
		}
		if key == "boundary" && (!isBoundary(v) || v != clean(v)) {
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
	pieces := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(raw)) { // the RFC 2231 form comes behind the plain one for old readers, and wins
		base, star, starred := strings.Cut(key, "*")
		if !starred {
			params[base] = clean(raw[key])
			if base == "name" || base == "filename" {
				params[base] = DecodeText(raw[key])
			}
			continue
		}
		if base == "boundary" {
			fault = "the boundary is written in pieces or encoded" // readers differ in whether they know that
		}
		if star == "" {
			v, ok := decodeExtended(raw[key])
			if !ok || both(params, base, v) {
				fault = "a parameter is encoded in a way that parsers read apart"
			}
			params[base] = v
			continue
		}
		n, err := strconv.Atoi(strings.TrimSuffix(star, "*"))
		if err != nil || n < 0 || strconv.Itoa(n) != strings.TrimSuffix(star, "*") {
			fault = "a parameter is malformed"
			continue
		}
		pieces[base]++
	}
	for _, base := range slices.Sorted(maps.Keys(pieces)) {
		n := pieces[base]
		v, joined, ok := joinPieces(raw, base)
		_, whole := raw[base+"*"]
		if !ok || whole || both(params, base, v) {
			fault = "a parameter is encoded in a way that parsers read apart"
		}
		if joined != n {
			fault = "a continued parameter lacks a piece, or has one twice"
		}
		params[base] = v
	}
	return params, fault
}

// both tells whether a parameter stands in the plain form as well and says something else. A name may: mailers give old readers one without
// accents; but not one of another kind of file.
func both(params map[string]string, base, v string) bool {
	plain, ok := params[base]
	if !ok || plain == v {
		return false
	}
	return base != "name" && base != "filename" || endsApart(plain, v)
}

// joinPieces gives the value and of how many pieces it is made.
func joinPieces(raw map[string]string, base string) (value string, n int, ok bool) {
	var cs string
	var joined strings.Builder
	for ok = true; ; n++ {
		key := base + "*" + strconv.Itoa(n)
		v, plain := raw[key]
		if !plain {
			var enc bool
			if v, enc = raw[key+"*"]; !enc {
				break
			}
			if n == 0 {
				p := strings.SplitN(v, "'", 3)
				if len(p) == 3 {
					cs, v = p[0], p[2]
				} else {
					ok = false
				}
			}
			var whole bool
			v, whole = unpercent(v)
			ok = ok && whole
		}
		joined.WriteString(v)
	}
	v, known := inCharset(joined.String(), cs)
	return v, n, ok && known
}

func decodeExtended(v string) (string, bool) {
	p := strings.SplitN(v, "'", 3)
	if len(p) != 3 {
		v, _ = unpercent(v)
		return clean(v), false
	}
	text, whole := unpercent(p[2])
	text, known := inCharset(text, p[0])
	return text, whole && known
}

func inCharset(v, name string) (_ string, known bool) {
	e, err := charset(name)
	if err == nil && e != nil {
		if d, err := e.NewDecoder().String(v); err == nil {
			v = d
		}
	}
	return clean(v), err == nil
}

func unpercent(s string) (_ string, whole bool) {
	out := make([]byte, 0, len(s))
	whole = true
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0 {
				out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
				i += 2
				continue
			}
			whole = false
		}
		out = append(out, s[i])
	}
	return string(out), whole
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
