package trust

import (
	"crypto/tls"
	"testing"
)

// NewTestSpace gives the tests outside of the package a space in which valide.test is listed, and that domain's certificate.
func NewTestSpace(t testing.TB) (*Space, tls.Certificate) {
	w := newWorld(t)
	return w.space(), w.inter.issue(name("mx.peer.test"), nil, nil)
}
