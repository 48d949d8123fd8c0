package gateway_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/ecdh"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway/gatewaytest"
)

// markedKeys are private keys of the clinic, for dr@clinic.test, with all of them that must stand nowhere.
type markedKeys struct {
	yaml    string // the config's keys
	smime   *gatewaytest.Correspondent
	openpgp *openpgp.Entity
	secrets map[string][]byte
}

func newMarkedKeys(t *testing.T) *markedKeys {
	t.Helper()
	dir := t.TempDir()
	const p12Word, pgpWord = "mot-du-p12-7313-ardoise", "mot-de-la-cle-2204-basalte"
	c, err := gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "dr@clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	p12, word, asc := filepath.Join(dir, "dr.p12"), filepath.Join(dir, "word"), filepath.Join(dir, "dr.asc")
	openssl(t, nil, "pkcs12", "-export", "-in", c.CertFile, "-inkey", c.KeyFile, "-out", p12, "-passout", "pass:"+p12Word)
	e, err := openpgp.NewEntity("Dr", "", "dr@clinic.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	if err != nil {
		t.Fatal(err)
	}
	m := &markedKeys{smime: c, openpgp: e, secrets: map[string][]byte{"the passphrase of the p12": []byte(p12Word), "the passphrase of the OpenPGP key": []byte(pgpWord),
		"the OpenPGP signing key": e.PrivateKey.PrivateKey.(*eddsa.PrivateKey).D, "the OpenPGP decryption key": e.Subkeys[0].PrivateKey.PrivateKey.(*ecdh.PrivateKey).D}}
	for name, s := range m.secrets {
		m.secrets[name] = bytes.Clone(s) // the entity is locked below
	}
	text, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	m.secrets["the S/MIME key"], m.secrets["a prime of the S/MIME key"] = key.(*rsa.PrivateKey).D.Bytes()[:40], key.(*rsa.PrivateKey).Primes[0].Bytes()[:40]

	if err := e.EncryptPrivateKeys([]byte(pgpWord), nil); err != nil {
		t.Fatal(err)
	}
	var locked bytes.Buffer
	w, err := armor.Encode(&locked, "PGP PRIVATE KEY BLOCK", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SerializePrivateWithoutSigning(w, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{word: []byte(p12Word + "\n"), asc: locked.Bytes()} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.yaml = fmt.Sprintf("keys:\n  - {pkcs12: %q, passphrase_file: %q, addresses: [dr@clinic.test]}\n  - {openpgp: %q, passphrase: %q, addresses: [dr@clinic.test]}\nsign: {smime: {routes: [encrypt]}}\n", p12, word, asc, pgpWord)
	return m
}

// letters are what comes for dr@clinic.test, sealed with each of his keys around a text.
func (m *markedKeys) letters(t *testing.T, text string) map[string]string {
	t.Helper()
	entity := []byte("Content-Type: text/plain; charset=utf-8\r\n\r\n" + text + "\r\n")
	var out bytes.Buffer
	a, err := armor.Encode(&out, "PGP MESSAGE", nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openpgp.Encrypt(a, []*openpgp.Entity{m.openpgp}, nil, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(entity); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"smime": fromAfar(sealed(t, entity, "aes-256-gcm", m.smime)), "openpgp": fromAfar(pgpMIME(out.Bytes()))}
}
