package openpgp

import (
	"bytes"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// TestCostly: how many operations with keys, and how many sums over the content, a stranger's message can ask for is bounded.
func TestCostly(t *testing.T) {
	own := entity(t, nil)
	ring := &ringOf{own: openpgp.EntityList{own}}
	tried := 0
	func() {
		defer func() {
			if recover() == nil {
				t.Error("recipients without end are taken")
			}
		}()
		for range 10 * maxPackets {
			if len(ring.EntitiesById(0)) > 0 {
				tried++
			}
		}
	}()
	if tried != maxTries || ring.asked != maxPackets+1 {
		t.Errorf("%d recipients tried, want %d; %d asked", tried, maxTries, ring.asked)
	}

	now := time.Now().Add(time.Minute)
	content := bytes.Repeat([]byte("ligne\r\n"), 1000)
	var one, many bytes.Buffer
	if err := openpgp.DetachSign(&one, []*openpgp.Entity{own}, bytes.NewReader(content), config(now)); err != nil {
		t.Fatal(err)
	}
	for range maxSignatures + 1 {
		many.Write(one.Bytes())
	}
	for sig, want := range map[*bytes.Buffer]Verdict{&one: Good, &many: Bad} {
		if s, err := Verify(bytes.NewReader(content), bytes.NewReader(sig.Bytes()), []*Key{{own}}, now); err != nil || s.Verdict != want {
			t.Errorf("%d bytes of signatures: %+v, %v", sig.Len(), s, err)
		}
	}
}
