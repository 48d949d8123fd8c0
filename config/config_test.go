package config

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"passerelle/policy"
)

var update = flag.Bool("update", false, "write what was got into the .want files")

func noenv(string) (string, bool) { return "", false }

func env(kv ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1], true
			}
		}
		return "", false
	}
}

var anyFile = Files(func(string) error { return nil })

// onlyFiles knows the files below /ok and nothing else.
var onlyFiles = Files(func(p string) error {
	if strings.HasPrefix(p, "/ok") {
		return nil
	}
	return fs.ErrNotExist
})

const small = `
clinic: {domains: [clinic.test]}
hops: {clinic: {addr: "127.0.0.1:10026"}, internet: {addr: "192.0.2.1:25"}}
pickup: {url: "https://mail.clinic.test"}
`

func parse(t *testing.T, src string, getenv func(string) (string, bool)) *Config {
	t.Helper()
	c, err := Parse("test.yaml", []byte(src), getenv, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExampleLoads(t *testing.T) {
	c := parse(t, Example, noenv)
	if diff := cmp.Diff(policy.Starter(), c.Rules); diff != "" {
		t.Errorf("rules of the example are not the starter rules (-starter +example):\n%s", diff)
	}
	mismatches := policy.Verify(c.Policy, c.Expect, func(from, to string) (policy.Facts, error) {
		_, domain, _ := strings.Cut(to, "@")
		return policy.Facts{Sender: from, Recipient: to, RecipientDomain: domain, Verdict: policy.NotListed, Recipients: 1}, nil
	})
	for _, m := range mismatches {
		t.Error(m)
	}
}

// TestExampleStarts: with a server key alone, no other file and no variable, the example is good for a first observe start.
func TestExampleStarts(t *testing.T) {
	c, err := Parse("example.yaml", []byte(Example), noenv, Files(func(p string) error {
		if p == "/etc/passerelle/server.key" {
			return nil
		}
		return fs.ErrNotExist
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != "observe" || c.Hops["clinic"].Addr != "127.0.0.1:10026" || c.Hops["internet"].Addr != "127.0.0.1:10027" {
		t.Errorf("mode %s, hops %+v: not what deploy/postfix attaches to", c.Mode, c.Hops)
	}
}

// TestExampleDefaults holds what the example calls a default against Default.
func TestExampleDefaults(t *testing.T) {
	c, def := parse(t, Example, noenv), Default()
	for _, v := range []struct{ got, want any }{
		{c.StateDir, def.StateDir}, {c.Log, def.Log}, {c.Clinic.Networks, def.Clinic.Networks}, {c.Clinic.QueueLifetime, def.Clinic.QueueLifetime},
		{c.Limits, def.Limits}, {c.Listen.LMTP, def.Listen.LMTP}, {c.Listen.SMTP, def.Listen.SMTP}, {c.Listen.Metrics, def.Listen.Metrics}, {c.Listen.LDAP.Base, def.Listen.LDAP.Base},
		{c.Trust.ListedUnverified, def.Trust.ListedUnverified}, {c.Trust.WhiteList.Signer, def.Trust.WhiteList.Signer},
		{c.Trust.WhiteList.Every, def.Trust.WhiteList.Every}, {c.Trust.WhiteList.MaxAge, def.Trust.WhiteList.MaxAge}, {c.Trust.WhiteList.AlarmAge, def.Trust.WhiteList.AlarmAge},
		{c.Trust.WhiteList.Shrink, def.Trust.WhiteList.Shrink}, {c.Trust.Identities.Verify, def.Trust.Identities.Verify}, {c.Trust.Submission.TLS, def.Trust.Submission.TLS}, {c.Trust.Submission.Auth, def.Trust.Submission.Auth}, {c.Trust.Submission.MaxConns, def.Trust.Submission.MaxConns}, {c.Trust.PatientDomain, def.Trust.PatientDomain}, {c.Directory.MaxAge, def.Directory.MaxAge},
		{c.Directory.FHIR, def.Directory.FHIR},
		{c.Directory.LDAP.Attributes, def.Directory.LDAP.Attributes}, {c.Directory.LDAP.Filter, def.Directory.LDAP.Filter},
		{c.Directory.LDAP.StartTLS, def.Directory.LDAP.StartTLS}, {c.Directory.LDAP.Ask, def.Directory.LDAP.Ask},
		{c.Directory.LDAP.Every, def.Directory.LDAP.Every}, {c.Directory.LDAP.MaxAge, def.Directory.LDAP.MaxAge}, {c.Directory.LDAP.Verifies, def.Directory.LDAP.Verifies},
		{c.Directory.AlarmAge, def.Directory.AlarmAge}, {c.Directory.KnownAs, def.Directory.KnownAs}, {len(c.Directory.Precedence), len(def.Directory.Precedence)},
		{c.Directory.LDAP.Timeout, def.Directory.LDAP.Timeout}, {c.Directory.LDAP.SizeLimit, def.Directory.LDAP.SizeLimit},
		{c.Directory.Fetch.Every, def.Directory.Fetch.Every}, {c.Directory.Fetch.Shrink, def.Directory.Fetch.Shrink},
		{c.Encrypt.Subject, def.Encrypt.Subject}, {c.Encrypt.SMIME.Cipher, def.Encrypt.SMIME.Cipher}, {c.Encrypt.SMIME.Revocation, def.Encrypt.SMIME.Revocation}, {c.Encrypt.Harvest, def.Encrypt.Harvest}, {c.Encrypt.WKD.Trust + c.Encrypt.WKD.Unreachable, def.Encrypt.WKD.Trust + def.Encrypt.WKD.Unreachable}, {c.Encrypt.WKD.Timeout, def.Encrypt.WKD.Timeout}, {c.Encrypt.MinTrust, def.Encrypt.MinTrust},
		{c.Encrypt.Scope, def.Encrypt.Scope}, {c.Encrypt.KeepSubject, def.Encrypt.KeepSubject}, {c.Encrypt.Limits, def.Encrypt.Limits}, {c.Encrypt.PDF, def.Encrypt.PDF}, {c.Pickup.Expiry, def.Pickup.Expiry}, {c.Pickup.Strict, def.Pickup.Strict}, {c.Pickup.Code, def.Pickup.Code},
		{c.SMS.Method, def.SMS.Method}, {c.SMS.Body.Reveal(), def.SMS.Body.Reveal()}, {c.SMS.ContentType, def.SMS.ContentType}, {c.SMS.Timeout, def.SMS.Timeout},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("example has %v, the default is %v", v.got, v.want)
		}
	}
}

// TestExampleHasEveryKey walks the structs: a field without its line in the example is a field that no operator finds.
func TestExampleHasEveryKey(t *testing.T) {
	d := &decoder{file: "example.yaml", getenv: noenv, at: map[string]pos{}, broken: map[string]bool{}}
	root, fault := d.parse([]byte(Example))
	if fault != nil {
		t.Fatal(fault)
	}
	d.value("", root, reflect.ValueOf(Default()).Elem(), 0)
	_, prose, _ := strings.Cut(Example, " Matchers of a rule")
	prose, _, _ = strings.Cut(prose, "\nrules:")
	var walk func(key string, typ reflect.Type)
	walk = func(key string, typ reflect.Type) {
		switch {
		case typ == reflect.TypeFor[policy.Rule]():
			for _, f := range fieldsOf(typ) {
				if !strings.Contains(prose, " "+f.name+",") && !strings.Contains(prose, " "+f.name+".") && !strings.Contains(prose, " "+f.name+" (") && f.name != "name" {
					t.Errorf("the list of matchers and outcomes lacks %q", f.name)
				}
			}
		case typ.Kind() == reflect.Struct:
			for _, f := range fieldsOf(typ) {
				k := join(key, f.name)
				if !d.seen(k) {
					t.Errorf("example lacks %s", k)
				}
				walk(k, typ.Field(f.index).Type)
			}
		case typ.Kind() == reflect.Slice:
			walk(key+"[0]", typ.Elem())
		case typ == reflect.TypeFor[map[string]Hop]():
			walk(key+".clinic", typ.Elem())
		}
	}
	walk("", reflect.TypeFor[Config]())
}

// TestBad reads each file of testdata/config/bad and compares its faults, line for line.
func TestBad(t *testing.T) {
	dir := filepath.Join("..", "testdata", "config", "bad")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 15 {
		t.Fatalf("found %d cases in %s: %v", len(files), dir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), src, env("INJECT", "x\nmode: observe", "SECRET", "hunter2"), onlyFiles)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			got := faults.Error() + "\n"
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a fault shows a secret")
			}
		})
	}
}

