package vault

import (
	"strings"
	"testing"
	"time"

	"passerelle/gateway/store"
)

// rows counts a table's.
func (h *house) rows(t *testing.T, table string) (n int) {
	t.Helper()
	if err := h.db.Read().QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// noteAll does what the gateway does once the ledger knows.
func (h *house) noteAll(t *testing.T) {
	t.Helper()
	for {
		got, err := h.Unnoted(t.Context(), 100)
		if err == nil && len(got) > 0 {
			err = h.Noted(t.Context(), got...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return
		}
	}
}

func (h *house) shedNow(t *testing.T, want int) {
	t.Helper()
	if s, err := h.Sweep(t.Context()); err != nil || s.Shed != want {
		t.Fatalf("%+v %v, want %d rows shed", s, err, want)
	}
}

// A status outlives its deposit by Config.Keep and the last living one of its message, and goes with all rows about it once the ledger knows;
// then both links are unknown ones.
func TestStatusGoes(t *testing.T) {
	h := remindable(t)
	h.cfg.Keep = 10 * aDay
	_, ds := h.sending(t)
	sending := h.SendingLink(ds[0].Sending)
	sending = sending[strings.LastIndex(sending, "/")+1:]
	other := h.deposit(t, "")
	if _, _, err := h.Refuse(t.Context(), secretOf(ds[0]), NotMe); err != nil {
		t.Fatal(err)
	}
	if err := h.Revoke(t.Context(), ds[0].ID); err != nil {
		t.Fatal(err)
	}
	h.now = ds[0].Created.Add(29 * aDay) // the other one of the message lives
	h.noteAll(t)
	h.shedNow(t, 0)
	end := ds[1].Expires
	h.now = end
	h.shedNow(t, 0)
	h.now = end.Add(10*aDay - time.Second)
	if s, err := h.SendingOf(t.Context(), sending); err != nil || len(s.Deposits) == 0 {
		t.Fatalf("within the time that it is kept: %+v %v", s, err)
	}
	_, err := h.Look(t.Context(), secretOf(ds[1]))
	want(t, err, Gone)
	h.now = end.Add(10 * aDay)
	h.shedNow(t, 1) // ds[0], which the ledger knows; it does not know the others' end
	h.noteAll(t)
	h.shedNow(t, 2)
	for _, table := range []string{"vault_deposits", "vault_sendings", "vault_codes", "vault_refusals"} {
		if n := h.rows(t, table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
	_, err = h.SendingOf(t.Context(), sending)
	want(t, err, NotFound)
	for _, d := range []*Deposit{ds[1], other} {
		_, err = h.Look(t.Context(), secretOf(d))
		want(t, err, NotFound)
	}
}

// Many rows go some at a time, mail between them, and the gauges follow.
func TestStatusesGoInSteps(t *testing.T) {
	h := open(t)
	h.cfg.Keep = 10 * aDay
	h.deposit(t, "")
	err := h.db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO vault_deposits (id, link, created, expires, changed, next_due, state, sender, recipient, lang, mode, ended, noted)
		SELECT 'old' || i, CAST('old' || i AS BLOB), 1, 1, 1, 0, 'expired', 'dr@c.test', 'p@m.test', '', 'sms', 1, 'expired' FROM n`, 2*sweepBatch+1)
		return err
	})
	if err == nil {
		err = h.count(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	h.sweepTime = 0
	for _, n := range []int{sweepBatch, sweepBatch, 1, 0} {
		h.shedNow(t, n)
	}
	if n := h.rows(t, "vault_deposits"); n != 1 {
		t.Errorf("%d rows are left, want the living one", n)
	}
	if g := gauges(t); g["expired"] != 0 || g["waiting"] != 1 {
		t.Errorf("gauges: %v", g)
	}
}

// What was never accepted leaves a sending without deposits: it waits for a repeat as long as that may come.
func TestEmptySendingGoes(t *testing.T) {
	h := remindable(t)
	if err := h.Destroy(t.Context(), h.one(t, nil).ID); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{aDay, 1}, {sendingLife - time.Second, 1}, {sendingLife, 0}} {
		h.now = noon.Add(step.after)
		h.shedNow(t, 0)
		if n := h.rows(t, "vault_sendings"); n != step.want {
			t.Errorf("after %v: %d sendings, want %d", step.after, n, step.want)
		}
	}
}

// The two queries that meet a million rows use their indexes, whatever else the operator asks for.
func TestPlans(t *testing.T) {
	h := open(t)
	if server != nil {
		h.sharedPlans(t)
		return
	}
	plan := func(query string, args ...any) string {
		t.Helper()
		rows, err := h.db.Read().Query(`EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			all = append(all, detail)
		}
		return strings.Join(all, "\n")
	}
	for _, f := range []Filter{{Recipient: "p@m.test"}, {Recipient: "p@m.test", State: Expired}, {Recipient: "p@m.test", Sender: "dr@c.test", Since: noon}} {
		where, args := f.where()
		if p := plan(`SELECT `+columns+` FROM vault_deposits WHERE `+where, args...); !strings.Contains(p, "USING INDEX vault_deposits_recipient (<expr>=?") || strings.Contains(p, "TEMP B-TREE") {
			t.Errorf("%+v: %s", f, p)
		}
	}
	if p := plan(shedQuery, 1, 1, 1); !strings.Contains(p, "SEARCH vault_deposits USING INDEX vault_deposits_ended (ended>? AND ended<?)") || strings.Contains(p, "TEMP B-TREE") || strings.Contains(p, "SCAN") {
		t.Errorf("shed: %s", p)
	}
	if p := plan(reopenQuery, "p@m.test", "dr@c.test"); p != "SEARCH vault_deposits USING INDEX vault_deposits_closed (recipient=? AND sender=?)" {
		t.Errorf("reopen: %s", p)
	}
}

// One summary asks for all numbers that are missing, another attempt's with it; a repeat without a new one asks for nothing; and what falls due
// together is told as lost together.
func TestAskedOnceForAll(t *testing.T) {
	h := remindable(t)
	hold := func() *Deposit {
		t.Helper()
		d := h.one(t, func(r *DepositRequest) { r.Hold = true })
		if err := h.Hold(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		return d
	}
	// next is the summary that is due, with its receipt, once it was accepted.
	next := func() (*Sending, string) {
		t.Helper()
		h.now = h.now.Add(gather)
		due := h.due(t).Sendings
		if len(due) != 1 {
			t.Fatalf("due: %v", due)
		}
		s, err := h.Sending(t.Context(), due[0])
		if err != nil {
			t.Fatal(err)
		}
		what := s.Due(h.now, h.cfg.Report)
		subject, text := h.Receipt(s, what)
		if err := h.Told(t.Context(), s, what); err != nil {
			t.Fatal(err)
		}
		if due := h.due(t).Sendings; len(due) != 0 {
			t.Fatalf("still due: %v", due)
		}
		return s, subject + "\n" + text
	}
	first, _ := hold(), hold()
	s, text := next()
	if !s.Asks() || strings.Count(text, "RETENU") != 2 || strings.Count(text, "HELD") != 2 || !strings.HasPrefix(text, "Numéro de téléphone") || !strings.Contains(text, h.SendingLink(s.ID)) {
		t.Errorf("the first: %s", text)
	}
	if err := h.Activate(t.Context(), h.one(t, nil).ID); err != nil { // the repeat brings who was refused for now
		t.Fatal(err)
	}
	if s, text = next(); s.Asks() || strings.HasPrefix(text, "Numéro") {
		t.Errorf("asked again: %s", text)
	}
	hold()
	if s, text = next(); !s.Asks() {
		t.Errorf("not asked for the one that joined: %s", text)
	}
	if _, err := h.Complete(t.Context(), first.ID, "0612345678"); err != nil {
		t.Fatal(err)
	}
	if err := h.Release(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if due := h.due(t).Sendings; len(due) != 0 {
		t.Errorf("told of each step: %v", due)
	}
	h.now = h.now.Add(HoldLife)
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 2 {
		t.Fatalf("%+v %v", s, err)
	}
	if s, text = next(); !s.Undelivered() || strings.Count(text, "NON REMIS") != 2 {
		t.Errorf("the loss: %s", text)
	}
	if s, err := h.Sending(t.Context(), s.ID); err != nil || s.Undelivered() {
		t.Errorf("told, and not done with: %v", err)
	}
}

// What an older version left is taken over: who was asked is not asked again, who was not told of a loss is, ends get their time, empty sendings go.
func TestKeepOfOldRows(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), "vault", schema, schemaLife); err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx store.Tx) error {
		for _, id := range []string{"held", "untold", "told", "empty"} {
			due := map[string]int64{"untold": ms(noon)}[id]
			told := map[string]Summary{"held": SentTo, "told": AllSettled}[id]
			if _, err := tx.Exec(`INSERT INTO vault_sendings (id, mark, sender, message_id, created, told, next_due) VALUES (?, ?, 'dr@c.test', '', ?, ?, ?)`, id, []byte(id), ms(noon), told, due); err != nil {
				return err
			}
			if id == "empty" {
				continue
			}
			state := map[string]State{"held": Held}[id]
			if state == "" {
				state = Destroyed
			}
			if _, err := tx.Exec(`INSERT INTO vault_deposits (id, link, created, expires, changed, next_due, state, sender, recipient, lang, mode, sending, noted)
				VALUES (?, ?, ?, ?, ?, 0, ?, 'dr@c.test', 'p@m.test', '', 'sms', ?, ?)`, id, []byte(id), ms(noon), ms(noon.Add(30*aDay)), ms(noon), state, id, state); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h := open(t)
	if h.Vault, err = New(t.Context(), db, h.blobs, h.cfg); err != nil {
		t.Fatal(err)
	}
	h.db = db
	for id, want := range map[string][2]bool{"held": {false, false}, "untold": {false, true}, "told": {false, false}} {
		s, err := h.Sending(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{s.Asks(), s.Undelivered()}; got != want {
			t.Errorf("%s: asks and undelivered %v, want %v", id, got, want)
		}
	}
	h.now = noon.Add(h.cfg.Keep)
	h.shedNow(t, 2)
	if n := h.rows(t, "vault_sendings"); n != 1 {
		t.Errorf("%d sendings, want that of the held one", n)
	}
}
