package portal

import (
	"errors"
	"net/http/httptest"
	"testing"

	"passerelle/gateway/message"
)

// Where too many answers are being read the next one is told so; its place is given back.
func TestAnswersHaveTheirTurn(t *testing.T) {
	p := &Portal{answers: make(chan struct{}, 1)}
	r := httptest.NewRequest("POST", "/", nil)
	for range 2 {
		if err := p.inTurn(r, &Answer{}); !errors.Is(err, errNoForm) {
			t.Errorf("got %v, want that it was read", err)
		}
	}
	p.answers <- struct{}{}
	if err := p.inTurn(r, &Answer{}); !errors.Is(err, message.ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
}
