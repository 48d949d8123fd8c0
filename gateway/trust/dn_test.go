package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"unicode"
)

// certOf makes a certificate that has a subject and nothing else; each name is "oid=value", a "+" before it puts it into the set before.
func certOf(t testing.TB, names ...string) *x509.Certificate {
	t.Helper()
	var seq pkix.RDNSequence
	for _, n := range names {
		kind, value, _ := strings.Cut(n, "=")
		same := strings.HasPrefix(kind, "+")
		var oid asn1.ObjectIdentifier
		for dotted, short := range oids {
			if short == strings.TrimPrefix(kind, "+") {
				for _, p := range strings.Split(dotted, ".") {
					num := 0
					for _, c := range p {
						num = num*10 + int(c-'0')
					}
					oid = append(oid, num)
				}
			}
		}
		if oid == nil {
			t.Fatalf("unknown type in %s", n)
		}
		a := pkix.AttributeTypeAndValue{Type: oid, Value: value}
		if same {
			seq[len(seq)-1] = append(seq[len(seq)-1], a)
		} else {
			seq = append(seq, pkix.RelativeDistinguishedNameSET{a})
		}
	}
	raw, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{RawSubject: raw}
	c.Subject.FillFromRDNSequence(&seq)
	return c
}

func TestCompareDN(t *testing.T) {
	plain := []string{"C=FR", "ST=Haute-Garonne (31)", "O=GIP EXEMPLE", "OU=318000000000018", "CN=smtp1.exemple.fr"}
	with := func(o string) []string { return []string{"C=FR", "O=" + o, "CN=a"} }
	for _, c := range []struct {
		want string
		cert []string
		ok   bool
	}{
		{"CN=smtp1.exemple.fr,OU=318000000000018,O=GIP EXEMPLE,ST=Haute-Garonne (31),C=FR", plain, true},
		{"C=FR, ST=Haute-Garonne (31), O=GIP EXEMPLE, OU=318000000000018, CN=smtp1.exemple.fr", plain, true},
		{"cn=smtp1.exemple.fr , ou=318000000000018,o=GIP  EXEMPLE,s=Haute-Garonne (31);2.5.4.6=FR", plain, true},
		{"CN=smtp1.exemple.fr,O=GIP EXEMPLE,OU=318000000000018,ST=Haute-Garonne (31),C=FR", plain, false}, // other order
		{"CN=smtp1.exemple.fr,OU=318000000000018,O=GIP EXEMPLE,L=Haute-Garonne (31),C=FR", plain, false},
		{"CN=smtp1.exemple.fr,OU=318000000000018,O=gip exemple,ST=Haute-Garonne (31),C=FR", plain, false},
		{"CN=smtp1.exemple.fr,OU=318000000000018,O=GIP EXEMPLE,C=FR", plain, false},
		{"CN=smtp1.exemple.fr", plain, false},
		{`CN=a,O="C H U  DE  LIMOGES",C=FR`, with("C H U  DE  LIMOGES"), true},
		{`CN=a,O="C H U  DE  LIMOGES",C=FR`, with("C H U DE LIMOGES"), true},
		{`CN=a,O=CRLCC "PAUL STRAUSS",C=FR`, with(`CRLCC "PAUL STRAUSS"`), true},
		{`CN=a,O=CRLCC \"PAUL STRAUSS\",C=FR`, with(`CRLCC "PAUL STRAUSS"`), true},
		{`CN=a,O="CRLCC \"PAUL STRAUSS\"",C=FR`, with(`CRLCC "PAUL STRAUSS"`), true},
		{`CN=a,O="PAUL" STRAUSS,C=FR`, with(`"PAUL" STRAUSS`), true},
		{`CN=a,O="PAUL STRAUSS",C=FR`, with(`"PAUL STRAUSS"`), true},
		{`CN=a,O="X, Y + Z",C=FR`, with("X, Y + Z"), true},
		{`CN=a,O="X, C=FR",C=FR`, with("X, C=FR"), true},
		{`CN=a,O=X\, C\=FR,C=FR`, with("X, C=FR"), true},
		{`CN=a,O=X, Y,C=FR`, with("X, Y"), true},
		{`CN=a,O=CH \C3\89T\C3\89,C=FR`, with("CH ÉTÉ"), true},
		{"CN=a,O=CH E\u0301TE\u0301,C=FR", with("CH ÉTÉ"), true},
		{"CN=a,O=CH ETE,C=FR", with("CH ÉTÉ"), false},
		{"CN=a,O=A\u00a0B,C=FR", with("A B"), true},
		{"CN=a,O=A B,C=FR", with("A\u202fB "), true},
		{"CN=a+OU=u,C=FR", []string{"C=FR", "OU=u", "+CN=a"}, true},
		{"CN=a+OU=u,C=FR", []string{"C=FR", "OU=u", "CN=a"}, false},
		{"CN=a+CN=a,C=FR", []string{"C=FR", "CN=a", "+CN=b"}, false},
		{"CN=a,C=FR", []string{"C=FR,CN=a"}, false},
		{"", plain, false},
		{"CN=", plain, false},
		{"CN", plain, false},
		{strings.Repeat("CN=a,", 50) + "C=FR", plain, false},
		{"CN=" + strings.Repeat("a", maxDN), plain, false},
	} {
		err := CompareDN(c.want, certOf(t, c.cert...))
		if (err == nil) != c.ok {
			t.Errorf("%s with %q: got %v, want %v", c.want, c.cert, err, c.ok)
		}
	}
	if err := CompareDN("CN=a", &x509.Certificate{RawSubject: []byte{0x30, 0x05}}); err == nil {
		t.Error("a malformed subject was taken")
	}
}

// FuzzCompareDN: no DN of the list crashes or fits the empty subject; what Go writes of a subject is that subject; a single attribute fits
// only the value that it spells.
func FuzzCompareDN(f *testing.F) {
	for _, s := range []string{"CN=a,C=FR", `O="a, b"`, `O=a "b" c`, `CN=\C3\89`, "CN=a+O=b", `CN="`, `CN=\`, ",,=", "CN= x"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, list, value string) {
		if CompareDN(list, certOf(t)) == nil {
			t.Fatalf("%q fits an empty subject", list)
		}
		CompareDN(list, certOf(t, "C=FR", "CN=x"))
		if len(value) > 200 || strings.ToValidUTF8(value, "") != value || normal(value) == "" || strings.ContainsFunc(value, unicode.IsControl) {
			return
		}
		c := certOf(t, "C=FR", "O="+value, "CN=x")
		if err := CompareDN(dnText(c), c); err != nil {
			t.Fatalf("what Go writes: %v", err)
		}
		if CompareDN("CN=x,O=other"+"\u2603"+",C=FR", c) == nil && normal(value) != "other\u2603" {
			t.Fatalf("%q is taken for another", value)
		}
	})
}
