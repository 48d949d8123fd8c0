package config

// OwnKey is a private key of the clinic's: of cert with key, pkcs12 and openpgp one is set.
type OwnKey struct {
	// Cert and Key are PEM files: the certificate with its chain, and its private key.
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
	// Use is sign, decrypt or both; none is whatever the certificate allows.
	Use []string `yaml:"use"`
}
