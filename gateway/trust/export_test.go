package trust

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"
)

// TestSpace is what the tests outside of the package need: a space in which valide.test is listed, and that domain's certificate, which
// ends in 20 seconds.
type TestSpace struct {
	*Space
	Cert  tls.Certificate
	world *world
	later atomic.Int64 // nanoseconds on the clock
}

func NewTestSpace(t testing.TB) *TestSpace {
	w := newWorld(t)
	s := &TestSpace{world: w, Cert: w.inter.issue(peerName, func(c *x509.Certificate) { c.NotAfter = clock.Add(20 * time.Second) }, nil)}
	w.cfg.Now = func() time.Time { return clock.Add(time.Duration(s.later.Load())) }
	s.Space = w.space()
	return s
}

// Pass lets time pass on the space's clock.
func (s *TestSpace) Pass(d time.Duration) { s.later.Add(int64(d)) }

// Revoke puts Cert into its issuer's list and has the files read again.
func (s *TestSpace) Revoke() error {
	s.world.inter.crl(s.world.file("inter.crl"), clock.Add(24*time.Hour), s.Cert.Leaf.SerialNumber)
	return s.Reload()
}
