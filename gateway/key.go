package gateway

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"passerelle/config"
)

// derive gives each use of the server key a key of its own (RFC 5869).
func derive(key [32]byte, use string) (out [32]byte) {
	k, err := hkdf.Key(sha256.New, key[:], nil, "passerelle "+use, 32)
	if err != nil {
		panic("gateway: hkdf: " + err.Error()) // only for lengths that are not ours
	}
	copy(out[:], k)
	return out
}

// serverKey reads the key that seals the state folder's contents. Kept beside them it protects nothing against a thief of the
// disk: key_file names a better place.
func serverKey(cfg *config.Config, log *slog.Logger) (key [32]byte, err error) {
	path := cfg.KeyFile
	if path == "" {
		path = filepath.Join(cfg.StateDir, "server.key")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && cfg.KeyFile == "" {
		if _, err := os.Stat(filepath.Join(cfg.StateDir, "passerelle.db")); !errors.Is(err, fs.ErrNotExist) { // a new one opens no deposit
			return key, fmt.Errorf("server key %s is gone, but the database that it seals is there: restore the key, or move the state folder away", path)
		}
		rand.Read(key[:])
		log.Warn("made a server key inside the state folder; set key_file to keep it elsewhere")
		return key, writeKey(path, key)
	}
	if err != nil {
		return key, fmt.Errorf("server key: %w", err)
	}
	return parseServerKey(path, text)
}

// readServerKey reads the key that is there.
func readServerKey(path string) (key [32]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("server key: %w", err)
	}
	return parseServerKey(path, text)
}

func parseServerKey(path string, text []byte) (key [32]byte, err error) {
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != len(key) {
		return key, fmt.Errorf("server key %s: want 64 hexadecimal digits (openssl rand -hex 32)", path)
	}
	copy(key[:], raw)
	return key, nil
}

// writeKey is durable before any message is sealed under the key.
func writeKey(path string, key [32]byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("server key: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(key[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("server key: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("server key: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
