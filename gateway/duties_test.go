package gateway

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/trust"
)

// TestDutiesReloadTrust: a certificate renewed on disk is in use within a quarter of an hour, without a restart.
func TestDutiesReloadTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca, err := gatewaytest.NewCA("renewal")
		if err != nil {
			t.Fatal(err)
		}
		put := func(days int) {
			leaf, err := ca.Issue(gatewaytest.Leaf{DNS: []string{"mx.clinic.test"}, Days: days})
			if err != nil {
				t.Fatal(err)
			}
			if err := ca.WriteDir(dir, leaf); err != nil {
				t.Fatal(err)
			}
		}
		put(3)
		in := func(name string) string { return filepath.Join(dir, name) }
		space, err := trust.New(trust.Config{Domains: map[string][]string{"dest.test": {"CN=x"}}, OwnDomains: []string{"clinic.test"},
			CA: []string{in("ca.pem")}, Cert: in("cert.pem"), Key: in("key.pem"), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&Gateway{log: slog.New(slog.DiscardHandler), space: space}).duties(ctx)
		}()
		put(40)
		<-time.After((trustEvery + 1) * time.Minute)
		if d := space.DaysLeft(); d < 39 {
			t.Errorf("%.1f days left: still the former certificate", d)
		}
		cancel()
		<-done
	})
}
