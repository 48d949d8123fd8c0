package vault

import (
	"crypto/sha256"
	"testing"
	"time"
)

const aDay = 24 * time.Hour

// remindable is a house with two reminders and a report.
func remindable(t *testing.T) *house {
	h := open(t)
	h.cfg.Reminders, h.cfg.Report = []time.Duration{2 * aDay, 5 * aDay}, 7*aDay
	return h
}

// due gives what is due, and fails where a reminder has another number.
func (h *house) due(t *testing.T) Dues {
	t.Helper()
	d, err := h.Due(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Reminders fall due at their ages, each once; who opened is not reminded, and after the last one the record of the link is gone.
func TestReminders(t *testing.T) {
	h := remindable(t)
	d, opened := h.deposit(t, ""), h.deposit(t, "")
	if _, err := h.Prove(t.Context(), secretOf(opened), opened.Code, home); err != nil {
		t.Fatal(err)
	}
	for n, age := range []time.Duration{2 * aDay, 5 * aDay} {
		h.now = d.Created.Add(age - time.Second)
		if got := h.due(t).Remind; len(got) != 0 {
			t.Fatalf("before %v: %v", age, got)
		}
		h.now = d.Created.Add(age)
		for range 2 { // until it is noted
			if got := h.due(t).Remind; len(got) != 1 || got[d.ID] != n+1 {
				t.Fatalf("at %v: %v", age, got)
			}
		}
		again, err := h.Remind(t.Context(), d.ID, n+1)
		if err != nil || again == nil || again.Link != d.Link {
			t.Fatalf("reminder %d: %+v, %v", n+1, again, err)
		}
		for range 2 { // noted twice is noted once
			if err := h.Reminded(t.Context(), d.ID, n+1); err != nil {
				t.Fatal(err)
			}
		}
		if again, err := h.Remind(t.Context(), d.ID, n+1); err != nil || again != nil {
			t.Fatalf("reminder %d twice: %+v, %v", n+1, again, err)
		}
	}
	h.now = d.Created.Add(20 * aDay)
	if got := h.due(t).Remind; len(got) != 0 {
		t.Fatalf("after the last: %v", got)
	}
	if r, err := h.row(t.Context(), "id = ?", d.ID); err != nil || r.resend != nil {
		t.Fatalf("the link's record outlives the last reminder: %v", err)
	}
	if _, err := h.Look(t.Context(), secretOf(d)); err != nil {
		t.Fatalf("a reminded deposit does not open: %v", err)
	}
	h.now = d.Expires
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A reminder that cannot be sent stays due and does not keep the sweep busy; the deposit expires all the same.
func TestReminderThatWaits(t *testing.T) {
	h := remindable(t)
	d := h.deposit(t, "")
	h.now = d.Created.Add(3 * aDay)
	if s, err := h.Sweep(t.Context()); err != nil || s != (Swept{}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if len(h.due(t).Remind) != 1 {
		t.Fatal("not due any more")
	}
	h.now = d.Expires
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if len(h.due(t).Remind) != 0 {
		t.Fatal("what expired is reminded of")
	}
}

// two deposits of one message.
func (h *house) sending(t *testing.T) (key string, ds []*Deposit) {
	t.Helper()
	key = h.SendingKey(request("").Sender, sha256.Sum256([]byte("bytes")))
	for range 2 {
		r := request("")
		r.Sending = key
		d, err := h.Deposit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Activate(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	return key, ds
}

// told is what falls due at the one sending there is.
func (h *house) told(t *testing.T) Summary {
	t.Helper()
	due := h.due(t).Sendings
	if len(due) == 0 {
		return NoSummary
	}
	s, err := h.Sending(t.Context(), due[0])
	if err != nil || len(due) != 1 || len(s.Deposits) != 2 {
		t.Fatalf("%v %+v %v", due, s, err)
	}
	what := s.Due(h.now, h.cfg.Report)
	if err := h.Told(t.Context(), s, what); err != nil {
		t.Fatal(err)
	}
	if again := h.due(t).Sendings; len(again) != 0 {
		t.Fatalf("still due after %v", what)
	}
	return what
}

// A sender is told of one message, not of each recipient or step: whom it waits for, who has not opened it after a week, the end.
func TestSummaries(t *testing.T) {
	h := remindable(t)
	_, ds := h.sending(t)
	expect := func(at time.Time, want Summary) {
		t.Helper()
		h.now = at
		if got := h.told(t); got != want {
			t.Fatalf("%v after: told %v, want %v", at.Sub(ds[0].Created), got, want)
		}
	}
	expect(h.now, NoSummary)
	expect(h.now.Add(gather), SentTo)
	if _, err := h.Prove(t.Context(), secretOf(ds[0]), ds[0].Code, home); err != nil {
		t.Fatal(err)
	}
	expect(h.now.Add(aDay), NoSummary) // one of two
	expect(ds[0].Created.Add(7*aDay), NotOpened)
	if err := h.Revoke(t.Context(), ds[1].ID); err != nil {
		t.Fatal(err)
	}
	expect(h.now.Add(gather), AllSettled)
	h.now = ds[0].Expires
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(h.now.Add(aDay), NoSummary)
	s, err := h.Status(t.Context(), ds[0].ID)
	if err != nil || s.State != Expired || s.Opened.IsZero() || s.Level != string(BySender) || s.Ended.IsZero() {
		t.Fatalf("what is known after the end: %+v, %v", s, err)
	}
}

// Opened by all at once, or expired unopened: one summary says all.
func TestSummaryOfTheEnd(t *testing.T) {
	h := remindable(t)
	_, ds := h.sending(t)
	for _, d := range ds {
		if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
			t.Fatal(err)
		}
	}
	h.now = h.now.Add(gather)
	if got := h.told(t); got != AllSettled {
		t.Fatalf("told %v", got)
	}

	h = remindable(t)
	h.cfg.Report = 0
	_, ds = h.sending(t)
	h.now = h.now.Add(gather)
	if got := h.told(t); got != SentTo {
		t.Fatalf("told %v", got)
	}
	h.now = ds[1].Expires
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.told(t); got != AllSettled {
		t.Fatalf("told %v", got)
	}
}

// A repeated attempt within the ledger's memory is the same sending; another content is another one.
func TestSendingOfARepeat(t *testing.T) {
	h := remindable(t)
	key, ds := h.sending(t)
	s, err := h.Status(t.Context(), ds[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	again := func(key string) string {
		t.Helper()
		r := request("")
		r.Sending = key
		d, err := h.Deposit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		st, err := h.Status(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sending
	}
	h.now = h.now.Add(aDay)
	if again(key) != s.Sending {
		t.Error("a repeat is another sending")
	}
	if again(h.SendingKey(request("").Sender, sha256.Sum256([]byte("other")))) == s.Sending {
		t.Error("another message is the same sending")
	}
	h.now = h.now.Add(8 * aDay)
	if again(key) == s.Sending {
		t.Error("a resend after the memory's end is the old sending")
	}
}

// Held: nobody opens it, the number completes it, 48 hours end it.
func TestHeld(t *testing.T) {
	h := remindable(t)
	held := func() *Deposit {
		t.Helper()
		r := request("")
		r.Hold, r.Sending = true, h.SendingKey(request("").Sender, sha256.Sum256([]byte("x")))
		d, err := h.Deposit(t.Context(), r)
		if err != nil || d.Code != "" {
			t.Fatalf("%+v %v", d, err)
		}
		if err := h.Hold(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		_, err = h.Look(t.Context(), secretOf(d))
		want(t, err, NotFound)
		return d
	}
	a, b := held(), held()
	if _, err := h.Complete(t.Context(), a.ID, "12"); err == nil {
		t.Error("a wrong number completes")
	}
	got, err := h.Complete(t.Context(), a.ID, "06 12 34 56 78")
	if err != nil || got.Mode != BySMS || got.Link != a.Link || got.MaskedPhone == "" {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := h.Look(t.Context(), secretOf(a)); Why(err) != NotFound {
		t.Errorf("open before its notice was accepted: %v", err)
	}
	if err := h.Release(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if v, err := h.Look(t.Context(), secretOf(a)); err != nil || v.Mode != BySMS {
		t.Fatalf("%+v %v", v, err)
	}
	if err := h.Release(t.Context(), a.ID); err != nil { // by who did not hear of the first time
		t.Error(err)
	}
	h.now = b.Created.Add(HoldLife)
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 1 {
		t.Fatalf("%+v %v", s, err)
	}
	if st, err := h.Status(t.Context(), b.ID); err != nil || st.State != Destroyed {
		t.Fatalf("%+v %v", st, err)
	}
	if _, err := h.Complete(t.Context(), b.ID, ""); Why(err) != Gone {
		t.Errorf("completed after its end: %v", err)
	}
}

// Extend moves the end of a told code with the deposit's; an exchange is closed for all messages between two, and opened by the next.
func TestExtendAndClose(t *testing.T) {
	h := remindable(t)
	d := h.deposit(t, "")
	late := d.Expires.Add(10 * aDay)
	if err := h.Extend(t.Context(), d.ID, late); err != nil {
		t.Fatal(err)
	}
	if h.Extend(t.Context(), d.ID, h.now.AddDate(2, 0, 0)) == nil {
		t.Error("extended by two years")
	}
	h.now = d.Expires.Add(aDay)
	session, err := h.Prove(t.Context(), secretOf(d), d.Code, home)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.CloseExchange(t.Context(), d.Sender, d.Recipient, true); err != nil {
		t.Fatal(err)
	}
	closed := func() bool {
		t.Helper()
		c, err := h.Open(t.Context(), secretOf(d), session)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Closed
	}
	if !closed() {
		t.Error("not closed")
	}
	h.deposit(t, "")
	if closed() {
		t.Error("a new message does not open the exchange")
	}
}

// The ledger is told of an opening and of the end, each once.
func TestNoted(t *testing.T) {
	h := remindable(t)
	d := h.deposit(t, "")
	if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
		t.Fatal(err)
	}
	for _, state := range []State{Opened, Expired} {
		got, err := h.Unnoted(t.Context(), 10)
		if err != nil || len(got) != 1 || got[0].State != state {
			t.Fatalf("%v: %+v %v", state, got, err)
		}
		if err := h.Noted(t.Context(), got...); err != nil {
			t.Fatal(err)
		}
		if got, err = h.Unnoted(t.Context(), 10); err != nil || len(got) != 0 {
			t.Fatalf("%v twice: %+v %v", state, got, err)
		}
		h.now = d.Expires
		if _, err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The link's record goes with the last reminder's time, whether the message was opened before it or not: who steals database, payloads and server key
// later opens nothing that was read long ago.
func TestRecordOfTheOpenedGoes(t *testing.T) {
	h := open(t, func(c *Config) { c.Reminders = []time.Duration{2 * day, 5 * day} })
	early, late, unread := h.deposit(t, "06 12 34 56 78"), h.deposit(t, "06 12 34 56 79"), h.deposit(t, "06 12 34 56 70")
	read := func(d *Deposit) {
		t.Helper()
		if err := h.SendCode(t.Context(), secretOf(d)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Prove(t.Context(), secretOf(d), h.sms.code(), home); err != nil {
			t.Fatal(err)
		}
	}
	linked := func(d *Deposit) bool {
		t.Helper()
		if _, err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := h.Status(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s.Linked
	}
	read(early)
	h.now = noon.Add(4 * day)
	if !linked(early) || !linked(unread) {
		t.Error("the record went before the last reminder")
	}
	read(late)
	h.now = noon.Add(5 * day)
	if linked(early) || linked(late) {
		t.Error("the record outlives the last reminder")
	}
	if !linked(unread) {
		t.Error("a reminder is due, and its link is gone")
	}
	h.now = noon.Add(6 * day)
	read(late) // opening it again brings nothing back, and nothing is due for it before its end
	if linked(late) {
		t.Error("the record is back")
	}
	if _, err := h.Look(t.Context(), secretOf(late)); err != nil {
		t.Error(err)
	}
	h.now = noon.Add(31 * day)
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 3 {
		t.Errorf("%+v %v", s, err)
	}
}
