package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// The five things that can become of a recipient, and who gets a copy or a failure told in the end.
const (
	late = "late@plain.test" // "later" at the hop
	bad  = "bad@plain.test"  // refused by the hop
	shut = "who@closed.test" // refused by a rule
)

// TestMixedOutcomes: behind real Postfix one message whose recipients end differently reaches each once, waits for those who wait, and
// tells the sender once about each who failed; by LMTP, by SMTP with one recipient at a time, and by SMTP with all of them at once.
func TestMixedOutcomes(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	for _, x := range []struct {
		name, snippet string
		main          []string
	}{
		{"lmtp", "lmtp", nil},
		{"smtp, one at a time", "smtp-relayhost", nil},
		{"smtp, all at once", "smtp-relayhost", []string{"passerelle_destination_recipient_limit = 50"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			var open atomic.Bool
			w := newWorld(t, worldOptions{snippet: x.snippet, main: x.main, internet: func(to string) gatewaytest.Reply {
				switch {
				case to == bad:
					return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
				case to == late && !open.Load():
					return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "not now"}
				}
				return gatewaytest.Reply{}
			}})
			for _, mix := range [][]string{{shop, bad}, {shop, late, bad}, {doctor, bad, shut}, {late, shut}, {bad, shut}, {shop, late, bad, shut, doctor}} {
				w.mixed(t, &open, mix)
			}
		})
	}
}

func (w *world) mixed(t *testing.T, open *atomic.Bool, mix []string) {
	t.Helper()
	w.reset()
	open.Store(false)
	if err := os.Remove(w.mirror()); err != nil {
		t.Fatal(err)
	}
	w.submit(t, "Dossier-"+strings.Join(mix, "-"), mix...)
	if slices.Contains(mix, shop) {
		arrived(t, w.internet, shop)
	}
	waits := slices.Contains(mix, late) || slices.Contains(mix, doctor)
	if waits { // at least one attempt went by
		if q, err := w.postfix.WaitQueue(within(t), func(q []gatewaytest.Queued) bool {
			return len(q) == 1 && slices.ContainsFunc(q[0].Recipients, func(r struct {
				Address string `json:"address"`
				Reason  string `json:"delay_reason"`
			}) bool {
				return r.Reason != ""
			})
		}); err != nil {
			t.Fatalf("%v: %v: %+v", mix, err, q)
		}
	}
	open.Store(true)
	w.importDirectory(t, time.Now())
	if slices.Contains(mix, late) {
		w.flushUntil(t, w.internet, has(late))
	}
	if slices.Contains(mix, doctor) {
		w.flushUntil(t, w.peer, has(doctor))
	}
	w.settled(t)
	keep := func(all ...string) []string {
		return slices.DeleteFunc(all, func(s string) bool { return !slices.Contains(mix, s) })
	}
	copies := map[string]int{}
	for _, m := range append(w.internet.Messages(), w.peer.Messages()...) {
		for _, r := range m.Recipients {
			copies[r]++
		}
	}
	if want := each(1, keep(shop, late, doctor)...); !maps.Equal(copies, want) {
		t.Errorf("%v: copies %v, want %v", mix, copies, want)
	}
	failed := keep(bad, shut)
	told := func() (about []string) {
		for _, m := range w.mailbox.Messages() {
			for _, f := range finalRecipient.FindAllSubmatch(m.Data, -1) {
				about = append(about, string(f[1]))
			}
			if strings.Contains(string(m.Data), "MAILER-DAEMON@passerelle.clinic.test") && strings.Contains(string(m.Data), "Bonjour, voici") {
				t.Errorf("%v: the bounce holds the content", mix)
			}
		}
		return slices.Sorted(slices.Values(about))
	}
	if len(failed) > 0 {
		arrived(t, w.mailbox, staff)
	}
	if got := told(); !slices.Equal(got, failed) {
		t.Errorf("%s: %v: the sender is told of %v, want %v", filepath.Base(w.opt.snippet), mix, got, failed)
	}
}
