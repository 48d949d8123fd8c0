package gateway

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"passerelle/gateway/message"
)

// Harvested sets who is told of signatures, and gives what he was told.
func Harvested() (Option, func() []string) {
	told := make(chan []string, 1)
	told <- nil
	tell := func(_ context.Context, from message.Address, chain []*x509.Certificate, verified bool, at time.Time) {
		told <- append(<-told, fmt.Sprintf("%s %s %t %t", from, chain[0].Subject.CommonName, verified, time.Since(at) < time.Minute))
	}
	return func(g *Gateway) { g.harvest = tell }, func() []string {
		all := <-told
		told <- all
		return all
	}
}
