package gateway

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

func TestClockSeesJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lead time.Duration
		c := &clock{log: slog.New(slog.DiscardHandler)}
		for i, step := range []struct {
			jump, wait time.Duration
			steady     bool
		}{
			{0, 0, true},
			{30 * time.Minute, time.Minute, true},
			{0, 100 * 24 * time.Hour, true}, // a long time is no jump
			{-5 * time.Hour, time.Minute, true},
			{90 * 24 * time.Hour, time.Minute, false},
			{0, 23 * time.Hour, false},
			{-90 * 24 * time.Hour, time.Minute, true}, // set right again
			{3 * time.Hour, time.Minute, false},
			{0, 25 * time.Hour, true}, // it was meant
		} {
			lead += step.jump
			time.Sleep(step.wait)
			if got := c.steady(func() time.Time { return time.Now().Add(lead) }); got != step.steady {
				t.Errorf("step %d: steady is %t", i, got)
			}
		}
	})
}

// TestFaultClockDeposits: a clock set ahead by months destroys no deposit within a day, nor after it was set right again.
func TestFaultClockDeposits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(lead.Load())) }
		dir := t.TempDir()
		db, err := store.Open(t.Context(), store.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		blobs, err := store.OpenBlobs(dir + "/deposits")
		if err != nil {
			t.Fatal(err)
		}
		v, err := vault.New(t.Context(), db, vaultBlobs{blobs}, vault.Config{Key: [32]byte{1}, Clinic: vault.Clinic{Name: "Clinique", Phone: "1"}, PublicURL: "https://clinic.test", Now: now,
			ToSender: func(context.Context, message.Address, *message.Body) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		to, err := message.ParseAddress("patient@mail.test", false)
		if err != nil {
			t.Fatal(err)
		}
		d, err := v.Deposit(t.Context(), vault.DepositRequest{Sender: to, Recipient: to, Text: "bonjour", Date: now(), Mode: vault.BySender})
		if err == nil {
			err = v.Activate(t.Context(), d.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		g := &Gateway{lasting: &lasting{}, log: slog.New(slog.DiscardHandler), now: now, vault: v, clock: &clock{log: slog.New(slog.DiscardHandler)}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.duties(ctx)
		}()
		state := func() (s string) {
			if err := db.Read().QueryRow(`SELECT state FROM vault_deposits`).Scan(&s); err != nil && err != sql.ErrNoRows {
				t.Error(err)
			}
			if b, err := blobs.Open(d.ID); err == nil {
				io.Copy(io.Discard, b)
				b.Close()
				return s
			}
			return s + ", content gone"
		}
		time.Sleep(90 * time.Second)
		for _, step := range []struct {
			lead, wait time.Duration
			want       string
		}{
			{400 * 24 * time.Hour, 2 * time.Hour, "waiting"},
			{0, 2 * time.Hour, "waiting"},
			{400 * 24 * time.Hour, 23 * time.Hour, "waiting"},
			{400 * 24 * time.Hour, 2 * time.Hour, "expired, content gone"}, // the control: a clock that stays so is believed
		} {
			lead.Store(int64(step.lead))
			time.Sleep(step.wait)
			if got := state(); got != step.want {
				t.Errorf("clock ahead by %v for %v: %s, want %s", step.lead, step.wait, got, step.want)
			}
		}
		cancel()
		<-done
	})
}
