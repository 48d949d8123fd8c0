package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Bucket is what pickup.blobs names.
type Bucket struct {
	Name, Prefix, Endpoint, Region, Key, CA string
	Secret                                  Secret
}

// ParseBucket reads s3://bucket/prefix?endpoint=https://host&region=...&key=...&secret=...[&ca=file]. A + in a value is a plus: secrets have them.
// The error repeats nothing of the value.
func ParseBucket(s string) (b Bucket, err error) {
	head, query, _ := strings.Cut(s, "?")
	rest, ok := strings.CutPrefix(head, "s3://")
	if !ok {
		return b, errors.New("must begin with s3://bucket")
	}
	b.Name, b.Prefix, _ = strings.Cut(rest, "/")
	if b.Name == "" || strings.ContainsAny(b.Name, "@: ") {
		return b, errors.New("must begin with s3://bucket; keys stand behind the ?")
	}
	if b.Prefix = strings.Trim(b.Prefix, "/"); b.Prefix != "" {
		b.Prefix += "/"
	}
	var secret string
	fields := map[string]*string{"endpoint": &b.Endpoint, "region": &b.Region, "key": &b.Key, "secret": &secret, "ca": &b.CA}
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		f := fields[name]
		if f == nil || *f != "" {
			return b, errors.New("has one each of endpoint, region, key, secret and ca behind its ?, and no more")
		}
		if *f, err = url.PathUnescape(value); err != nil {
			return b, fmt.Errorf("has a %% in %s that begins no code (%%25 is a percent sign)", name)
		}
	}
	b.Secret = Secret(secret)
	for _, name := range []string{"endpoint", "region", "key", "secret"} {
		if *fields[name] == "" {
			return b, fmt.Errorf("has no %s (s3://bucket?endpoint=https://host&region=...&key=...&secret=...)", name)
		}
	}
	return b, nil
}

// shared checks where several gateways keep their deposits.
func (v *validator) shared() {
	p := v.c.Pickup
	if (p.Database == "") != (p.Blobs == "") {
		v.fault("pickup.database", "and pickup.blobs go together: each deposit has a row and a payload, and every gateway needs both")
	}
	if p.Database != "" && v.ok("pickup.database") {
		if fault := databaseFault(p.Database.Reveal()); fault != "" {
			v.fault("pickup.database", "%s", fault)
		}
	}
	if p.Blobs == "" || !v.ok("pickup.blobs") {
		return
	}
	b, err := ParseBucket(p.Blobs.Reveal())
	if err != nil {
		v.fault("pickup.blobs", "%s", err)
		return
	}
	u, err := url.Parse(b.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		v.fault("pickup.blobs", "endpoint must be https://host[:port]")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		v.fault("pickup.blobs", "endpoint must be https: http is for loopback alone")
	}
}

// databaseFault says what is wrong with a connection string, "" for nothing, and repeats nothing of it.
func databaseFault(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Trim(u.Path, "/") == "" {
		return "must be postgres://user:password@host/name?sslmode=verify-full (a password with signs of its own percent-encoded)"
	}
	q, host := u.Query(), u.Hostname()
	for key, values := range q { // of two the driver takes the last
		if len(values) > 1 || key == "service" || key == "servicefile" {
			return "has a parameter twice, or a service file: what holds stands there once"
		}
	}
	if h := q.Get("host"); h != "" {
		host = h
	}
	for host := range strings.SplitSeq(host, ",") {
		here := host == "" || strings.HasPrefix(host, "/") || loopback(host)
		if mode := q.Get("sslmode"); !here && mode != "verify-full" && (mode != "verify-ca" || q.Get("sslrootcert") == "") {
			return "must have sslmode=verify-full (or verify-ca with sslrootcert): names of patients and the password would cross the network to whoever answers"
		}
	}
	return ""
}
