package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

const dsigNS = ` xmlns="http://www.w3.org/2000/09/xmldsig#"`

// attack is a document and what a reader must say of it; taken: both readers must take it.
type attack struct {
	doc  []byte
	want string // in our error, "" is taken
	// xmlsec1 is lenient where we are strict: it may take what we do not, never the other way round.
	lenient bool
}

// attacks alter a good list of two domains in every way that has ever fooled a reader of signed XML.
func attacks(t testing.TB, w *world) map[string]attack {
	signer := w.inter.signer(nil, nil)
	plain := list(clock.Add(-time.Hour), gatewaytest.ListEntry{Domain: "valide.mssante.test", DN: dnOf("mx.peer.test")}, gatewaytest.ListEntry{Domain: "deux.mssante.test", DN: `CN=a,O="C H U  DE <X> & Y",C=FR`})
	good := string(sign(t, signer, plain))
	as := func(s *gatewaytest.ListSigner, h crypto.Hash, change func(string) string) []byte {
		t.Helper()
		b, err := s.SignAs(plain, h, change)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	swap := func(old, new string) []byte {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the list", old)
		}
		return []byte(strings.Replace(good, old, new, 1))
	}
	info := func(old, new string) []byte {
		return as(signer, crypto.SHA256, func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("no %q in SignedInfo", old)
			}
			return strings.Replace(s, old, new, 1)
		})
	}
	sig := regexp.MustCompile(`(?s)<Signature .*</Signature>`).FindString(good)
	domaine := "        <Domaine>\n            <Nom>evil.test</Nom>\n            <DNCertificatOperateur>CN=evil</DNCertificatOperateur>\n        </Domaine>\n"
	evil := strings.Replace(plain, "    </ListeDomaines>", domaine+"    </ListeDomaines>", 1)
	bare := strings.TrimPrefix(good, `<?xml version="1.0" encoding="UTF-8"?>`)
	ec := func(c elliptic.Curve) *gatewaytest.ListSigner { return w.inter.signer(nil, newKey(t, c)) }
	// A MAC under the public key, which everybody knows.
	macked := func() []byte {
		var signed string
		b := as(signer, crypto.SHA256, func(s string) string {
			signed = strings.Replace(s, "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmldsig-more#hmac-sha256", 1)
			return signed
		})
		m := hmac.New(sha256.New, signer.Cert.RawSubjectPublicKeyInfo)
		m.Write([]byte(signed))
		return regexp.MustCompile(`(?s)<SignatureValue>.*</SignatureValue>`).ReplaceAll(b, []byte("<SignatureValue>"+base64.StdEncoding.EncodeToString(m.Sum(nil))+"</SignatureValue>"))
	}
	sha1Signed := func() []byte {
		var signed string
		b := as(signer, crypto.SHA256, func(s string) string {
			signed = strings.Replace(s, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2000/09/xmldsig#rsa-sha1", 1)
			return signed
		})
		sum := sha1.Sum([]byte(signed))
		v, err := rsa.SignPKCS1v15(rand.Reader, signer.Key.(*rsa.PrivateKey), crypto.SHA1, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?s)<SignatureValue>.*</SignatureValue>`).ReplaceAll(b, []byte("<SignatureValue>"+base64.StdEncoding.EncodeToString(v)+"</SignatureValue>"))
	}
	sha1Sum := sha1.Sum([]byte(plain))
	reference := regexp.MustCompile(`(?s)<Reference .*</Reference>`)
	return map[string]attack{
		"good":                 {doc: []byte(good)},
		"good, no declaration": {doc: []byte(bare)},
		"good, BOM":            {doc: append([]byte("\xef\xbb\xbf"), good...)},
		"good, SHA-384":        {doc: as(signer, crypto.SHA384, nil)},
		"good, SHA-512":        {doc: as(signer, crypto.SHA512, nil)},
		"good, ECDSA P-256":    {doc: as(ec(elliptic.P256()), crypto.SHA256, nil)},
		"good, ECDSA P-384":    {doc: as(ec(elliptic.P384()), crypto.SHA384, nil)},
		"good, ECDSA P-521":    {doc: as(ec(elliptic.P521()), crypto.SHA512, nil)},
		"good, CR LF":          {doc: []byte(strings.ReplaceAll(good, "\n", "\r\n"))},
		"good, references":     {doc: swap("<Nom>valide", "<Nom>&#118;&#x61;lide")},
		"good, > and quotes":   {doc: swap("&lt;X&gt;", "&lt;X>")},
		"good, space in tags":  {doc: swap("<Nom>valide.mssante.test</Nom>", "<Nom \n>valide.mssante.test</Nom\t>")},
		"good, quoted with '":  {doc: swap(`xmlns="https://listeblanche.mssante.fr/schema"`, `xmlns='https://listeblanche.mssante.fr/schema'`)},
		"good, space outside":  {doc: []byte("<?xml version='1.0' encoding='utf-8' standalone='yes' ?>\n\n" + bare + "\n \n")},
		"good, repeated ns":    {doc: swap("<Nom>", `<Nom xmlns="https://listeblanche.mssante.fr/schema">`)},

		"a domain changed":        {doc: swap("valide.mssante", "valida.mssante"), want: "digest"},
		"a domain added":          {doc: swap("    </ListeDomaines>", domaine+"    </ListeDomaines>"), want: "digest"},
		"white space changed":     {doc: swap("        <Domaine>", "       <Domaine>"), want: "digest"},
		"CR by reference":         {doc: swap("</Nom>\n", "</Nom>&#13;\n"), want: "digest"},
		"an attribute added":      {doc: swap("<Nom>", `<Nom a="b">`), want: "digest"},
		"attribute of the root":   {doc: swap("<ListeBlancheMSSante ", `<ListeBlancheMSSante Id="x" `), want: "digest"},
		"date changed":            {doc: swap(clock.Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "2036-01-01T00:00:00Z"), want: "digest"},
		"signature value changed": {doc: regexp.MustCompile(`<SignatureValue>....`).ReplaceAll([]byte(good), []byte("<SignatureValue>AAAA")), want: "key of its certificate"},
		"digest value changed":    {doc: regexp.MustCompile(`<DigestValue>....`).ReplaceAll([]byte(good), []byte("<DigestValue>AAAA")), want: "digest"},
		"unsigned":                {doc: []byte(plain), want: "not signed"},
		"empty":                   {doc: nil, want: "too early"},
		"cut":                     {doc: []byte(good[:len(good)-1]), want: "no end"},

		"two signatures":         {doc: []byte(strings.Replace(good, sig, sig+sig, 1)), want: "behind the signature", lenient: true},
		"two references":         {doc: info("<Reference ", reference.FindString(good)+"<Reference "), want: "nothing else", lenient: true},
		"no reference":           {doc: as(signer, crypto.SHA256, func(s string) string { return reference.ReplaceAllString(s, "") }), want: "nothing else", lenient: true},
		"reference to an id":     {doc: info(`URI=""`, `URI="#x"`), want: "whole document"},
		"reference without URI":  {doc: info(`<Reference URI="">`, `<Reference>`), want: "URI", lenient: true},
		"reference by XPointer":  {doc: info(`URI=""`, `URI="#xpointer(/)"`), want: "whole document", lenient: true},
		"reference with Type":    {doc: info(`<Reference URI="">`, `<Reference Type="x" URI="">`), want: "URI", lenient: true},
		"c14n with comments":     {doc: info(`xml-exc-c14n#"></Can`, `xml-exc-c14n#WithComments"></Can`), want: "canonicalization", lenient: true},
		"inclusive c14n":         {doc: info(`<CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"`, `<CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"`), want: "canonicalization", lenient: true},
		"no enveloped transform": {doc: info(`<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform>`, ""), want: "nothing else"},
		"transforms swapped":     {doc: info(`<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform><Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></Transform>`, `<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></Transform><Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform>`), want: "transform", lenient: true},
		"an XPath transform":     {doc: info(`<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></Transform>`, `<Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><XPath>1</XPath></Transform>`), want: "transform", lenient: true},
		"a third transform":      {doc: info(`</Transforms>`, `<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></Transform></Transforms>`), want: "nothing else", lenient: true},
		"inclusive namespaces":   {doc: info(`xml-exc-c14n#"></Transform>`, `xml-exc-c14n#"><InclusiveNamespaces xmlns="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="x"></InclusiveNamespaces></Transform>`), want: "namespace", lenient: true},
		"SHA-1 signature":        {doc: sha1Signed(), want: "signature method", lenient: true},
		"SHA-1 digest": {doc: as(signer, crypto.SHA256, func(s string) string {
			s = strings.Replace(s, "2001/04/xmlenc#sha256", "2000/09/xmldsig#sha1", 1)
			return regexp.MustCompile(`<DigestValue>.*</DigestValue>`).ReplaceAllString(s, "<DigestValue>"+base64.StdEncoding.EncodeToString(sha1Sum[:])+"</DigestValue>")
		}), want: "digest", lenient: true},
		"HMAC of the public key":   {doc: macked(), want: "signature method"},
		"HMAC with a short output": {doc: info(`rsa-sha256"></SignatureMethod>`, `hmac-sha256"><HMACOutputLength>8</HMACOutputLength></SignatureMethod>`), want: "nothing else"},
		"RSA as ECDSA":             {doc: info("rsa-sha256", "ecdsa-sha256"), want: "does not fit"},
		"ECDSA as RSA":             {doc: as(ec(elliptic.P256()), crypto.SHA256, func(s string) string { return strings.Replace(s, "ecdsa-", "rsa-", 1) }), want: "does not fit"},
		"ECDSA as ASN.1":           {doc: asn1Signature(t, ec(elliptic.P256()), plain), want: "key of its certificate"},
		"no algorithm":             {doc: info(` Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"`, ""), want: "signature method"},

		"wrapped: evil root around":     {doc: []byte(strings.Replace(evil, "</ListeBlancheMSSante>", bare+"</ListeBlancheMSSante>", 1)), want: "no signature may be"},
		"wrapped: good list in Object":  {doc: []byte(strings.Replace(evil, "</ListeBlancheMSSante>", strings.Replace(sig, "</Signature>", "<Object>"+plain+"</Object></Signature>", 1)+"</ListeBlancheMSSante>", 1)), want: "namespace of signatures"},
		"wrapped: Object of its own":    {doc: swap("</Signature>", "<Object></Object></Signature>"), want: "nothing else", lenient: true},
		"wrapped: signature in Domaine": {doc: []byte(strings.Replace(plain, "    </ListeDomaines>", "    "+sig+"</ListeDomaines>", 1)), want: "no signature may be", lenient: true},
		"wrapped: signature as root":    {doc: []byte(sig), want: "no signature may be"},
		"wrapped: evil behind":          {doc: swap("</Signature>", "</Signature>"+domaine), want: "behind the signature"},
		"wrapped: second root":          {doc: []byte(good + evil), want: "second root"},
		"wrapped: signature first":      {doc: []byte(strings.Replace(strings.Replace(good, sig, "", 1), "\n    <DateDeG", sig+"\n    <DateDeG", 1)), want: "behind the signature", lenient: true},
		"Signature of no namespace":     {doc: swap("<Nom>", "<Signature></Signature><Nom>"), want: "no signature may be"},

		"two certificates": {doc: swap("</X509Data>", "<X509Certificate>"+base64.StdEncoding.EncodeToString(w.root.cert.Raw)+"</X509Certificate></X509Data>"), want: "nothing else", lenient: true},
		"KeyValue":         {doc: swap("<KeyInfo>", "<KeyInfo><KeyName>x</KeyName>"), want: "nothing else", lenient: true},
		"no KeyInfo":       {doc: regexp.MustCompile(`(?s)<KeyInfo>.*</KeyInfo>`).ReplaceAll([]byte(good), nil), want: "nothing else"},
		"Id on Signature":  {doc: swap("<Signature"+dsigNS, `<Signature Id="x"`+dsigNS), want: "attributes", lenient: true},

		"DTD":                    {doc: []byte(`<!DOCTYPE x>` + bare), want: "DTD", lenient: true},
		"entity":                 {doc: []byte(`<!DOCTYPE x [<!ENTITY a "valide">]>` + strings.Replace(bare, "<Nom>valide", "<Nom>&a;", 1)), want: "DTD", lenient: true},
		"unknown entity":         {doc: swap("<Nom>valide", "<Nom>&valide;"), want: "reference"},
		"external entity":        {doc: []byte(`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>` + strings.Replace(bare, "<Nom>valide", "<Nom>&a;", 1)), want: "DTD"},
		"billion laughs":         {doc: []byte(`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>` + strings.Replace(bare, "<Nom>valide", "<Nom>&b;", 1)), want: "DTD"},
		"comment in a name":      {doc: swap("<Nom>valide", "<Nom>val<!-- -->ide"), want: "comments", lenient: true},
		"comment outside":        {doc: []byte(good + "<!-- -->"), want: "comments", lenient: true},
		"CDATA":                  {doc: swap("<Nom>valide", "<Nom><![CDATA[valide]]>"), want: "CDATA", lenient: true},
		"processing instruction": {doc: swap("<Nom>valide", "<Nom><?x y?>valide"), want: "processing"},
		"style sheet":            {doc: []byte(strings.Replace(good, "?>", "?><?xml-stylesheet href='x'?>", 1)), want: "processing"},
		"]]> in a text":          {doc: swap("Domaine de messagerie", "Domaine ]]> de messagerie"), want: "]]>"},
		"prefix":                 {doc: swap("<ListeBlancheMSSante ", `<ListeBlancheMSSante xmlns:x="https://listeblanche.mssante.fr/schema" `), want: "no quoted value", lenient: true},
		"prefixed element":       {doc: []byte(strings.NewReplacer("<Nom>", "<x:Nom>", "</Nom>", "</x:Nom>", "<ListeBlancheMSSante ", `<ListeBlancheMSSante xmlns:x="https://listeblanche.mssante.fr/schema" `).Replace(good)), want: "no quoted value"},
		"xml:base":               {doc: swap("<Nom>", `<Nom xml:base="x">`), want: "no quoted value"},
		"another namespace":      {doc: swap("<Nom>", `<Nom xmlns="http://evil.test/">`), want: "namespace"},
		"no namespace":           {doc: swap("<Nom>", `<Nom xmlns="">`), want: "namespace"},
		"signature's namespace":  {doc: swap("<Nom>", `<Nom xmlns="http://www.w3.org/2000/09/xmldsig#">`), want: "no signature may be"},
		"two xmlns":              {doc: swap("<Nom>", `<Nom xmlns="https://listeblanche.mssante.fr/schema" xmlns="https://listeblanche.mssante.fr/schema">`), want: "twice"},
		"attribute twice":        {doc: swap("<Nom>", `<Nom a="1" a="2">`), want: "twice"},
		"attribute flood":        {doc: swap("<Nom>", "<Nom"+attributes(2000)+">"), want: "attributes"},
		"long attribute":         {doc: swap("<Nom>", `<Nom a="`+strings.Repeat("x", 1<<20)+`">`), want: "over 65536"},
		"deep":                   {doc: swap("<Nom>", strings.Repeat("<a>", 100000)+"<Nom>"), want: "deeper"},
		"endless name":           {doc: []byte("<" + strings.Repeat("a", 1<<20)), want: "over 65536"},
		"long text":              {doc: swap("Domaine de messagerie", strings.Repeat("x", 1<<20)), want: "over 65536"},
		"long signature":         {doc: swap("<SignatureValue>", "<SignatureValue>"+strings.Repeat("<a>x</a>", 10000)), want: "larger than"},
		"tags crossed":           {doc: swap("</Nom>", "</Domaine>"), want: "has no begin"},
		"NUL":                    {doc: swap("<Nom>valide", "<Nom>val\x00ide"), want: "not XML"},
		"NUL by reference":       {doc: swap("<Nom>valide", "<Nom>val&#0;ide"), want: "not XML"},
		"no UTF-8":               {doc: swap("<Nom>valide", "<Nom>val\xe9ide"), want: "UTF-8"},
		"surrogate":              {doc: swap("<Nom>valide", "<Nom>val&#xD800;ide"), want: "reference"},
		"Latin-1 declared":       {doc: swap(`encoding="UTF-8"`, `encoding="ISO-8859-1"`), want: "declaration"},
		"XML 1.1":                {doc: swap(`version="1.0"`, `version="1.1"`), want: "declaration", lenient: true},
		"UTF-16":                 {doc: []byte("\xff\xfe<\x00?\x00x\x00m\x00l\x00"), want: "outside of the root"},
		"text before the root":   {doc: []byte("x" + bare), want: "outside of the root"},
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` a%d=""`, i)
	}
	return b.String()
}

