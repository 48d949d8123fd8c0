package openpgp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPick(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "Dr Two <two@dest.test>", "future-default", "default", "1y")
	gpg(nil, "--quick-add-uid", "two@dest.test", "Private <secret@elsewhere.test>")
	gpg(nil, "--quick-add-uid", "two@dest.test", "gone@dest.test")
	gpg(nil, "--quick-revoke-uid", "two@dest.test", "gone@dest.test")
	gpg(nil, "--quick-generate-key", "signer@dest.test", "ed25519", "sign", "never")
	gpg(nil, "--quick-generate-key", "Old <new@dest.test>", "future-default", "default", "1d")
	old := gpg(nil, "--export", "new@dest.test")
	gpg(nil, "--quick-generate-key", "New <NEW@dest.test>", "future-default", "default", "never")
	both := gpg(nil, "--export", "new@dest.test")
	now := time.Now().Add(time.Minute)
	is := func(want string) func(string) bool {
		return func(a string) bool { return strings.EqualFold(a, want) }
	}
	for _, c := range []struct {
		name, wanted, reason string
		block                []byte
		now                  time.Time
	}{
		{"armoured", "two@dest.test", "", gpg(nil, "--armor", "--export", "two@dest.test"), now},
		{"binary", "two@dest.test", "", gpg(nil, "--export", "two@dest.test"), now},
		{"one of all", "two@dest.test", "", gpg(nil, "--export"), now},
		{"nobody of the name", "three@dest.test", "no user ID", gpg(nil, "--export"), now},
		{"a revoked user ID", "gone@dest.test", "no user ID", gpg(nil, "--export"), now},
		{"a part of a name", "wo@dest.test", "no user ID", gpg(nil, "--export"), now},
		{"a key that only signs", "signer@dest.test", "no usable encryption subkey", gpg(nil, "--export"), now},
		{"expired", "new@dest.test", "expired", old, now.Add(48 * time.Hour)},
		{"an expired one beside its successor", "new@dest.test", "", both, now.Add(48 * time.Hour)},
		{"no key", "two@dest.test", "cannot be read", []byte("<!DOCTYPE html><html></html>"), now},
		{"nothing", "two@dest.test", "cannot be read", nil, now},
		{"a private key", "two@dest.test", "private key", gpg(nil, "--export-secret-keys", "two@dest.test"), now},
	} {
		k, raw, err := Pick(c.block, is(c.wanted), c.now)
		if c.reason != "" {
			if ke := (*KeyError)(nil); !errors.As(err, &ke) || !strings.Contains(ke.Reason, c.reason) {
				t.Errorf("%s: got %v, %v, want a refusal with %q", c.name, k, err, c.reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if bytes.Contains(raw, []byte("secret@elsewhere.test")) || !bytes.Contains(bytes.ToLower(raw), []byte(c.wanted)) {
			t.Errorf("%s: the key kept another's name, or lost its own", c.name)
		}
		again, err := ParseKeys(raw, c.now)
		if err != nil || len(again) != 1 || again[0].Fingerprint() != k.Fingerprint() {
			t.Errorf("%s: what it gave reads as %v, %v", c.name, again, err)
		}
		var sealed bytes.Buffer
		w, err := Encrypt(&sealed, again, nil, c.now)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		w.Write([]byte("bonjour"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := gpg(sealed.Bytes(), "--decrypt"); string(got) != "bonjour" {
			t.Errorf("%s: gpg read %q", c.name, got)
		}
	}
}
