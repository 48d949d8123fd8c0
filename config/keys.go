package config

import "strings"

// OwnKey is a private key of the clinic's: of cert with key, pkcs12 and openpgp one is set. With none of them the entry is off.
type OwnKey struct {
	// Cert and Key are PEM files: the certificate with its chain, and its private key without passphrase.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// PKCS12 is a .p12 or .pfx file with key, certificate and chain.
	PKCS12 string `yaml:"pkcs12"`
	// OpenPGP is a private key, armoured or binary.
	OpenPGP string `yaml:"openpgp"`
	// Passphrase opens the file; PassphraseFile holds it in its first line.
	Passphrase     Secret `yaml:"passphrase"`
	PassphraseFile string `yaml:"passphrase_file"`
	// Addresses are whose mail it is for: addresses, or @domain; none is those that the certificate or key names.
	Addresses []string `yaml:"addresses"`
	// Use is sign, decrypt or both; none is whatever the certificate or key allows.
	Use []string `yaml:"use"`
}

// Files are those that the entry names.
func (k OwnKey) Files() (out []string) {
	for _, f := range []string{k.Cert, k.Key, k.PKCS12, k.OpenPGP, k.PassphraseFile} {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}

// Off tells that the entry names no key.
func (k OwnKey) Off() bool { return k.Cert == "" && k.Key == "" && k.PKCS12 == "" && k.OpenPGP == "" }

// keys checks the list of own keys; the files are read by who uses them.
func (v *validator) keys() {
	for i, k := range v.c.Keys {
		key := index("keys", i)
		if k.Off() {
			if v.ok(key) && !v.seen(key+".cert") && !v.seen(key+".pkcs12") && !v.seen(key+".openpgp") { // one that is there and empty is switched off
				v.fault(key, "must name a key: cert with key, pkcs12 or openpgp")
			}
			continue
		}
		for name, path := range map[string]string{"cert": k.Cert, "key": k.Key, "pkcs12": k.PKCS12, "openpgp": k.OpenPGP, "passphrase_file": k.PassphraseFile} {
			v.file(key+"."+name, path)
		}
		kinds := 0
		for _, set := range []bool{k.Cert != "" || k.Key != "", k.PKCS12 != "", k.OpenPGP != ""} {
			if set {
				kinds++
			}
		}
		switch {
		case !v.ok(key):
		case kinds > 1:
			v.fault(key, "cert with key, pkcs12, openpgp: one of them in each entry")
		case (k.Cert == "") != (k.Key == ""):
			v.fault(key+".cert", "cert and key belong together")
		case k.Passphrase != "" && k.PassphraseFile != "":
			v.fault(key+".passphrase", "stands in passphrase_file as well: one of them")
		case k.Cert != "" && (k.Passphrase != "" || k.PassphraseFile != ""):
			v.fault(key+".key", "a PEM key has no passphrase here: make both a .p12 (openssl pkcs12 -export) and name it in pkcs12")
		}
		for j, a := range k.Addresses {
			if domain, ok := strings.CutPrefix(a, "@"); ok {
				v.domain(index(key+".addresses", j), domain)
			} else {
				v.address(index(key+".addresses", j), a)
			}
		}
		for j, u := range k.Use {
			v.oneOf(index(key+".use", j), u, "sign", "decrypt")
		}
	}
}