// asn1Signature holds r and s as X.509 has them, not as XML signatures do.
func asn1Signature(t testing.TB, s *gatewaytest.ListSigner, plain string) []byte {
	var signed string
	b, err := s.SignAs(plain, crypto.SHA256, func(s string) string { signed = s; return s })
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(signed))
	v, err := ecdsa.SignASN1(rand.Reader, s.Key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?s)<SignatureValue>.*</SignatureValue>`).ReplaceAll(b, []byte("<SignatureValue>"+base64.StdEncoding.EncodeToString(v)+"</SignatureValue>"))
}

// TestAttacks: only the good lists are taken, whatever is done to them; xmlsec1 takes the good ones too, and none that we take and it refuses.
func TestAttacks(t *testing.T) {
	w := listedWorld(t)
	s := w.space()
	xmlsec := hasXMLSec(t)
	for name, a := range attacks(t, w) {
		t.Run(name, func(t *testing.T) {
			l, err := s.readWhiteList(bytes.NewReader(a.doc), int64(len(a.doc)))
			switch {
			case a.want == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case a.want == "":
				if len(l.names) != 2 || l.names["valide.mssante.test"] == nil || l.names["deux.mssante.test"][0].String() != "CN=a,O=C H U DE <X> & Y,C=FR" {
					t.Errorf("read %v", l.names)
				}
			case err == nil:
				t.Fatal("it was taken")
			case !strings.Contains(err.Error(), a.want):
				t.Errorf("got %q, want %q", err, a.want)
			}
			if !xmlsec {
				return
			}
			told, other := xmlsecVerify(t, w, a.doc)
			if a.want == "" && other != nil {
				t.Errorf("xmlsec1 refuses it: %s", told)
			}
			if a.want != "" && !a.lenient && other == nil {
				t.Errorf("xmlsec1 takes it")
			}
		})
	}
}

func hasXMLSec(t *testing.T) bool {
	_, err := exec.LookPath("xmlsec1")
	if err != nil && !testing.Short() {
		t.Fatal("xmlsec1 is missing (Debian package xmlsec1)")
	}
	return err == nil
}

// xmlsecVerify asks xmlsec1 with the same roots.
func xmlsecVerify(t *testing.T, w *world, doc []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	f := func(name string, b []byte) string {
		write(t, filepath.Join(dir, name), b)
		return filepath.Join(dir, name)
	}
	root, inter := filepath.Join(dir, "root.pem"), filepath.Join(dir, "inter.pem")
	writePEM(t, root, "CERTIFICATE", w.root.cert.Raw)
	writePEM(t, inter, "CERTIFICATE", w.inter.cert.Raw)
	out, err := exec.CommandContext(t.Context(), "xmlsec1", "--verify", "--enabled-key-data", "x509", "--trusted-pem", root, "--untrusted-pem", inter, f("list.xml", doc)).CombinedOutput()
	return string(out), err
}

// TestXMLSecSigns: what xmlsec1 signs of a list that is written in odd ways, we take.
func TestXMLSecSigns(t *testing.T) {
	if !hasXMLSec(t) {
		t.Skip("-short")
	}
	w := listedWorld(t)
	s := w.space()
	signer := w.inter.signer(nil, nil)
	key, err := x509.MarshalPKCS8PrivateKey(signer.Key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, w.file("signer.key"), "PRIVATE KEY", key)
	writePEM(t, w.file("signer.pem"), "CERTIFICATE", signer.Cert.Raw)
	template := `<Signature` + dsigNS + `><SignedInfo><CanonicalizationMethod Algorithm="` + algExcC14N + `"/>
 <SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>
 <Reference URI=""><Transforms><Transform Algorithm="` + algEnveloped + `"/> <Transform Algorithm="` + algExcC14N + `"/></Transforms><DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference>
 </SignedInfo><SignatureValue/><KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature>`
	odd := "<?xml version=\"1.0\"?>\r\n<ListeBlancheMSSante b='2' xmlns='https://listeblanche.mssante.fr/schema'\n a=\"&#9;1&#10; &lt;&quot;&amp;'>\"\t>\r\n<DateDeGeneration\n>" +
		clock.Add(-time.Hour).UTC().Format(time.RFC3339) + "</DateDeGeneration>\r<ListeDomaines><Domaine><Nom>\n Valide.MSSANTE.test\t</Nom><Description/>" +
		"<DNCertificatOperateur>CN=é\u00a0x,O=&quot;A &#38; B&quot; &#xD;&#13;]] &gt; &apos;,C=FR</DNCertificatOperateur></Domaine></ListeDomaines>\r\n" + template + "\r\n</ListeBlancheMSSante  >\n"
	odd = strings.Replace(odd, "'>\"", "'\"", 1) // a > in a value is XML, and not taken
	write(t, w.file("odd.xml"), []byte(odd))
	out, err := exec.CommandContext(t.Context(), "xmlsec1", "--sign", "--privkey-pem", w.file("signer.key")+","+w.file("signer.pem"), "--output", w.file("signed.xml"), w.file("odd.xml")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	signed, err := os.ReadFile(w.file("signed.xml"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.readWhiteList(bytes.NewReader(signed), int64(len(signed)))
	if err != nil {
		t.Fatalf("%v\n%s", err, signed)
	}
	if dns := l.names["valide.mssante.test"]; len(dns) != 1 || dns[0].String() != `CN=é x,O="A & B" ]] > ',C=FR` {
		t.Errorf("read %v", l.names)
	}
}