func TestExpand(t *testing.T) {
	getenv := env("A", "alpha", "EMPTY", "", "NEST", "${A}")
	for _, c := range []struct{ in, want, err string }{
		{"plain $5 $A", "plain $5 $A", ""},
		{"${A}", "alpha", ""},
		{"x${A}y${A}z", "xalphayalphaz", ""},
		{"${EMPTY}", "", ""},
		{"${EMPTY:-d}", "d", ""},
		{"${NO:-d:-e}", "d:-e", ""},
		{"${NO:-}", "", ""},
		{"${NEST}", "${A}", ""}, // a value is not expanded again
		{"$${A}", "${A}", ""},
		{"$${A} ${A}", "${A} alpha", ""},
		{"${NO}", "", "NO is not set"},
		{"${A", "", "without }"},
		{"${A B}", "", "no name"},
		{"${}", "", "no name"},
	} {
		got, err := expand(c.in, getenv)
		if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("expand(%q) = %q, %v; want %q, %q", c.in, got, err, c.want, c.err)
		}
	}
}

// TestExpandCannotInject: a variable's content stays one value, whatever is in it.
func TestExpandCannotInject(t *testing.T) {
	c := parse(t, small+"encrypt: {subject: \"${S}\"}\nheaders: {keep: [\"X-A\", \"${NONE:-}\"]}\n", env("S", "a: [b, {c: d}] # no comment"))
	if c.Encrypt.Subject != "a: [b, {c: d}] # no comment" {
		t.Errorf("subject = %q", c.Encrypt.Subject)
	}
	if len(c.Headers.Keep) != 1 {
		t.Errorf("keep = %q, want the empty entry left out", c.Headers.Keep)
	}
}

