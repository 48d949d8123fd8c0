package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"passerelle/config"
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
)

// maxKeyFile bounds a file that holds a key: a p12 with its chain has some kilobytes.
const maxKeyFile = 1 << 20

// readOwnKey reads the files of an entry. What it says of faulty ones never holds a byte of them, nor of the passphrase.
func readOwnKey(c config.OwnKey, now time.Time) (l *loadedKey, err error) {
	l = &loadedKey{sign: len(c.Use) == 0 || slices.Contains(c.Use, "sign"), decrypt: len(c.Use) == 0 || slices.Contains(c.Use, "decrypt")}
	passphrase, err := passphraseOf(c)
	if err != nil {
		return nil, err
	}
	switch {
	case c.OpenPGP != "":
		err = l.readOpenPGP(c.OpenPGP, passphrase, now)
	case c.PKCS12 != "":
		err = l.readPKCS12(c.PKCS12, passphrase)
	default:
		err = l.readPEM(c.Cert, c.Key)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Addresses) > 0 {
		l.addresses = c.Addresses
	}
	return l, nil
}

func passphraseOf(c config.OwnKey) (string, error) {
	if c.PassphraseFile == "" {
		return c.Passphrase.Reveal(), nil
	}
	text, err := readKeyFile(c.PassphraseFile)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("passphrase_file %s: its first line is empty", c.PassphraseFile)
	}
	return line, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return text, nil
}

func (l *loadedKey) readOpenPGP(path, passphrase string, now time.Time) error {
	text, err := readKeyFile(path)
	if err != nil {
		return err
	}
	if l.openpgp, err = openpgp.ParsePrivateKeys(text, []byte(passphrase), now); err != nil {
		return fmt.Errorf("openpgp %s: %w", path, err)
	}
	for _, k := range l.openpgp {
		l.addresses = append(l.addresses, k.Addresses()...)
	}
	return nil
}

func (l *loadedKey) readPKCS12(path, passphrase string) (err error) {
	text, err := readKeyFile(path)
	if err != nil {
		return err
	}
	defer func() {
		if recover() != nil { // a library on a file that may be anything
			err = fmt.Errorf("pkcs12 %s: cannot be read", path)
		}
	}()
	private, first, others, err := pkcs12.DecodeChain(text, passphrase)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return fmt.Errorf("pkcs12 %s: the passphrase does not open it", path)
	}
	if err != nil {
		return fmt.Errorf("pkcs12 %s: %w", path, err)
	}
	if err := l.join(private, append([]*x509.Certificate{first}, others...)); err != nil {
		return fmt.Errorf("pkcs12 %s: %w", path, err)
	}
	return nil
}

func (l *loadedKey) readPEM(cert, key string) error {
	certs, err := readCertificates(cert)
	if err != nil {
		return fmt.Errorf("cert %s: %w", cert, err)
	}
	text, err := readKeyFile(key)
	if err != nil {
		return err
	}
	private, err := parsePrivate(text)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	if err := l.join(private, certs); err != nil {
		return fmt.Errorf("cert %s, key %s: %w", cert, key, err)
	}
	return nil
}

func readCertificates(path string) (certs []*x509.Certificate, err error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM in the file")
	}
	return certs, nil
}

func parsePrivate(text []byte) (key crypto.PrivateKey, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("has a passphrase: make it a .p12 (openssl pkcs12 -export) and name that in pkcs12")
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("the private key cannot be read")
		}
		return key, nil
	}
	return nil, errors.New("no private key in PEM in the file")
}

// join finds the certificate of the key among those given, in whatever order, and the chain above it.
func (l *loadedKey) join(private crypto.PrivateKey, certs []*x509.Certificate) error {
	var public interface{ Equal(crypto.PublicKey) bool }
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < 2048 {
			return fmt.Errorf("an RSA key of %d bits: want 2048 at least", n)
		}
		public = &k.PublicKey
	case *ecdsa.PrivateKey:
		public = &k.PublicKey
	default:
		return errors.New("want an RSA key or one on P-256, P-384 or P-521")
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) })
	if i < 0 {
		return errors.New("the certificate is not that of the key")
	}
	key := smime.Key{Cert: certs[i], Private: private}
	for at := certs[i]; !bytes.Equal(at.RawIssuer, at.RawSubject) && len(key.Chain) < len(certs); {
		j := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return at.CheckSignatureFrom(c) == nil })
		if j < 0 {
			break
		}
		key.Chain, at = append(key.Chain, certs[j]), certs[j]
	}
	l.smime, l.addresses = &key, smime.Addresses(key.Cert)
	return nil
}
