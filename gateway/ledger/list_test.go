package ledger

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/store"
)

// find gives the numbers of the entries that fit, as Query orders them.
func (h *house) find(f Filter) (seqs []int64) {
	h.t.Helper()
	f.Limit = 10000
	es, err := h.Query(h.t.Context(), f)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range es {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

// counts gives how many entries are in the indexes, and how many are not.
func (h *house) counts() (listed, not int) {
	h.t.Helper()
	if err := h.db.Read().QueryRow(`SELECT count(*) FILTER (WHERE listed = 1 AND seq <= (SELECT listed FROM ledger_open)),
		count(*) FILTER (WHERE listed = 0 AND seq > (SELECT listed FROM ledger_open)) FROM ledger_entries`).Scan(&listed, &not); err != nil {
		h.t.Fatal(err)
	}
	if n := h.rows("ledger_entries"); n != listed+not {
		h.t.Errorf("%d rows, of which %d listed and %d not: the others are lost to one of the two halves of a query", n, listed, not)
	}
	return listed, not
}

// TestListing: a query finds an entry once, whether it is in the indexes or not, and through a restart and a transaction that failed between.
func TestListing(t *testing.T) {
	h := newHouse(t, t.TempDir())
	first := h.rows("ledger_entries")
	total := 0
	more := func(n int) {
		t.Helper()
		for range n {
			c := h.claim(asks(fmt.Sprint("body", total), "A@x.test"))
			e := entry(0, Delivered)
			e.Recipient, e.Sender, e.MessageID = "A@x.test", fmt.Sprintf("doc%d@clinic.test", total%2), fmt.Sprint("id", total)
			h.note(c, e)
			c.Settled(0, true, true)
			h.pass(time.Second)
			total++
		}
	}
	all := func(state string, listed, not int) {
		t.Helper()
		if l, n := h.counts(); l-first != listed || n != not {
			t.Errorf("%s: %d listed, %d not, want %d and %d", state, l-first, n, listed, not)
		}
		for name, f := range map[string]Filter{"recipient": {Recipient: "a@X.TEST"}, "address": {About: "a@x.test"}, "time": {Since: h.at.Add(-time.Hour * 24), Recipient: "a@x.test"}} {
			got := h.find(f)
			if len(got) != total {
				t.Errorf("%s: by %s %d entries, want %d", state, name, len(got), total)
			}
			for i := 1; i < len(got); i++ {
				if got[i] >= got[i-1] {
					t.Fatalf("%s: by %s entry %d follows %d", state, name, got[i], got[i-1])
				}
			}
		}
		if a, b := len(h.find(Filter{Sender: "doc0@clinic.test"})), len(h.find(Filter{About: "DOC1@clinic.test"})); a+b != total {
			t.Errorf("%s: by sender %d and %d entries, want %d in all", state, a, b, total)
		}
		for _, i := range []int{0, total - 1} {
			if id := fmt.Sprint("id", i); len(h.find(Filter{MessageID: id})) != 1 || len(h.find(Filter{About: id})) != 1 {
				t.Errorf("%s: message %s is not found once", state, id)
			}
		}
		if es, err := h.Query(t.Context(), Filter{Recipient: "a@x.test", Limit: 3}); err != nil || len(es) != 3 || es[0].MessageID != fmt.Sprint("id", total-1) {
			t.Errorf("%s: the newest three: %v, %v", state, es, err)
		}
	}
	more(5)
	all("none listed", 0, 5)
	h.flush(t.Context())
	all("all listed", 5, 0)
	more(maxList + 7)
	all("some listed", 5, maxList+7)
	if err := h.db.Write(t.Context(), func(tx store.Tx) error { // as a kill between two commits leaves it
		_, err := tx.Exec(`UPDATE ledger_entries SET listed = 1 WHERE seq <= ?; UPDATE ledger_open SET listed = ?`, first+9, first+9)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all("listed by another hand", 9, maxList+3)
	h.Ledger.seq = -1 // as behind a commit that failed
	more(1)
	h.flush(t.Context())
	all("more than one commit lists", total, 0)
	more(2)
	h.restart()
	all("restarted", total, 0)
}

// TestListingOfWhatADeadProcessLeft: it waits for no mail.
func TestListingOfWhatADeadProcessLeft(t *testing.T) {
	h := newHouse(t, t.TempDir())
	c := h.claim(asks("body", "a@x.test"))
	h.note(c, entry(0, Delivered))
	c.Settled(0, true, true)
	h.end()
	h.cfg.Idle = time.Millisecond
	db, err := store.Open(t.Context(), store.Config{Dir: h.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE ledger_entries SET listed = 0; UPDATE ledger_open SET listed = 0`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, not := h.counts(); not == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("not listed without another mail")
		}
	}
}

// What fell due while a write hung is not left to the next mail when that write has opened the gate.
func TestStalledDiskLeavesNothingUnwritten(t *testing.T) {
	h := newHouse(t, t.TempDir(), func(c *Config) { c.Stall, c.Idle = 20*time.Millisecond, time.Millisecond })
	due := func() {
		for h.wake(); h.armed.Load(); time.Sleep(time.Millisecond) {
		}
	}
	due() // what the background does at its start is over
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.db.Write(context.Background(), func(store.Tx) error { close(begun); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	h.pass(2 * time.Minute)
	if _, err := h.Claim(t.Context(), asks("body", "b@x.test"), nil); err == nil {
		t.Error("claimed while the writer stalls")
	}
	h.again(key{1}, repeat{memo: memo{n: 2}})
	due() // behind the shut gate
	close(release)
	wg.Wait()
	waits := func() int { h.Ledger.mu.Lock(); defer h.Ledger.mu.Unlock(); return len(h.repeat) }
	for end := time.Now().Add(20 * time.Second); waits() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it waits for another mail")
		}
	}
}

// TestQueriesUseTheirIndex: what a clinic asks for must not become slow with the years.
func TestQueriesUseTheirIndex(t *testing.T) {
	h := newHouse(t, t.TempDir())
	for name, f := range map[string]Filter{
		"ledger_entries_recipient": {Recipient: "a@x.test"}, "ledger_entries_sender": {Sender: "a@x.test"}, "ledger_entries_message": {MessageID: "x"},
		"MULTI-INDEX OR": {About: "a@x.test", Since: h.at, Until: h.at},
	} {
		query, args := f.query()
		rows, err := h.db.Read().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		rows.Close()
		all := strings.Join(plan, "\n")
		if !strings.Contains(all, name) || !strings.Contains(all, "USING INTEGER PRIMARY KEY (rowid>?)") || strings.Contains(all, "SCAN ledger_entries") {
			t.Errorf("%+v:\n%s", f, all)
		}
	}
}

// TestListingOfOldEntries: the entries of a version that knew no listing are all in the indexes.
func TestListingOfOldEntries(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), "ledger", steps[:4]...); err != nil {
		t.Fatal(err)
	}
	const old = `INSERT INTO ledger_entries (seq, ` + columns + `) VALUES (?, zeroblob(16), 'id', 'doc@clinic.test', 'a@x.test', '', '', '', '', 0, 'delivered', 250, '', '', '', '', '', '', '', 0, 0, '', '', 1, 1, 1)`
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		for seq := range 3 {
			if _, err := tx.Exec(old, seq+1); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, dir)
	if listed, not := h.counts(); listed != 3 || not != 0 {
		t.Errorf("%d listed, %d not", listed, not)
	}
	c := h.claim(asks("body", "a@x.test"))
	e := entry(0, Delivered)
	e.Recipient = "a@x.test"
	h.note(c, e)
	if got := h.find(Filter{Recipient: "a@x.test"}); len(got) != 4 || got[0] != 4 {
		t.Errorf("found %v, want 4 to 1", got)
	}
}
