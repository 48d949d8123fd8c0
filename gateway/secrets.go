package gateway

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"passerelle/config"
	"passerelle/crypto/seal"
	"passerelle/gateway/directory"
)

// secretPurpose binds what is sealed to the column; the address binds it to the entry.
const secretPurpose = "agreed secret"

// SecretSealer seals phrases agreed with correspondents for the column secret of the clinic's list.
type SecretSealer struct{ key seal.Key }

func newSecretSealer(key [32]byte) *SecretSealer { return &SecretSealer{derive(key, "list secrets")} }

// NewSecretSealer takes the server key of a gateway: the file that is named, else key_file, else the one in the state folder. It makes none: it
// would be another one than that of the gateway.
func NewSecretSealer(file string, cfg *config.Config) (*SecretSealer, error) {
	if file == "" {
		file = cmp.Or(cfg.KeyFile, filepath.Join(cfg.StateDir, "server.key"))
	}
	key, err := readServerKey(file)
	if err != nil {
		return nil, err
	}
	return newSecretSealer(key), nil
}

func (s *SecretSealer) open(address string, sealed []byte) ([]byte, error) {
	return seal.OpenValue(s.key, secretPurpose, address, sealed)
}

// Seal gives the phrase agreed with an address, or "@domain", as the list takes it, and why it is a poor one ("" where it is not).
func (s *SecretSealer) Seal(address, phrase string) (text, weakness string, err error) {
	text, err = directory.SealSecret(address, phrase, func(address string, phrase []byte) ([]byte, error) {
		return seal.Value(s.key, secretPurpose, address, phrase)
	})
	return text, directory.Secret(strings.TrimSpace(phrase)).Weakness(), err
}

// CheckSecrets says what is poor about the agreed phrases of the list: lines alone, no phrase.
func (g *Gateway) CheckSecrets() (warnings []string) {
	var clear []string
	for _, s := range g.directory.Secrets() {
		if !s.Sealed {
			clear = append(clear, fmt.Sprint(s.Line))
		}
		if s.Weakness != "" && len(warnings) < 20 {
			warnings = append(warnings, fmt.Sprintf("directory.list:%d: the agreed phrase %s", s.Line, s.Weakness))
		}
	}
	if n := len(clear); n > 0 {
		lines := strings.Join(clear[:min(n, 10)], ", ")
		if n > 10 {
			lines += ", ..."
		}
		warnings = append(warnings, fmt.Sprintf("directory.list: %d agreed phrases stand in clear (line %s): seal one by `passerelle secret seal ADDRESS`, all of a CSV by `passerelle directory import --list --seal-secrets`", n, lines))
	}
	return warnings
}
