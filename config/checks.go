package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// The checks of one value each; every one says nothing where an earlier fault already spoke of the key.

func (v *validator) oneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) && v.ok(key) {
		v.fault(key, "%q is none of %s", value, strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), ", "))
	}
}

func (v *validator) file(key, path string) {
	if path == "" || !v.ok(key) {
		return
	}
	if err := v.files(path); err != nil {
		if dir := join(parent(key), "tls_dir"); !v.seen(key) && v.seen(dir) {
			key = dir // the path was made from it
		}
		v.fault(key, "%s: %v", path, err)
	}
}

func (v *validator) tls(key, dir, cert, key2 string) {
	v.file(key+".cert", cert)
	v.file(key+".key", key2)
	if (cert == "") != (key2 == "") && v.ok(key+".cert") && v.ok(key+".key") {
		v.fault(key, "cert and key must be set together")
	}
}

func (v *validator) networks(key string, list []string) {
	for i, n := range list {
		if _, err := ParsePrefix(n); err != nil {
			v.fault(index(key, i), "%v", err)
		}
	}
}

// baseDN is what every mail program takes and nobody has to escape.
var baseDN = regexp.MustCompile(`^(?i:(o|ou|dc|c|l)=[\pL\pN .-]*[\pL\pN](,|$))+$`)

func (v *validator) domains(key string, list []string) {
	for i, d := range list {
		v.domain(index(key, i), d)
	}
}

func (v *validator) domain(key, d string) {
	if v.ok(key) && !isDomain(d) {
		v.fault(key, "%q is no domain name", d)
	}
}

func (v *validator) address(key, a string) {
	at := strings.LastIndexByte(a, '@')
	if v.ok(key) && (at < 1 || at > 64 || strings.ContainsAny(a[:at], " \t\r\n<>\"@,;") || !isDomain(a[at+1:])) {
		v.fault(key, "%q is no mail address", a)
	}
}

func (v *validator) hostport(key, addr string) bool {
	if addr == "" || !v.ok(key) {
		return false
	}
	host, port, err := net.SplitHostPort(addr)
	n, numErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numErr != nil || n == 0 && !strings.HasPrefix(key, "listen.") {
		v.fault(key, "%q is no host:port", addr)
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" && strings.HasPrefix(key, "listen.") || isHost(host) {
		return true
	}
	v.fault(key, "%q names no host", addr)
	return false
}

// weburl wants https; http only where nothing leaves the machine. The value is not repeated: it may hold a key.
func (v *validator) weburl(key, s string, bare bool) {
	if !v.ok(key) {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		v.fault(key, "is no URL (https://host/...)")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		v.fault(key, "must be https: http is for loopback alone")
	case u.Scheme != "https" && u.Scheme != "http":
		v.fault(key, "must begin with https://")
	case bare && (u.User != nil || u.RawQuery != "" || u.Fragment != ""):
		v.fault(key, "must have no user, query or fragment: more is appended to it")
	}
}

// ParsePrefix reads a network: a prefix or a single address.
func ParsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is no network (write 192.0.2.0/24 or 192.0.2.7)", s)
}

func isDomain(s string) bool {
	if len(s) > 253 || strings.HasSuffix(s, ".") {
		return false
	}
	a, err := idna.Lookup.ToASCII(s)
	return err == nil && isHost(a) && strings.Contains(a, ".")
}

// isHost tells whether s is a host name of letters, digits and hyphens (RFC 1123 section 2.1); underscores live in containers' names.
func isHost(s string) bool {
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !(c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
				return false
			}
		}
	}
	return s != ""
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
