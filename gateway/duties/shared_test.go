package duties_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/duties"
	"passerelle/gateway/gatewaytest"
)

var server = sync.OnceValues(func() (_ *gatewaytest.Postgres, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, err = gatewaytest.StartPostgres(ctx)
	return cluster, err
})

var cluster *gatewaytest.Postgres

func TestMain(m *testing.M) {
	code := m.Run()
	if cluster != nil {
		cluster.Close()
	}
	os.Exit(code)
}

// sharedQueue opens one gateway's queue on url, and works.
func sharedQueue(t *testing.T, url string, do func(context.Context, duties.Duty) error) (q *duties.Queue, stop func()) {
	t.Helper()
	q, err := duties.Open(t.Context(), duties.Config{URL: url, Do: do, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return q, stop
}

// Three gateways on one queue do each duty once, whoever added it and however often; one stops, one comes, the server is away for a while, and
// what one has in hand meanwhile is taken from it by nobody.
func TestSharedOnceEach(t *testing.T) {
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	url, err := s.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil { // and come back below: gateways start without it
		t.Fatal(err)
	}
	r := &record{seen: map[duties.Duty]int{}, came: make(chan duties.Duty, 1000)}
	long := duties.Duty{What: "receipt", Of: "long"}
	hold := make(chan struct{})
	do := func(ctx context.Context, d duties.Duty) error {
		if d == long {
			<-hold
		}
		return r.do(ctx, d)
	}
	a, stopA := sharedQueue(t, url, do)
	b, _ := sharedQueue(t, url, do)
	if err := a.Add(t.Context(), long); err == nil {
		t.Error("added without a server")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	batch := func(name string, n int) {
		t.Helper()
		var ds []duties.Duty
		for i := range n {
			ds = append(ds, duties.Duty{What: "remind", Of: fmt.Sprint(name, i), Step: 1})
		}
		var wg sync.WaitGroup
		for _, q := range []*duties.Queue{a, b} {
			wg.Go(func() {
				var err error
				for range 10 { // as the gateway does every minute: a connection that died is found so once
					if err = q.Add(t.Context(), ds...); err == nil {
						return
					}
				}
				t.Error(err)
			})
		}
		wg.Wait()
	}
	batch("one", 50)
	r.wait(t, 50)
	sharedQueue(t, url, do) // takes nothing over that is in hand
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	batch("two", 50)
	r.wait(t, 50)
	close(hold)
	r.wait(t, 1)
	stopA()
	if err := b.Add(t.Context(), duties.Duty{What: "remind", Of: "last", Step: 1}); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, n := range r.seen {
		if n != 1 {
			t.Errorf("%v was done %d times", d, n)
		}
	}
	if len(r.seen) != 102 {
		t.Errorf("%d duties were done, want 102", len(r.seen))
	}
}
