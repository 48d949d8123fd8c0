package gateway_test

import "testing"

// A clinic that is not in the trust space cannot write to Mon espace sante, and no rule sends such mail over the Internet instead.
func TestPatientMailboxNeedsTheTrustSpace(t *testing.T) {
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n"), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "279035121518989@patient.mssante.fr", "279035121518980@patient.mssante.fr", "a@dest.test"); codes(got) != "550 550 250" {
		t.Errorf("got %q", got)
	}
	if n := len(h.sink.Messages()); n != 1 {
		t.Errorf("%d messages left, want the one for dest.test", n)
	}
}
