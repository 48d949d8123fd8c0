package gateway

import (
	"slices"
	"testing"
	"time"

	"passerelle/gateway/collect"
	"passerelle/gateway/store"
)

func collectStateFor(t *testing.T) collectState {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), "gateway", knownTables, collectTables); err != nil {
		t.Fatal(err)
	}
	return collectState{db, time.Now}
}

// Under another validity each settled message is known once, with its fate: what was refused is never taken for something that may be deleted, and
// its postmaster is not told again.
func TestCollectStateAdopts(t *testing.T) {
	s, ctx := collectStateFor(t), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	place := func(validity, next uint32) collect.Place {
		t.Helper()
		p, err := s.Open(ctx, "a/INBOX", validity, next)
		must(err)
		return p
	}
	id := func(validity, uid uint32) collect.ID { return collect.ID{Box: "a/INBOX", Validity: validity, UID: uid} }
	if p := place(1, 9); p.Adopt != 0 || p.Floor != 0 || len(p.Owed) != 0 {
		t.Errorf("a new folder: %+v", p)
	}
	same := collect.Print{1}
	must(s.Settle(ctx, id(1, 3), same, collect.Taken))
	must(s.Settle(ctx, id(1, 4), same, collect.Taken))
	must(s.Settle(ctx, id(1, 5), collect.Print{2}, collect.Refused))
	must(s.Settle(ctx, id(1, 6), collect.Print{3}, collect.Refused))
	for _, uid := range []uint32{3, 4, 5} {
		must(s.Done(ctx, id(1, uid)))
	}
	must(s.Reach(ctx, "a/INBOX", 1, 6))
	if p := place(1, 9); p.Floor != 6 || len(p.Owed) != 1 || p.Owed[0] != (collect.Owed{UID: 6, Fate: collect.Refused}) {
		t.Errorf("a known folder: %+v", p)
	}
	if p := place(2, 20); p.Adopt != 20 || p.Floor != 0 || len(p.Owed) != 0 {
		t.Errorf("a folder made anew: %+v", p)
	}
	for n, c := range []struct {
		print collect.Print
		want  collect.Fate
	}{{same, collect.Taken}, {same, collect.Taken}, {same, ""}, {collect.Print{2}, collect.Refused}, {collect.Print{3}, collect.Refused}, {collect.Print{9}, ""}} {
		got, err := s.Adopt(ctx, id(2, uint32(n+1)), c.print)
		must(err)
		if got != c.want {
			t.Errorf("message %d: got %q, want %q", n+1, got, c.want)
		}
	}
	p := place(2, 20)
	want := []collect.Owed{{UID: 1, Fate: collect.Taken}, {UID: 2, Fate: collect.Taken}, {UID: 5, Fate: collect.Refused}} // 4: its postmaster was told
	if len(p.Owed) != 3 || p.Owed[0] != want[0] || p.Owed[1] != want[1] || p.Owed[2] != want[2] || p.Adopt != 20 {
		t.Errorf("owed: %+v", p)
	}
	known, err := s.Known(ctx, "a/INBOX", 2, []uint32{1, 2, 3, 4, 5, 6})
	must(err)
	if len(known) != 4 || known[3] || known[6] {
		t.Errorf("known: %v", known)
	}
	if p := place(3, 0); p.Adopt != 1<<32-1 {
		t.Errorf("a server that does not say its next number: %+v", p)
	}
}

// A folder that is restored, or made anew, may keep its validity and use its numbers again (Zimbra's validity is always 1): what has an old number
// is a new message unless its print says otherwise. Numbers that go on are nothing of the kind.
func TestCollectStateNumbersUsedAgain(t *testing.T) {
	s, ctx := collectStateFor(t), t.Context()
	id := func(uid uint32) collect.ID { return collect.ID{Box: "a/INBOX", Validity: 1, UID: uid} }
	open := func(next uint32) collect.Place {
		t.Helper()
		p, err := s.Open(ctx, "a/INBOX", 1, next)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	open(1)
	for uid := uint32(1); uid <= 6; uid++ {
		if err := s.Settle(ctx, id(uid), collect.Print{byte(uid)}, collect.Taken); err != nil {
			t.Fatal(err)
		}
		if err := s.Done(ctx, id(uid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Reach(ctx, "a/INBOX", 1, 6); err != nil {
		t.Fatal(err)
	}
	for _, next := range []uint32{0, 7, 100} {
		if p := open(next); p.Floor != 6 || p.Adopt != 0 {
			t.Errorf("next %d: %+v", next, p)
		}
	}
	if p := open(5); p.Floor != 0 || p.Adopt != 5 { // restored as it was with four
		t.Fatalf("a folder made anew: %+v", p)
	}
	if known, err := s.Known(ctx, "a/INBOX", 1, []uint32{1, 2, 3, 4, 5, 6}); err != nil || len(known) != 0 {
		t.Errorf("known by numbers of old: %v, %v", known, err)
	}
	for uid, want := range map[uint32]collect.Fate{1: collect.Taken, 4: collect.Taken} {
		if f, err := s.Adopt(ctx, id(uid), collect.Print{byte(uid)}); err != nil || f != want {
			t.Errorf("message %d: %q, %v", uid, f, err)
		}
	}
	if f, err := s.Adopt(ctx, id(2), collect.Print{99}); err != nil || f != "" {
		t.Errorf("a new message under an old number: %q, %v", f, err)
	}
	if p := open(7); p.Floor != 0 || p.Adopt != 5 {
		t.Errorf("the next session: %+v", p)
	}
}

// A row goes when it is old, nothing is owed, and its message is there no more.
func TestCollectStateForgets(t *testing.T) {
	s, ctx := collectStateFor(t), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return now }
	put := func(validity, uid uint32, done bool) {
		t.Helper()
		id := collect.ID{Box: "a/INBOX", Validity: validity, UID: uid}
		must(s.Settle(ctx, id, collect.Print{byte(validity), byte(uid), byte(uid >> 8)}, collect.Taken))
		if done {
			must(s.Done(ctx, id))
		}
	}
	_, err := s.Open(ctx, "a/INBOX", 1, 1)
	must(err)
	put(9, 1, true) // of another validity
	for uid := uint32(1); uid <= 450; uid++ {
		put(1, uid, uid != 3)
	}
	put(1, 500, true) // above the place
	must(s.Reach(ctx, "a/INBOX", 1, 460))
	now = now.Add(collectKept + time.Hour)
	put(1, 451, true) // young
	asked := 0
	must(s.Sweep(ctx, "a/INBOX", 1, func(uids []uint32) (map[uint32]bool, error) {
		asked += len(uids)
		return map[uint32]bool{2: true}, nil
	}))
	rows, err := s.db.Read().QueryContext(ctx, `SELECT validity, uid FROM collect_messages ORDER BY 1, 2`)
	must(err)
	defer rows.Close()
	var left []uint32
	for rows.Next() {
		var validity, uid uint32
		must(rows.Scan(&validity, &uid))
		left = append(left, validity*1000+uid)
	}
	if want := []uint32{1002, 1003, 1451, 1500}; !slices.Equal(left, want) || asked != 449 {
		t.Errorf("left %v, want %v; asked for %d", left, want, asked)
	}
}