// TestSixtyFourMegabytes: what is larger is not read to its end, as it comes or in its canonical form, and costs no more than that.
func TestSixtyFourMegabytes(t *testing.T) {
	w := listedWorld(t)
	s := w.space()
	begin := `<ListeBlancheMSSante xmlns="https://listeblanche.mssante.fr/schema">`
	for name, c := range map[string]struct{ unit, want string }{
		"text":      {strings.Repeat("x", 60000) + "<a></a>", "larger than 67108864"},
		"canonical": {strings.Repeat(">", 60000) + "<a></a>", "canonical form"},
	} {
		r := &endless{head: []byte(begin), unit: []byte(c.unit)}
		if _, err := s.readWhiteList(r, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if r.given > maxSigned+1<<20 {
			t.Errorf("%s: %d octets were read", name, r.given)
		}
	}
}

type endless struct {
	head, unit []byte
	given      int
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) == 0 {
		e.head = e.unit
	}
	n := copy(p, e.head)
	e.head = e.head[n:]
	e.given += n
	return n, nil
}

// FuzzSigned: no input panics, hangs or is taken that was not signed; and the canonical form of what can be read is its own canonical form.
func FuzzSigned(f *testing.F) {
	w := listedWorld(f)
	s := w.space()
	for _, a := range attacks(f, w) {
		if len(a.doc) < 20000 {
			f.Add(a.doc)
		}
	}
	good := attacks(f, w)["good"].doc
	want, err := s.readWhiteList(bytes.NewReader(good), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		covered, _, err := splitSigned(bytes.NewReader(doc), int64(len(doc)))
		if err != nil {
			return
		}
		i := bytes.LastIndex(covered, []byte("</"))
		again := string(covered[:i]) + "<Signature" + dsigNS + "></Signature>" + string(covered[i:])
		twice, _, err := splitSigned(strings.NewReader(again), 0)
		if err != nil || !bytes.Equal(twice, covered) {
			t.Fatalf("canonical form is not stable (%v):\n%q\n%q", err, covered, twice)
		}
		parseWhiteList(covered)
		if l, err := s.readWhiteList(bytes.NewReader(doc), 0); err == nil && len(l.names) != len(want.names) {
			t.Fatalf("taken with %v", l.names)
		}
	})
}
