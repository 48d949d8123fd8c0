package gateway

import (
	"testing"

	"passerelle/gateway/collect"
	"passerelle/gateway/message"
)

// What Postfix answered to one letter is never taken for the answer to another: its number may be used again, and deliver_to may change.
func TestPledgeIsOfOneLetter(t *testing.T) {
	id := collect.ID{Box: "a@op.test/INBOX", Validity: 1, UID: 5}
	name := func(id collect.ID, text, to string) string {
		t.Helper()
		a, err := message.ParseAddress(to, true)
		if err != nil {
			t.Fatal(err)
		}
		return pledgeName(id, message.BytesBody([]byte(text)), a)
	}
	one := name(id, "one", "a@clinic.test")
	if name(id, "one", "a@clinic.test") != one {
		t.Error("one letter, two names")
	}
	if name(id, "two", "a@clinic.test") == one || name(id, "one", "b@clinic.test") == one {
		t.Error("two letters, one name")
	}
}

// A message that goes once more in another shape has a pledge of its own, and the first is let go.
func TestPledgeOfASecondLetter(t *testing.T) {
	var dropped []string
	p := &pledges{keeper: Keeper{Store: func(string, uintptr) error { return nil }, Drop: func(name string) { dropped = append(dropped, name) }}}
	first := p.next("x")
	p.next("y")
	second := p.another(first)
	if second == nil || second == first || p.open["x"] != second || len(dropped) != 1 || dropped[0] != "x" {
		t.Errorf("dropped %q, the same %t", dropped, second == first)
	}
	if p.another(nil) != nil {
		t.Error("a pledge for a message that had none")
	}
}
