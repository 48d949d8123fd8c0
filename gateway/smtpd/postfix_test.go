package smtpd

import (
	"context"
	"fmt"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// A real Postfix with 20 slots and two sessions for it: its mail flows two at a time, and it never takes us for dead.
func TestPostfixWithMoreSlotsThanSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real Postfix")
	}
	for _, lmtp := range []bool{true, false} {
		t.Run(fmt.Sprint("lmtp ", lmtp), func(t *testing.T) {
			s := start(t, func(cfg *Config, r *recorder) {
				cfg.LMTP, cfg.MaxSessionsPerClient = lmtp, 2
				r.data = func(context.Context, *message.Envelope, *message.Body) Outcome {
					time.Sleep(50 * time.Millisecond)
					return Outcome{Whole: accepted}
				}
			})
			host, port, _ := strings.Cut(s.addr, ":")
			way := map[bool]string{true: "lmtp:inet:" + host + ":" + port, false: "smtp:[" + host + "]:" + port}[lmtp]
			p, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "slots", Domains: []string{"clinic.test"}, Main: []string{
				"default_transport = " + way, "default_destination_concurrency_limit = 20", "initial_destination_concurrency = 20",
				"default_destination_recipient_limit = 1", "minimal_backoff_time = 300s", "maximal_backoff_time = 300s"}}) // what waits once waits beyond this test
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			began := time.Now()
			const n = 60
			for i := range n {
				if err := smtp.SendMail(p.Addr(), nil, "a@clinic.test", []string{fmt.Sprintf("u%d@dest.test", i)}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil {
					t.Fatal(err)
				}
			}
			for len(s.got()) < n && time.Since(began) < time.Minute {
				time.Sleep(20 * time.Millisecond)
			}
			log := p.LogText()
			if got := len(s.got()); got != n || strings.Contains(log, "status=deferred") || strings.Contains(log, "refused to talk") || strings.Contains(log, ": 421 ") || strings.Contains(log, "said: 421") {
				t.Errorf("%d of %d messages after %s\n%s", got, n, time.Since(began).Round(time.Second), log)
			}
			t.Logf("%d messages in %s", n, time.Since(began).Round(time.Millisecond))
		})
	}
}
