package keyring

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// TestMain is the other process of TestOtherProcess, too: it imports one file for one address.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYRING_DIR"); dir != "" {
		if err := put(context.Background(), dir, os.Getenv("KEYRING_FILE"), os.Getenv("KEYRING_ADDRESS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func put(ctx context.Context, dir, file, address string) error {
	r, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	found, err := Read(raw, time.Now())
	if err != nil {
		return err
	}
	if _, err = r.Put(ctx, Key{Address: address, Kind: found[0].Kind, Data: found[0].Data, Source: Import, Trust: Confirmed, Fixed: true}); err != nil {
		return err
	}
	return r.Close()
}

// ring opens one in a fresh folder; its look-ups see every write.
func ring(t *testing.T, now func() time.Time, log *bytes.Buffer) *Ring {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Every: time.Nanosecond, Now: now}
	if log != nil {
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// tool runs a program of the Debian package gnupg or openssl.
func tool(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatalf("%v: install the Debian packages gnupg and openssl", err)
	}
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GNUPGHOME="+dir)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &errs)
	}
	return out
}

// gpgHome is a GnuPG home whose agent ends with the test.
func gpgHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpg") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	return dir
}

// gpgKey makes a key of a user ID and gives it in binary.
func gpgKey(t *testing.T, home, id, algo, usage, expire string) []byte {
	t.Helper()
	tool(t, home, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", id, algo, usage, expire)
	return tool(t, home, "gpg", "--batch", "--export", id)
}

// certificate makes a self-signed one by OpenSSL, in PEM; usage is its keyUsage.
func certificate(t *testing.T, address, key, usage string, days int) []byte {
	t.Helper()
	dir := t.TempDir()
	tool(t, dir, "openssl", "req", "-x509", "-newkey", key, "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=Dr Test", "-days", fmt.Sprint(days),
		"-addext", "subjectAltName=email:"+address, "-addext", "keyUsage=critical,"+usage, "-addext", "basicConstraints=CA:FALSE")
	pem, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// read gives the one key of a file.
func read(t *testing.T, file []byte) Material {
	t.Helper()
	found, err := Read(file, time.Now())
	if err != nil || len(found) != 1 {
		t.Fatalf("read: %d keys, %v", len(found), err)
	}
	return found[0]
}

func (m Material) String() string {
	return fmt.Sprintf("{%s %s %q %v, %s to %s, %d bytes, revoked %q, fault %v}", m.Kind, m.Fingerprint, m.Name, m.Addresses, m.NotBefore, m.NotAfter, len(m.Data), m.Revoked, m.Fault)
}

func (m Material) under(address string, s Source, trust Trust) Key {
	return Key{Address: address, Kind: m.Kind, Data: m.Data, Source: s, Trust: trust}
}

func mustPut(t *testing.T, r *Ring, k Key) bool {
	t.Helper()
	added, err := r.Put(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// forOf names what For gives, "kind/trust/address" each.
func forOf(t *testing.T, r *Ring, to string, least Trust) string {
	t.Helper()
	keys, err := r.For(t.Context(), address(t, to), r.now(), least)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, k := range keys {
		s = append(s, string(k.Kind)+"/"+string(k.Trust)+"/"+k.Address)
	}
	return strings.Join(s, " ")
}

func address(t *testing.T, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func dropKeys(tx store.Tx) error {
	_, err := tx.Exec(`DROP TABLE keyring_keys; UPDATE keyring_state SET generation = generation + 1`)
	return err
}
