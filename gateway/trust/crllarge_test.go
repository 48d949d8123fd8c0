package trust

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestOneLargeListAtATime: a certificate names four lists, its CA's four more, and whoever stands in the way can make each as large as we take.
func TestOneLargeListAtATime(t *testing.T) {
	var busy, most, whole atomic.Int64
	flood := func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for n := range 50 {
			if n == 25 { // no socket holds as much: it is being read
				most.Store(max(most.Load(), busy.Add(1)))
				defer busy.Add(-1)
			}
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		whole.Add(1)
	}
	src := newShelf(t, flood)
	w, s, cs, _ := netSpace(t, src.URL, nil)
	peer := w.inter.issue(peerName, func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{src.URL + "/1", src.URL + "/2", src.URL + "/3", src.URL + "/4"}
	}, nil)
	cs.PeerCertificates[0] = peer.Leaf
	if got := check(t, s, cs); got != unproven {
		t.Errorf("got %q", got)
	}
	w.cfg.Evidence.settle()
	if n, all := most.Load(), whole.Load(); n != 1 || all != 4 {
		t.Errorf("%d lists at once, %d in all", n, all)
	}
}

// TestKilledWhileKeeping: what a process that was killed an hour ago left half written is taken away at a start.
func TestKilledWhileKeeping(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".new-1": 2 * time.Hour, ".new-2": 0} {
		write(t, filepath.Join(dir, name), []byte("half"))
		if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	OpenEvidence(EvidenceConfig{Dir: dir}).Close()
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 1 || filepath.Base(left[0]) != ".new-2" {
		t.Errorf("left: %q", left)
	}
}
