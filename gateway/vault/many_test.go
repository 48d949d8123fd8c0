package vault

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges are what the metrics tell of deposits and their octets.
func gauges(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := map[string]float64{}
	for _, f := range families {
		switch f.GetName() {
		case "passerelle_vault_deposits":
			for _, m := range f.GetMetric() {
				g[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		case "passerelle_vault_bytes":
			g["octets"] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return g
}

// A sweep ends more than one batch, each payload with its row; the gauges follow without counting all rows.
func TestSweepOfMany(t *testing.T) {
	h := open(t)
	if _, err := h.Sweep(t.Context()); err != nil { // all is counted now, and not for an hour
		t.Fatal(err)
	}
	const many = 2*sweepBatch + 7
	r := request("")
	r.Files, r.Expiry = nil, 30*time.Minute
	for i := range many {
		d, err := h.Deposit(t.Context(), r)
		if err == nil && i > 0 { // one stays pending
			err = h.Activate(t.Context(), d.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := h.deposit(t, "")
	h.now = h.now.Add(31 * time.Minute)
	if s, err := h.Sweep(t.Context()); err != nil || s != (Swept{Expired: many - 1}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if left := h.blobs.names(); len(left) != 2 || !strings.Contains(strings.Join(left, " "), kept.ID) {
		t.Fatalf("%d payloads are left, want that of the pending one and of %s", len(left), kept.ID)
	}
	moved := gauges(t)
	if moved["expired"] != many-1 {
		t.Fatalf("gauges after the sweep: %v", moved)
	}
	if err := h.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	for s, n := range gauges(t) {
		if moved[s] != n {
			t.Errorf("gauge %s: %v, the rows say %v", s, moved[s], n)
		}
	}
}

// A sweep that takes too long leaves the rest to the next one; what is left opens for nobody.
func TestSweepLeavesSome(t *testing.T) {
	h := open(t)
	h.sweepTime = 0
	r := request("")
	r.Files, r.Expiry = nil, 30*time.Minute
	var last *Deposit
	for range sweepBatch + 1 {
		d, err := h.Deposit(t.Context(), r)
		if err == nil {
			err = h.Activate(t.Context(), d.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		last = d
	}
	h.now = h.now.Add(31 * time.Minute)
	for _, n := range []int{sweepBatch, 1, 0} {
		if s, err := h.Sweep(t.Context()); err != nil || s != (Swept{Expired: n}) {
			t.Fatalf("%+v, %v, want %d", s, err, n)
		}
		_, err := h.Look(t.Context(), secretOf(last))
		want(t, err, Gone)
	}
}

// What a queue has taken does not stand before what falls due later; it is looked for again after an hour, and never outlives the deposit.
func TestQueuedDutiesStandBehind(t *testing.T) {
	h := remindable(t)
	d := h.deposit(t, "")
	h.now = d.Created.Add(2 * aDay)
	queue := func() {
		t.Helper()
		got := h.due(t)
		if len(got.Remind) != 1 {
			t.Fatalf("due: %+v", got)
		}
		if err := h.Queued(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		if got := h.due(t); len(got.Remind) != 0 {
			t.Fatalf("queued, and due all the same: %+v", got)
		}
	}
	queue()
	h.now = h.now.Add(queuedFor)
	queue()
	if err := h.Reminded(t.Context(), d.ID, 1); err != nil {
		t.Fatal(err)
	}
	h.now = d.Created.Add(5*aDay - time.Second)
	if got := h.due(t); len(got.Remind) != 0 {
		t.Fatalf("before the next: %+v", got)
	}
	h.now = d.Expires.Add(-time.Minute)
	queue()
	h.now = d.Expires
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A sending is put off too, and comes back at once where its last recipient opens it meanwhile.
func TestQueuedSending(t *testing.T) {
	h := remindable(t)
	r := request("")
	r.Sending = h.SendingKey(r.Sender, [32]byte{1})
	d, err := h.Deposit(t.Context(), r)
	if err == nil {
		err = h.Activate(t.Context(), d.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if err := h.Queued(t.Context(), h.due(t)); err != nil {
		t.Fatal(err)
	}
	if got := h.due(t).Sendings; len(got) != 0 {
		t.Fatalf("queued, and due all the same: %v", got)
	}
	if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.due(t).Sendings; len(got) != 1 || got[0] != d.Sending {
		t.Fatalf("opened: %v", got)
	}
}

// A blob place that is away keeps no key: what is withdrawn is withdrawn, what has expired opens no more, all of it in one sweep; the payloads follow
// when it is back.
func TestKeysGoWithoutTheBlobPlace(t *testing.T) {
	h := open(t)
	const n = 2*sweepBatch + 3
	first := h.deposit(t, "")
	for range n {
		h.deposit(t, "")
	}
	h.blobs.away = errors.New("no such bucket today")
	if err := h.Revoke(t.Context(), first.ID); err != nil {
		t.Errorf("its sender reads that it is not withdrawn: %v", err)
	}
	if _, err := h.Look(t.Context(), secretOf(first)); Why(err) != Gone {
		t.Errorf("withdrawn: %v", err)
	}
	h.now = h.now.Add(31 * day)
	if s, err := h.Sweep(t.Context()); !errors.Is(err, h.blobs.away) || s.Expired != n {
		t.Errorf("%d of %d expired: %v", s.Expired, n, err)
	}
	h.blobs.away = nil
	if s, err := h.Sweep(t.Context()); err != nil || s.Orphans != n+1 || len(h.blobs.names()) != 0 {
		t.Errorf("%d of %d payloads followed, %d are left: %v", s.Orphans, n+1, len(h.blobs.names()), err)
	}
}
