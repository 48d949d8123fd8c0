package keyring

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOwnersChange: an OpenPGP key that its owner prolonged lasts longer, one that he revoked is not used, whoever brings the news; and an older copy
// brought back does not undo either.
func TestOwnersChange(t *testing.T) {
	r := ring(t, time.Now, nil)
	home := gpgHome(t)
	at := func(ago time.Duration, args ...string) Material { // does it at a time: signatures are dated to the second
		tool(t, home, "gpg", append([]string{"--batch", "--quiet", "--passphrase", "", "--faked-system-time", fmt.Sprintf("%d!", time.Now().Add(-ago).Unix())}, args...)...)
		return read(t, tool(t, home, "gpg", "--batch", "--export", "dr@dest.test"))
	}
	first := at(3*time.Hour, "--quick-gen-key", "dr@dest.test", "future-default", "default", "10d")
	mustPut(t, r, first.under("dr@dest.test", Import, Confirmed))
	at(2*time.Hour, "--quick-set-expire", strings.ToUpper(first.Fingerprint), "1y")
	longer := at(2*time.Hour, "--quick-set-expire", strings.ToUpper(first.Fingerprint), "1y", "*")
	mustPut(t, r, longer.under("dr@dest.test", Harvested, Seen))
	end := func() time.Duration {
		keys, err := r.Get(t.Context(), first.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(keys[0].Ends())
	}
	if d := end(); d < 360*24*time.Hour {
		t.Errorf("prolonged, ends in %s", d)
	}
	mustPut(t, r, first.under("dr@dest.test", Harvested, Seen))
	if d := end(); d < 360*24*time.Hour {
		t.Errorf("an old copy shortened it to %s", d)
	}
	if got := forOf(t, r, "dr@dest.test", Confirmed); got != "openpgp/confirmed/dr@dest.test" {
		t.Errorf("got %q", got)
	}

	shorter := at(time.Hour, "--quick-set-expire", strings.ToUpper(first.Fingerprint), "20d")
	if !shorter.Signed.After(longer.Signed) || !longer.Signed.After(first.Signed) {
		t.Fatalf("signed %s, %s, %s", first.Signed, longer.Signed, shorter.Signed)
	}
	mustPut(t, r, shorter.under("dr@dest.test", Harvested, Seen))
	mustPut(t, r, longer.under("dr@dest.test", Import, Confirmed))
	if d := end(); d > 20*24*time.Hour || d < 19*24*time.Hour {
		t.Errorf("shortened by its owner, ends in %s", d)
	}

	rev, err := os.ReadFile(filepath.Join(home, "openpgp-revocs.d", strings.ToUpper(first.Fingerprint)+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "rev.asc")
	if err := os.WriteFile(file, bytes.Replace(rev, []byte("\n:---"), []byte("\n---"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, home, "gpg", "--batch", "--import", file)
	revoked := read(t, tool(t, home, "gpg", "--batch", "--export", "dr@dest.test"))
	if revoked.Revoked == "" || revoked.Fault == nil {
		t.Fatalf("revoked key reads as %+v", revoked)
	}
	mustPut(t, r, revoked.under("dr@dest.test", Harvested, Seen))
	mustPut(t, r, longer.under("dr@dest.test", WKD, Discovered))
	if got := forOf(t, r, "dr@dest.test", Seen); got != "" {
		t.Errorf("revoked, and given: %s", got)
	}
	if _, err := ring(t, time.Now, nil).Put(t.Context(), revoked.under("dr@dest.test", Import, Confirmed)); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("a revoked key is taken anew: %v", err)
	}
}
