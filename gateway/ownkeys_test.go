package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/message"
)

var keyDay = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// keyFiles writes cert.pem and key.pem of a self-signed certificate into a directory of their own.
func keyFiles(t *testing.T, elliptical bool, years int, addresses ...string) config.OwnKey {
	t.Helper()
	var key crypto.Signer
	var err error
	if elliptical {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Clinique"}, NotBefore: keyDay.AddDate(-3, 0, 0), NotAfter: keyDay.AddDate(years, 0, 0),
		EmailAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := config.OwnKey{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	putKey(t, c.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	putKey(t, c.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return c
}

func putKey(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func shell(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func loadKeys(t *testing.T, list ...config.OwnKey) *ownKeys {
	t.Helper()
	k, err := loadOwnKeys(list, slog.New(slog.DiscardHandler), func() time.Time { return keyDay })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addressOf(t *testing.T, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, false)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestOwnKeysKinds: the same key as PEM, as p12 of today's and of old ciphers, and an OpenPGP key with passphrase.
func TestOwnKeysKinds(t *testing.T) {
	c := keyFiles(t, false, 1, "a@clinic.test")
	p12, old := c.Cert+".p12", c.Cert+".old.p12"
	shell(t, "openssl", "pkcs12", "-export", "-in", c.Cert, "-inkey", c.Key, "-out", p12, "-passout", "pass:é x")
	shell(t, "openssl", "pkcs12", "-export", "-in", c.Cert, "-inkey", c.Key, "-out", old, "-passout", "pass:x", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	word := c.Cert + ".word"
	putKey(t, word, []byte("é x\r\nmore\n"))
	a := addressOf(t, "a@clinic.test")
	for name, k := range map[string]config.OwnKey{"PEM": c, "p12": {PKCS12: p12, PassphraseFile: word}, "old p12": {PKCS12: old, Passphrase: "x"}} {
		keys := loadKeys(t, k)
		if got, ok := keys.smimeSigner(a); !ok || got.Cert == nil || got.Private == nil {
			t.Errorf("%s: no signer", name)
		}
		if len(keys.smimeKeys()) != 1 || len(keys.certificates()) != 1 {
			t.Errorf("%s: got %d keys", name, len(keys.smimeKeys()))
		}
	}
	home, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	asc := filepath.Join(home, "a.asc")
	gpg := func(args ...string) {
		shell(t, "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "x"}, args...)...)
	}
	gpg("--faked-system-time", "20260101T000000", "--quick-gen-key", "A <a@clinic.test>", "default", "default", "never")
	gpg("--output", asc, "--armor", "--export-secret-keys")
	keys := loadKeys(t, config.OwnKey{OpenPGP: asc, Passphrase: "x"})
	if _, ok := keys.openpgpSigner(a); !ok || len(keys.openpgpKeys()) != 1 {
		t.Error("OpenPGP: no signer")
	}
	if _, ok := keys.smimeSigner(a); ok {
		t.Error("OpenPGP: an S/MIME signer")
	}
}

func TestOwnKeysChoice(t *testing.T) {
	a, b := addressOf(t, "a@clinic.test"), addressOf(t, "b@clinic.test")
	own, long, domain, over := keyFiles(t, true, 1, "A@clinic.test"), keyFiles(t, true, 2, "a@clinic.test"), keyFiles(t, true, 3), keyFiles(t, true, -1, "b@clinic.test")
	domain.Addresses = []string{"@clinic.test"}
	opens := keyFiles(t, false, 5, "a@clinic.test")
	opens.Use = []string{"decrypt"}
	signs := keyFiles(t, false, 1, "c@clinic.test")
	signs.Use = []string{"sign"}
	keys := loadKeys(t, own, long, domain, over, opens, signs, config.OwnKey{})
	got := func(addr message.Address) int {
		k, ok := keys.smimeSigner(addr)
		if !ok {
			return -1
		}
		for i, o := range keys.list {
			if o.loaded.smime.Cert.Equal(k.Cert) {
				return i
			}
		}
		return -2
	}
	if got(a) != 1 {
		t.Errorf("a: got %d, want 1: his own that lasts longest", got(a))
	}
	if got(b) != 2 {
		t.Errorf("b: got %d, want 2: his own is over, so his domain's", got(b))
	}
	if n := got(addressOf(t, "a@other.test")); n != -1 {
		t.Errorf("a stranger: got %d", n)
	}
	if n := len(keys.smimeKeys()); n != 5 {
		t.Errorf("%d open mail, want 5: the one that is over too, not the one that signs alone", n)
	}
	var none *ownKeys
	if _, ok := none.smimeSigner(a); ok || none.smimeKeys() != nil || len(none.certificates()) != 0 {
		t.Error("no keys give keys")
	}
}

func TestOwnKeysFaults(t *testing.T) {
	c, other := keyFiles(t, true, 1, "a@clinic.test"), keyFiles(t, true, 1, "a@clinic.test")
	p12 := c.Cert + ".p12"
	shell(t, "openssl", "pkcs12", "-export", "-in", c.Cert, "-inkey", c.Key, "-out", p12, "-passout", "pass:geheim")
	locked := c.Key + ".locked"
	shell(t, "openssl", "pkcs8", "-topk8", "-in", c.Key, "-out", locked, "-passout", "pass:geheim")
	rubbish := c.Key + ".rubbish"
	putKey(t, rubbish, []byte("geheim"))
	for name, x := range map[string]struct {
		key  config.OwnKey
		want string
	}{
		"wrong passphrase": {config.OwnKey{PKCS12: p12, Passphrase: "geheimer"}, "the passphrase does not open it"},
		"no passphrase":    {config.OwnKey{PKCS12: p12}, "the passphrase does not open it"},
		"no p12":           {config.OwnKey{PKCS12: rubbish}, "pkcs12 "},
		"another's key":    {config.OwnKey{Cert: c.Cert, Key: other.Key}, "not that of the key"},
		"locked PEM":       {config.OwnKey{Cert: c.Cert, Key: locked}, "make it a .p12"},
		"no PEM":           {config.OwnKey{Cert: rubbish, Key: c.Key}, "no certificate in PEM"},
		"no file":          {config.OwnKey{PKCS12: "/no/such"}, "no such file"},
		"no OpenPGP":       {config.OwnKey{OpenPGP: rubbish}, "cannot be read"},
		"empty word":       {config.OwnKey{PKCS12: p12, PassphraseFile: os.DevNull}, "first line is empty"},
	} {
		_, err := loadOwnKeys([]config.OwnKey{x.key}, slog.New(slog.DiscardHandler), func() time.Time { return keyDay })
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "keys[0]: ") || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v, want %q", name, err, x.want)
		}
	}
}

// TestOwnKeysReplaced: files that change are read again; a pair that does not fit together leaves the former in use, and says so once.
func TestOwnKeysReplaced(t *testing.T) {
	c, next := keyFiles(t, true, 1, "a@clinic.test"), keyFiles(t, true, 2, "a@clinic.test")
	var log bytes.Buffer
	keys, err := loadOwnKeys([]config.OwnKey{c}, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return keyDay })
	if err != nil {
		t.Fatal(err)
	}
	a := addressOf(t, "a@clinic.test")
	years := func() int {
		k, ok := keys.smimeSigner(a)
		if !ok {
			t.Fatal("no signer")
		}
		return k.Cert.NotAfter.Year() - keyDay.Year()
	}
	move := func(from, to string, later time.Duration) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		putKey(t, to, text)
		if err := os.Chtimes(to, time.Time{}, time.Now().Add(later)); err != nil {
			t.Fatal(err)
		}
	}
	move(next.Cert, c.Cert, time.Minute)
	if years() != 1 || years() != 1 {
		t.Error("half a pair was taken")
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
	move(next.Key, c.Key, time.Minute)
	if years() != 2 {
		t.Error("the new pair was not taken")
	}
	if err := os.Remove(c.Key); err != nil {
		t.Fatal(err)
	}
	if years() != 2 {
		t.Error("a file that is gone took the key away")
	}
}

func TestCheckKeys(t *testing.T) {
	c := keyFiles(t, true, 1, "a@clinic.test")
	if err := os.Chmod(c.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	nameless := keyFiles(t, true, 1)
	over := keyFiles(t, true, -1, "b@clinic.test")
	over.Use = []string{"sign"}
	cfg := &config.Config{Keys: []config.OwnKey{c, nameless, over}}
	got, err := CheckKeys(cfg, keyDay.AddDate(1, 0, -5))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"keys[0]: everybody may read " + c.Key, "keys[0]: the certificate ends in 5 days", "keys[1]: names no address", "keys[2]: signs nothing: certificate ran out"} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %s", text, want)
		}
	}
	if strings.Contains(text, c.Cert+" ") {
		t.Errorf("a certificate is public:\n%s", text)
	}
}
