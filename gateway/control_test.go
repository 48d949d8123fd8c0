package gateway_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway"
	"passerelle/gateway/duties"
)

// What only serves the duties or the operator never stops mail: a queue that cannot be read is made anew, a socket that cannot be made is done without.
func TestMailGoesOnWithoutQueueAndSocket(t *testing.T) {
	l := newLife(t, "")
	l.stop()
	state := filepath.Join(l.dir, "state")
	if err := os.WriteFile(filepath.Join(state, duties.File), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(state, "control.sock", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.start()
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x [tel:0612345678]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	l.later(49 * 3600e9)
	arrived(t, l.sink, "a@patient.test", 2)
	arrived(t, l.clinic, "dr@clinic.test", 1)
	if left, err := filepath.Glob(filepath.Join(state, "control.sock-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// Who is not the state folder's owner does not work on it: the service could not read what he makes there.
func TestDepositsOfAnotherUser(t *testing.T) {
	l := newLife(t, "")
	l.stop()
	cfg := *l.cfg
	if cfg.StateDir = "/"; os.Geteuid() == 0 {
		cfg.StateDir = t.TempDir()
		if err := os.Chown(cfg.StateDir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gateway.OpenDeposits(t.Context(), &cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "run it as that user") {
		t.Errorf("%v", err)
	}
	if es, err := os.ReadDir(cfg.StateDir); os.Geteuid() == 0 && (err != nil || len(es) != 0) {
		t.Errorf("made there: %v %v", es, err)
	}
}

// A state folder's name may be longer than a socket's.
func TestControlInALongFolder(t *testing.T) {
	l := newLife(t, "")
	l.stop()
	long := filepath.Join(l.dir, strings.Repeat("e", 120))
	if err := os.Rename(filepath.Join(l.dir, "state"), long); err != nil {
		t.Fatal(err)
	}
	l.cfg.StateDir = long
	l.start()
	d, err := gateway.OpenDeposits(t.Context(), l.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.List(t.Context(), gateway.DepositFilter{}); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(filepath.Join(long, "control.sock")); err != nil || fi.Mode().Perm() != 0o600 || fi.Mode().Type() != os.ModeSocket {
		t.Errorf("%v %v", fi, err)
	}
}
