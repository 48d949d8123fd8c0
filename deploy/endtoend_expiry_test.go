package deploy_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// TestExpiry: the end of a waiting recipient's patience is told to the sender, and never as if a served one had failed.
func TestExpiry(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	for _, name := range []string{"lmtp", "smtp-relayhost", "content_filter"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			postfixGivesUp(t, name)
		})
	}
	t.Run("one reply for all", gatewayGivesUp)
}

// postfixGivesUp: with a shipped snippet each recipient has a reply of its own, so that Postfix itself bounces the waiting one alone.
func postfixGivesUp(t *testing.T, snippet string) {
	w := newWorld(t, worldOptions{snippet: snippet, main: []string{"maximal_queue_lifetime = 3s"}})
	if err := os.Remove(w.mirror()); err != nil {
		t.Fatal(err)
	}
	w.submit(t, "Dossier-EX", everybody()...)
	arrived(t, w.internet, sealedSide...)
	w.bounced(t, "annuaire national absent")
	w.settled(t)
	counts(t, "trust peer", w.peer, nil)
	counts(t, "internet", w.internet, each(1, sealedSide...))
	counts(t, "mailbox", w.mailbox, map[string]int{staff: w.told() + 1, person: 1})
}

var (
	finalRecipient = regexp.MustCompile(`(?mi)^Final-Recipient: *rfc822; *(\S+?)\r?$`)
	diagnostic     = regexp.MustCompile(`(?mi)^Diagnostic-Code: .*(?:\r?\n[ \t].*)*`)
)

// bounced waits for one report to the sender, about the doctor alone, with the reason.
func (w *world) bounced(t *testing.T, reason string) {
	t.Helper()
	var about, why []string
	w.flushUntil(t, w.mailbox, func(all []gatewaytest.Message) bool {
		about, why = nil, nil
		for _, m := range all {
			for _, f := range finalRecipient.FindAllSubmatch(m.Data, -1) {
				about = append(about, string(f[1]))
				why = append(why, string(diagnostic.Find(m.Data)))
			}
		}
		return len(about) > 0
	})
	if !slices.Equal(about, []string{doctor}) || !strings.Contains(strings.Join(strings.Fields(why[0]), " "), reason) {
		t.Errorf("the sender is told of %v (%q), want %s alone for %q", about, why, doctor, reason)
	}
}

// gatewayGivesUp: a client that sends several recipients under SMTP has one reply for all, and at its queue's end would bounce them
// all. The gateway gives up the waiting one before. The client is Postfix without the snippet's recipient limit, then a program.
func gatewayGivesUp(t *testing.T) {
	w := newWorld(t, worldOptions{snippet: "smtp-relayhost", idle: true, main: []string{"passerelle_destination_recipient_limit = 50"}})
	var later atomic.Int64 // the clock's lead; queue_lifetime cannot be shorter than an hour
	w.startInside(t, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(later.Load())) }))
	if err := os.Remove(w.mirror()); err != nil {
		t.Fatal(err)
	}
	t.Run("Postfix", func(t *testing.T) {
		w.submit(t, "Dossier-E1", everybody()...)
		arrived(t, w.internet, sealedSide...)
		q, err := w.postfix.WaitQueue(within(t), func(q []gatewaytest.Queued) bool {
			return len(q) == 1 && len(q[0].Recipients) == len(everybody())-1 && strings.Contains(q[0].Recipients[0].Reason, "annuaire national absent")
		})
		if err != nil {
			t.Fatalf("want all that share the reply to wait: %v: %+v", err, q)
		}
		later.Store(int64(55 * time.Minute))
		w.bounced(t, "annuaire national absent")
		w.settled(t)
		counts(t, "trust peer", w.peer, nil)
		counts(t, "internet", w.internet, each(1, sealedSide...))
		counts(t, "mailbox", w.mailbox, map[string]int{staff: w.told() + 1, person: 1})
	})
	t.Run("a program", func(t *testing.T) {
		w.reset()
		later.Store(0)
		hand := func() (err error) { // again while the copy before it is in hand: its reply was read, the memory not yet settled
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				err = smtp.SendMail(w.smtp, nil, staff, []string{doctor, shop}, report("Dossier-E2", doctor, shop))
				if err == nil || !strings.Contains(err.Error(), "deja en cours") {
					break
				}
			}
			return err
		}
		for range 2 {
			var e *textproto.Error
			if err := hand(); !errors.As(err, &e) || e.Code != 451 {
				t.Fatalf("got %v, want 451", err)
			}
		}
		later.Store(int64(55 * time.Minute))
		if err := hand(); err != nil {
			t.Fatalf("got %v, want 250 and a report to the sender", err)
		}
		w.bounced(t, "annuaire national absent")
		w.settled(t)
		counts(t, "trust peer", w.peer, nil)
		counts(t, "internet", w.internet, each(1, shop))
		counts(t, "mailbox", w.mailbox, each(1, staff))
	})
}

// startInside runs the gateway in this process, whose clock the test holds.
func (w *world) startInside(t *testing.T, opts ...gateway.Option) {
	t.Helper()
	cfg := must(config.Load(w.config, os.LookupEnv))(t)
	cfg.Listen.Metrics.Addr = "" // its gauges can be registered once in a process
	ctx, cancel := context.WithCancel(context.Background())
	g, err := gateway.Open(ctx, cfg, slog.New(slog.DiscardHandler), opts...)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, cfg, "test") }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, g.Close()); err != nil {
			t.Errorf("the gateway: %v", err)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for { // all doors are bound before any is served
		if c, err := net.Dial("tcp", w.smtp); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("the gateway ended: %v", err)
		case <-tick.C:
		}
	}
}
