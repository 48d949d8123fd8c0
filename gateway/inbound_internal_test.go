package gateway

import (
	"testing"

	"passerelle/config"
	"passerelle/gateway/message"
)

// The address itself decides, else the longest pattern; of two as long the one that keeps.
func TestInboundMailboxes(t *testing.T) {
	in := newInbound(&config.Config{Inbound: config.Inbound{Mailboxes: map[string]string{
		"*@mss.test": "vault", "Dr.*@mss.test": "deliver", "dr.noel@MSS.test": "vault", "a?b*@x.test": "vault", "ab*@y.test": "vault", "*ab@y.test": "deliver", "a.c@y.test": "deliver"}}})
	for address, want := range map[string]bool{
		"x@mss.test": true, "X@MSS.TEST": true, "dr.martin@mss.test": false, "dr.noel@mss.test": true, "Dr.Noel@mss.test": true, "x@other.test": false, "x@mss.test.evil.test": false,
		"x@amss.test": false, "a?bc@x.test": true, "axbc@x.test": false, "ab@y.test": true, "abc@y.test": true, "cab@y.test": false, "a.c@y.test": false, "abc@z.test": false,
	} {
		a, err := message.ParseAddress(address, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := in.sealed(a); got != want {
			t.Errorf("%s: sealed %t, want %t", address, got, want)
		}
	}
}
