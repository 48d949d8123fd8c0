package relay

import (
	"testing"
	"time"
)

// TestPoolsAreForgotten: hops that nobody writes to are not remembered for ever, those in use are.
func TestPoolsAreForgotten(t *testing.T) {
	now := time.Now()
	r := New(Config{Now: func() time.Time { return now }, IdleMax: time.Hour})
	defer r.Close()
	get := func(name string) *pool {
		p, err := r.pool(Hop{Name: name, Addr: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	get("old")
	held := get("held")
	if err := held.enter(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	now = now.Add(poolKept + time.Second)
	get("new")
	r.sweep(false)
	if len(r.pools) != 2 || get("held") != held {
		t.Errorf("%d pools are left, want the one in use and the new one", len(r.pools))
	}
	held.leave()
	now = now.Add(poolKept + time.Second)
	r.sweep(false)
	if len(r.pools) != 0 {
		t.Errorf("%d pools are left", len(r.pools))
	}
}
