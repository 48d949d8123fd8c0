package keyring

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const email = "keyEncipherment,digitalSignature"

// TestRing: what is kept is given to those it is for, in the order of how surely it is theirs, and to nobody else.
func TestRing(t *testing.T) {
	now := time.Now().Truncate(time.Second).Add(time.Minute) // behind the making of the keys
	r := ring(t, func() time.Time { return now }, nil)
	cert := read(t, certificate(t, "Dr@Dest.test", "rsa:2048", email, 365))
	newer := read(t, certificate(t, "dr@dest.test", "rsa:2048", email, 365))
	pgp := read(t, gpgKey(t, gpgHome(t), "Dr Test <dr@dest.test>", "future-default", "default", "1y"))
	if len(cert.Addresses) != 1 || cert.Addresses[0] != "dr@dest.test" || len(pgp.Addresses) != 1 || pgp.Addresses[0] != "dr@dest.test" || pgp.Name != "Dr Test <dr@dest.test>" || cert.Name != "Dr Test" {
		t.Fatalf("read %+v, %+v", cert, pgp)
	}
	if got := forOf(t, r, "dr@dest.test", Seen); got != "" {
		t.Errorf("empty ring gives %s", got)
	}
	if !mustPut(t, r, cert.under("DR@dest.test", Harvested, Seen)) || !mustPut(t, r, pgp.under("dr@dest.test", WKD, Discovered)) || !mustPut(t, r, newer.under("@dest.test", Import, Confirmed)) {
		t.Error("a new key is not added")
	}
	for _, c := range []struct {
		to, want string
		least    Trust
	}{
		{"dr@dest.test", "openpgp/discovered/dr@dest.test smime/seen/dr@dest.test smime/confirmed/@dest.test", Seen},
		{"Dr@dest.test", "openpgp/discovered/dr@dest.test smime/confirmed/@dest.test", Discovered},
		{"dr@dest.test", "smime/confirmed/@dest.test", Verified},
		{"other@dest.test", "smime/confirmed/@dest.test", Verified},
		{"dr@sub.dest.test", "", Seen}, {"dr@other.test", "", Seen},
		{"dr@dest.test", "", "nonsense"}, {"dr@dest.test", "", ""}, // a word that is none lets nothing through
	} {
		if got := forOf(t, r, c.to, c.least); got != c.want {
			t.Errorf("%s at %s: got %q, want %q", c.to, c.least, got, c.want)
		}
	}

	if mustPut(t, r, cert.under("dr@dest.test", LDAP, Verified)) {
		t.Error("a known key is added again")
	}
	if got := forOf(t, r, "dr@dest.test", Verified); got != "smime/verified/dr@dest.test smime/confirmed/@dest.test" {
		t.Errorf("trust did not rise: %s", got)
	}
	mustPut(t, r, cert.under("dr@dest.test", Harvested, Seen))
	if got := forOf(t, r, "dr@dest.test", Verified); !strings.HasPrefix(got, "smime/verified/dr@") {
		t.Errorf("trust fell: %s", got)
	}
	if _, err := r.SetTrust(t.Context(), cert.Fingerprint[:12], "", Rejected, "not his"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, r, cert.under("dr@dest.test", LDAP, Verified))
	if got := forOf(t, r, "dr@dest.test", Seen); strings.Contains(got, "smime/verified") || strings.Contains(got, "rejected") {
		t.Errorf("a rejected key came back: %s", got)
	}
	if _, err := r.SetTrust(t.Context(), pgp.Fingerprint, "", Seen, ""); err != nil {
		t.Fatal(err)
	}
	mustPut(t, r, pgp.under("dr@dest.test", WKD, Discovered))
	if got := forOf(t, r, "dr@dest.test", Discovered); strings.Contains(got, "openpgp") {
		t.Errorf("what the operator lowered rose again: %s", got)
	}

	if _, err := r.Expire(t.Context(), newer.Fingerprint, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := forOf(t, r, "other@dest.test", Seen); got == "" {
		t.Error("ended before its time")
	}
	now = now.Add(time.Hour)
	if got := forOf(t, r, "other@dest.test", Seen); got != "" {
		t.Errorf("ended by the operator, and given: %s", got)
	}
	if _, err := r.Expire(t.Context(), newer.Fingerprint, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := forOf(t, r, "other@dest.test", Seen); got == "" {
		t.Error("the end was not taken back")
	}
	if err := r.Checked(t.Context(), newer.Fingerprint, now, "key compromise"); err != nil {
		t.Fatal(err)
	}
	if err := r.Checked(t.Context(), newer.Fingerprint, now, ""); err != nil { // nobody comes back from there
		t.Fatal(err)
	}
	if got := forOf(t, r, "other@dest.test", Seen); got != "" {
		t.Errorf("revoked, and given: %s", got)
	}
	if _, err := r.Delete(t.Context(), newer.Fingerprint, "dr@dest.test"); err == nil {
		t.Error("deleted for an address that it is not kept for")
	}
	if _, err := r.Delete(t.Context(), newer.Fingerprint, "@dest.test"); err != nil {
		t.Fatal(err)
	}
	if all, err := r.All(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%d keys, %v", len(all), err)
	}
	for _, p := range []string{"", "abc", "zzzzzzzz", "' OR 1=1 --", "0123456789"} {
		if _, err := r.Get(t.Context(), p); err == nil {
			t.Errorf("%q names a key", p)
		}
	}
}

// TestOtherProcess: what another process writes is seen by a ring that has the database open.
func TestOtherProcess(t *testing.T) {
	r := ring(t, time.Now, nil)
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, certificate(t, "dr@dest.test", "rsa:2048", email, 365), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := forOf(t, r, "dr@dest.test", Seen); got != "" {
		t.Fatal(got)
	}
	child := func(address string) {
		t.Helper()
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "KEYRING_DIR="+filepath.Dir(dbPath(t, r)), "KEYRING_FILE="+file, "KEYRING_ADDRESS="+address)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("other process: %v\n%s", err, out)
		}
	}
	child("dr@dest.test")
	if got := forOf(t, r, "dr@dest.test", Seen); got != "smime/confirmed/dr@dest.test" {
		t.Errorf("got %q", got)
	}
	r.every = time.Hour // as between two looks
	forOf(t, r, "b@dest.test", Seen)
	child("b@dest.test")
	if got := forOf(t, r, "b@dest.test", Seen); got != "" {
		t.Errorf("the ring asked the database for each look-up: %q", got)
	}
	r.every = time.Nanosecond
	if got := forOf(t, r, "b@dest.test", Seen); got != "smime/confirmed/b@dest.test" {
		t.Errorf("got %q", got)
	}
	if st, err := os.Stat(dbPath(t, r)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func dbPath(t *testing.T, r *Ring) string {
	t.Helper()
	var seq int
	var name, path string
	if err := r.db.Read().QueryRow(`PRAGMA database_list`).Scan(&seq, &name, &path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGoneDatabase: a keyring that cannot be asked is an error, not "no key".
func TestGoneDatabase(t *testing.T) {
	r := ring(t, time.Now, nil)
	mustPut(t, r, read(t, certificate(t, "dr@dest.test", "rsa:2048", email, 365)).under("dr@dest.test", Import, Confirmed))
	if err := r.db.Write(t.Context(), dropKeys); err != nil {
		t.Fatal(err)
	}
	a := address(t, "dr@dest.test")
	if keys, err := r.For(t.Context(), a, time.Now(), Seen); err == nil {
		t.Errorf("gave %d keys and no error", len(keys))
	}
}

// TestWatch: a key in use is warned of once 30 and once 7 days before its end, unless another lasts longer in its place; its owner is not named.
func TestWatch(t *testing.T) {
	var log bytes.Buffer
	now := time.Now()
	r := ring(t, func() time.Time { return now }, &log)
	short := read(t, certificate(t, "dr@dest.test", "rsa:2048", email, 40))
	now = time.Now()
	mustPut(t, r, short.under("dr@dest.test", Import, Confirmed))
	mustPut(t, r, short.under("replaced@dest.test", Import, Confirmed))
	longer := read(t, certificate(t, "replaced@dest.test", "rsa:2048", email, 400))
	now = time.Now()
	mustPut(t, r, longer.under("replaced@dest.test", Import, Confirmed))
	mustPut(t, r, short.under("unused@dest.test", Harvested, Seen))
	for _, c := range []struct {
		days, lines int
	}{{0, 0}, {5, 0}, {11, 1}, {12, 1}, {32, 1}, {34, 2}, {35, 2}, {41, 2}} {
		now = short.NotAfter.Add(time.Duration(c.days-40)*24*time.Hour - time.Minute)
		if err := r.Watch(t.Context(), Verified); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(log.String(), "ends soon"); got != c.lines {
			t.Errorf("day %d: %d warnings, want %d\n%s", c.days, got, c.lines, &log)
		}
	}
	if strings.Contains(log.String(), "dr@") || !strings.Contains(log.String(), "domain=dest.test") {
		t.Errorf("log: %s", &log)
	}
	now = short.NotAfter.Add(-24 * time.Hour)
	if list, err := r.Expiring(t.Context(), now, Verified, 7*24*time.Hour); err != nil || len(list) != 1 || list[0].Address != "dr@dest.test" {
		t.Errorf("expiring: %v, %v", list, err)
	}
}

// TestRefused: nothing is kept that nothing can be sealed to, and the reason says why.
func TestRefused(t *testing.T) {
	home := gpgHome(t)
	pem := certificate(t, "dr@dest.test", "rsa:2048", email, 365)
	gpgKey(t, home, "secret@dest.test", "future-default", "default", "1y")
	armoured := tool(t, home, "gpg", "--batch", "--armor", "--export", "secret@dest.test")
	dir := t.TempDir()
	tool(t, dir, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=a", "-days", "9", "-addext", "subjectAltName=email:a@dest.test")
	tool(t, dir, "openssl", "pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-out", "all.p12", "-passout", "pass:x")
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"private PEM", append(file("cert.pem"), file("key.pem")...), "private key"},
		{"private PEM behind OpenPGP", append(armoured, file("key.pem")...), "private key"},
		{"PKCS#12", file("all.p12"), "PKCS#12"},
		{"private OpenPGP, armoured", tool(t, home, "gpg", "--batch", "--armor", "--export-secret-keys", "secret@dest.test"), "private key"},
		{"private OpenPGP, binary", tool(t, home, "gpg", "--batch", "--export-secret-keys", "secret@dest.test"), "private key"},
		{"sign-only OpenPGP", gpgKey(t, home, "sign@dest.test", "ed25519", "sign", "1y"), "no usable encryption subkey"},
		{"RSA 1024 OpenPGP", gpgKey(t, home, "weak@dest.test", "rsa1024", "default", "1y"), "not acceptable"},
		{"sign-only certificate", certificate(t, "dr@dest.test", "rsa:2048", "digitalSignature", 365), "for signing"},
		{"RSA 1024 certificate", certificate(t, "dr@dest.test", "rsa:1024", email, 365), "less than 2048"},
		{"text", []byte("hello"), "neither"},
		{"nothing", nil, "neither"},
		{"broken PEM", bytes.Replace(pem, []byte("MII"), []byte("AAA"), 1), "cannot be read"},
		{"large", make([]byte, MaxFile+1), "larger"},
	} {
		found, err := Read(c.file, time.Now())
		if err == nil && len(found) == 1 {
			_, err = ring(t, time.Now, nil).Put(t.Context(), found[0].under("dr@dest.test", Import, Confirmed))
		}
		var own *Error
		if !errors.As(err, &own) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	expired := read(t, certificate(t, "dr@dest.test", "rsa:2048", email, 3))
	later := ring(t, func() time.Time { return time.Now().Add(4 * 24 * time.Hour) }, nil)
	if _, err := later.Put(t.Context(), expired.under("dr@dest.test", Import, Confirmed)); err == nil || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("expired certificate: %v", err)
	}
	r := ring(t, time.Now, nil)
	good := read(t, pem)
	for _, k := range []Key{good.under("nobody", Import, Confirmed), good.under("", Import, Confirmed), good.under("@", Import, Confirmed), good.under("dr@dest.test", Import, "sure"),
		{Address: "dr@dest.test", Kind: OpenPGP, Data: good.Data, Source: Import, Trust: Confirmed}, {Address: "dr@dest.test", Kind: "x", Data: good.Data, Source: Import, Trust: Confirmed}} {
		if _, err := r.Put(t.Context(), k); err == nil {
			t.Errorf("kept %q as %s with trust %q", k.Address, k.Kind, k.Trust)
		}
	}
}

// TestFiles: bundles, chains and several keys in one file; what is exported reads as the same key, also by the tools that made it.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	tool(t, dir, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "99")
	tool(t, dir, "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=Leaf/emailAddress=leaf@dest.test")
	tool(t, dir, "openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "leaf.pem", "-days", "90")
	tool(t, dir, "openssl", "crl2pkcs7", "-nocrl", "-certfile", "ca.pem", "-certfile", "leaf.pem", "-outform", "DER", "-out", "b.p7b")
	tool(t, dir, "openssl", "crl2pkcs7", "-nocrl", "-certfile", "ca.pem", "-certfile", "leaf.pem", "-out", "b.pem")
	tool(t, dir, "openssl", "x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der")
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	print := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(strings.SplitAfter(string(tool(t, dir, "openssl", "x509", "-in", "leaf.pem", "-noout", "-fingerprint", "-sha256")), "=")[1]), ":", ""))
	for name, chain := range map[string]bool{"leaf.der": false, "leaf.pem": false, "b.p7b": true, "b.pem": true} {
		m := read(t, file(name))
		if m.Fingerprint != print || !m.Names("leaf@dest.test") || !m.Names("@dest.test") || m.Names("@st.test") || m.Fault != nil || chain != (len(m.Data) > len(file("leaf.der"))) {
			t.Errorf("%s reads as %+v", name, m)
		}
	}
	if _, err := Read(file("ca.pem"), time.Now()); err == nil || !strings.Contains(err.Error(), "authorities") {
		t.Errorf("an authority's certificate: %v", err)
	}
	home := gpgHome(t)
	gpgKey(t, home, "One <one@dest.test>", "future-default", "default", "1y")
	gpgKey(t, home, "two@dest.test", "future-default", "default", "never")
	armoured := tool(t, home, "gpg", "--batch", "--armor", "--export", "one@dest.test")
	for name, raw := range map[string][]byte{
		"binary": tool(t, home, "gpg", "--batch", "--export"), "one block": tool(t, home, "gpg", "--batch", "--armor", "--export"),
		"two blocks": append(armoured, tool(t, home, "gpg", "--batch", "--armor", "--export", "two@dest.test")...),
	} {
		found, err := Read(raw, time.Now())
		if err != nil || len(found) != 2 || !found[0].Names("one@dest.test") || !found[1].Names("two@dest.test") || found[0].NotAfter.IsZero() || !found[1].NotAfter.IsZero() {
			t.Errorf("%s: %v, %+v", name, err, found)
		}
	}
	if found, err := Read(append(armoured, file("leaf.pem")...), time.Now()); err != nil || len(found) != 2 || found[0].Kind != OpenPGP || found[1].Kind != SMIME {
		t.Errorf("both kinds in one file: %v, %+v", err, found)
	}
	for _, raw := range [][]byte{armoured, file("b.pem")} {
		m := read(t, raw)
		k := m.under("x@dest.test", Import, Confirmed)
		out, err := k.Export()
		if err != nil {
			t.Fatal(err)
		}
		if again := read(t, out); again.Fingerprint != m.Fingerprint || !bytes.Equal(again.Data, m.Data) {
			t.Errorf("exported it reads as %+v", again)
		}
		if m.Kind == OpenPGP {
			path := filepath.Join(dir, "out.asc")
			if err := os.WriteFile(path, out, 0o600); err != nil {
				t.Fatal(err)
			}
			if shown := tool(t, gpgHome(t), "gpg", "--batch", "--with-colons", "--show-keys", path); !strings.Contains(string(shown), strings.ToUpper(m.Fingerprint)) {
				t.Errorf("gpg shows %s", shown)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte{0x98, 0x33, 4})
	f.Add([]byte{0x30, 0x80})
	now := time.Now()
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := Read(b, now)
		for _, m := range found {
			if err != nil || m.Fingerprint == "" || len(m.Data) == 0 {
				t.Errorf("%+v, %v", m, err)
			}
			if again, err := readOne(m.Kind, m.Data, now); err != nil || again.Fingerprint != m.Fingerprint {
				t.Errorf("what was read does not read again: %v", err)
			}
		}
	})
}