// TestEmptyIsUnset: every key may be given as ${NAME:-} and then keeps its default.
func TestEmptyIsUnset(t *testing.T) {
	c := parse(t, small+`
limits: {message: "${X:-}", recipients: "${X:-}", idle: "${X:-}"}
trust: {tls_dir: "${X:-}", domains: "${X:-}", own_domains: "${X:-}"}
recipients: {domains: "${X:-}"}
rules: "${X:-}"
sms: {url: "${X:-}"}
listen: {lmtp: {require_tls: "${X:-}"}, trust: {addr: "${X:-}"}}
`, noenv)
	if c.Limits != Default().Limits || len(c.Trust.OwnDomains)+len(c.Recipients.Domains)+len(c.Trust.Domains) != 0 {
		t.Errorf("an empty value changed a default: %+v %+v", c.Limits, c.Trust)
	}
}

func TestComplete(t *testing.T) {
	c := parse(t, small+`
listen: {smtp: {tls_dir: /tls}}
trust: {tls_dir: /trust, crl: /else/crl.pem}
`, noenv)
	got := []string{c.Hostname, c.Clinic.Postmaster, c.Listen.SMTP.Cert, c.Listen.SMTP.Key, c.Listen.SMTP.ClientCA, c.Trust.CA[0], c.Trust.CRL, c.Hops["internet"].TLS}
	want := []string{"passerelle.clinic.test", "postmaster@clinic.test", "/tls/cert.pem", "/tls/key.pem", "", "/trust/ca.pem", "/else/crl.pem", "opportunistic"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNormalize(t *testing.T) {
	c := parse(t, `
clinic: {domains: [Clinique-Évreux.test]}
hops: {clinic: {addr: "127.0.0.1:10026"}, internet: {addr: "192.0.2.1:25"}}
pickup: {url: "https://mail.clinic.test"}
trust: {tls_dir: /t, own_domains: MSS.Clinic.test, domains: {MSS.Other.test: "CN=x, O=y"}, hosts: {MSS.Other.test: "192.0.2.9:25"}}
encrypt: {keys: {"Dr.X@Évreux.test": /k, "@B.test": /k}}
`, noenv)
	if c.Clinic.Domains[0] != "xn--clinique-vreux-jkb.test" || c.Trust.OwnDomains[0] != "mss.clinic.test" || c.Trust.Hosts["mss.other.test"] == "" {
		t.Errorf("got %q %q %q", c.Clinic.Domains, c.Trust.OwnDomains, c.Trust.Hosts)
	}
	if diff := cmp.Diff(map[string][]string{"mss.other.test": {"CN=x, O=y"}}, c.Trust.Domains); diff != "" {
		t.Error(diff)
	}
	if c.Encrypt.Keys["dr.x@xn--vreux-9ra.test"] == "" || c.Encrypt.Keys["@b.test"] == "" {
		t.Errorf("got %q", c.Encrypt.Keys)
	}
	d := c.Policy.Decide(policy.Facts{RecipientDomain: c.Clinic.Domains[0]})
	if d.Route != policy.Local {
		t.Errorf("own domain goes %s", d.Route)
	}
}

func TestSMSTemplate(t *testing.T) {
	tmpl, err := Default().SMS.Template()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, map[string]string{"To": "+33600000000", "Text": "a\"b\n\u00e9"}); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil || got["text"] != "a\"b\n\u00e9" {
		t.Errorf("%s: %v", b.String(), err)
	}
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(small+"key_file: "+path+"\ndirectory: {list: /does/not/exist}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, noenv)
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Key != "directory.list" || faults[0].Line != 6 || !strings.Contains(faults[0].Text, "no such file") {
		t.Errorf("got %v, want one fault: the list does not exist", err)
	}
	if _, err := Load(path+".no", noenv); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// TestFewerHops: what no rule can reach need not be configured.
func TestFewerHops(t *testing.T) {
	parse(t, `
clinic: {domains: [clinic.test]}
hops: {clinic: {addr: "127.0.0.1:10026"}}
rules:
  - {name: pro, verdict: verified, route: trust}
  - {name: rest, route: refuse, text: "Ecrivez a une adresse MSSante"}
`, noenv)
}

// TestRuleKeys: names that YAML or an eager library could take for something else, single values for lists, flags that say no.
func TestRuleKeys(t *testing.T) {
	c := parse(t, small+`
rules:
  - {name: reports, null: true, list: false, route: refuse}
  - name: one
    domain: a.test
    verdict: verified
    size_over: 5MiB
    header: {X-A: "b*"}
    when: '"${Q:-x}" in tag'
    route: pickup
`, noenv)
	want := []policy.Rule{
		{Name: "reports", Null: new(true), List: new(false), Route: policy.Refuse},
		{Name: "one", Domain: []string{"a.test"}, Verdict: []policy.Verdict{policy.Verified}, SizeOver: 5 << 20,
			Header: map[string]string{"X-A": "b*"}, When: `"x" in tag`, Route: policy.Pickup},
	}
	if diff := cmp.Diff(want, c.Rules); diff != "" {
		t.Error(diff)
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		target, listener string
		want             bool
	}{
		{"127.0.0.1:25", "127.0.0.1:25", true}, {"localhost:25", "127.0.0.1:25", true}, {"localhost:25", "[::1]:25", true},
		{"127.0.0.1:25", ":25", true}, {"127.0.0.1:25", "0.0.0.0:25", true}, {"[::1]:25", "[::]:25", true}, {"0.0.0.0:25", "127.0.0.1:25", true},
		{"pass.clinic.test:25", ":25", true}, {"PASS.clinic.test:25", "0.0.0.0:25", true}, {"[::ffff:127.0.0.1]:25", "127.0.0.1:25", true},
		{"127.0.0.1:26", ":25", false}, {"192.0.2.1:25", "127.0.0.1:25", false}, {"127.0.0.2:25", "127.0.0.1:25", false}, {"mx.test:25", ":25", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
	} {
		if got := same(c.target, c.listener, "pass.clinic.test"); got != c.want {
			t.Errorf("same(%s, %s) = %v, want %v", c.target, c.listener, got, c.want)
		}
	}
}

// FuzzParse: whatever stands in the file, the answer is a config or faults with positions inside the file.
func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add(Example)
	f.Add("a: &x [*x, *x]\n<<: *x\n")
	f.Add("rules: [{when: \"${X}\", route: !!str plain}]\n---\nb: |\n  c\n")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 20_000 {
			return
		}
		c, err := Parse("f", []byte(src), noenv, anyFile)
		var faults Faults
		switch {
		case err == nil && (c == nil || c.Policy == nil):
			t.Fatal("no fault, and no config")
		case err != nil && !errors.As(err, &faults):
			t.Fatalf("an error of another kind: %v", err)
		}
		for _, x := range faults {
			if x.Line < 1 || x.Col < 1 || x.Text == "" {
				t.Fatalf("fault without place or text: %+v", x)
			}
		}
	})
}
