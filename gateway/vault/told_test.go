package vault

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"
)

// one makes a deposit of a sending, pending.
func (h *house) one(t *testing.T, change func(*DepositRequest)) *Deposit {
	t.Helper()
	r := request("")
	r.Sending = h.SendingKey(r.Sender, sha256.Sum256([]byte("bytes")))
	if change != nil {
		change(&r)
	}
	d, err := h.Deposit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tell does what is due for a sending, and gives what that was.
func (h *house) tell(t *testing.T) (whats []Summary) {
	t.Helper()
	for _, id := range h.due(t).Sendings {
		s, err := h.Sending(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		whats = append(whats, s.Due(h.now, h.cfg.Report))
		if err := h.Told(t.Context(), s, whats[len(whats)-1]); err != nil {
			t.Fatal(err)
		}
	}
	return whats
}

// A notice that takes longer than the recipients are gathered: its sender is told all the same, once it was accepted.
func TestToldOfASlowNotice(t *testing.T) {
	h := remindable(t)
	d := h.one(t, nil)
	h.now = h.now.Add(3 * gather)
	if got := h.tell(t); len(got) != 0 {
		t.Fatalf("told %v of what was not accepted", got)
	}
	if err := h.Activate(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.tell(t); len(got) != 1 || got[0] != SentTo {
		t.Fatalf("told %v", got)
	}
}

// Attempts that come to nothing, as of a recipient whose server says "later" all day, are no news for the sender of the others.
func TestFailedAttemptIsNoNews(t *testing.T) {
	h := remindable(t)
	if err := h.Activate(t.Context(), h.one(t, nil).ID); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.tell(t); len(got) != 1 {
		t.Fatalf("told %v", got)
	}
	for range 3 {
		d := h.one(t, nil)
		if err := h.Destroy(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(10 * gather)
		if got := h.tell(t); len(got) != 0 {
			t.Fatalf("told again: %v", got)
		}
	}
	h.now = h.now.Add(7 * aDay)
	if got := h.tell(t); len(got) != 1 || got[0] != NotOpened {
		t.Fatalf("after a week: %v", got)
	}
}

// Another recipient who joins between a receipt's leaving and its note is told of too.
func TestJoinedWhileTold(t *testing.T) {
	h := remindable(t)
	if err := h.Activate(t.Context(), h.one(t, nil).ID); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	s, err := h.Sending(t.Context(), h.due(t).Sendings[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Activate(t.Context(), h.one(t, nil).ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Told(t.Context(), s, SentTo); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.tell(t); len(got) != 1 || got[0] != SentTo {
		t.Fatalf("told %v", got)
	}
}

// A message that its last reader opens between a receipt's leaving and its note: the end is told all the same, and now.
func TestSettledWhileTold(t *testing.T) {
	for name, at := range map[Summary]time.Duration{SentTo: gather, NotOpened: 7 * aDay} {
		h := remindable(t)
		d := h.one(t, nil)
		if err := h.Activate(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		h.now = noon.Add(at)
		s, err := h.Sending(t.Context(), h.due(t).Sendings[0])
		if err != nil || s.Due(h.now, h.cfg.Report) != name {
			t.Fatalf("%+v %v", s, err)
		}
		if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
			t.Fatal(err)
		}
		if err := h.Told(t.Context(), s, name); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(gather)
		if got := h.tell(t); len(got) != 1 || got[0] != AllSettled {
			t.Errorf("after %v: told %v", name, got)
		}
	}
}

// All who have it opened while another attempt was pending: the end is told when that attempt comes to nothing, too.
func TestEndBesideAPendingOne(t *testing.T) {
	h := remindable(t)
	d := h.one(t, nil)
	if err := h.Activate(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	h.one(t, nil) // what a crash left
	if _, err := h.Prove(t.Context(), secretOf(d), d.Code, home); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(2 * pendingLife)
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.tell(t); len(got) != 1 || got[0] != AllSettled {
		t.Fatalf("told %v", got)
	}
}

// What is destroyed because nobody gave a number is told of at once, whoever else is waited for, and in words of its own.
func TestHeldToItsEnd(t *testing.T) {
	h := remindable(t)
	if err := h.Activate(t.Context(), h.one(t, nil).ID); err != nil {
		t.Fatal(err)
	}
	held := h.one(t, func(r *DepositRequest) { r.Hold = true })
	if err := h.Hold(t.Context(), held.ID); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(gather)
	if got := h.tell(t); len(got) != 1 {
		t.Fatalf("told %v", got)
	}
	h.now = held.Created.Add(HoldLife)
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 1 {
		t.Fatalf("%+v %v", s, err)
	}
	h.now = h.now.Add(gather)
	due := h.due(t).Sendings
	if len(due) != 1 {
		t.Fatalf("due: %v", due)
	}
	s, err := h.Sending(t.Context(), due[0])
	if err != nil || !s.Undelivered() {
		t.Fatalf("%+v %v", s, err)
	}
	if st, err := h.Status(t.Context(), held.ID); err != nil || st.State != Destroyed || !strings.Contains(h.Stands(st, "fr"), "NON REMIS") || !strings.Contains(h.Stands(st, "en"), "NOT DELIVERED") {
		t.Errorf("%+v %v", st, err)
	}
	if err := h.Told(t.Context(), s, s.Due(h.now, h.cfg.Report)); err != nil {
		t.Fatal(err)
	}
	if s, err = h.Sending(t.Context(), s.ID); err != nil || s.Undelivered() {
		t.Errorf("told, and not done with: %v", err)
	}
}

// A deposit is never made shorter by an extension, and reminders that the operator has taken out of the config do not leave.
func TestExtendAndFewerReminders(t *testing.T) {
	h := remindable(t)
	d := h.deposit(t, "")
	if err := h.Extend(t.Context(), d.ID, d.Expires.Add(-aDay)); err == nil {
		t.Error("it ends earlier than it did")
	}
	h.now = d.Created.Add(2 * aDay)
	h.cfg.Reminders = nil
	if len(h.due(t).Remind) != 1 {
		t.Fatal("nothing is due")
	}
	if again, err := h.Remind(t.Context(), d.ID, 1); err != nil || again != nil {
		t.Errorf("%+v %v", again, err)
	}
	if got := h.due(t).Remind; len(got) != 0 {
		t.Errorf("due for ever: %v", got)
	}
	h.now = d.Created.Add(30 * aDay)
	if s, err := h.Sweep(t.Context()); err != nil || s.Expired != 1 {
		t.Errorf("%+v %v", s, err)
	}
}

// The notice of a completed deposit was not accepted, the code was: it holds beside the one of the next attempt.
func TestCompletedTwice(t *testing.T) {
	h := remindable(t)
	d := h.one(t, func(r *DepositRequest) { r.Hold = true })
	if err := h.Hold(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for range 2 {
		c, err := h.Complete(t.Context(), d.ID, "01 23 45 67 89")
		if err != nil || c.Code == "" {
			t.Fatalf("%+v %v", c, err)
		}
		codes = append(codes, c.Code)
	}
	if err := h.Release(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range codes {
		if _, err := h.Prove(t.Context(), secretOf(d), c, home); err != nil {
			t.Error(err)
		}
	}
}
