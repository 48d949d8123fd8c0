package gateway

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"passerelle/gateway/collect"
	"passerelle/gateway/store"
)

// collectTables: a row for each message that was settled. done: the operator's server was told. Rows outlive their messages (collectKept),
// because they tell them again when the folder's validity has changed.
const collectTables = `
CREATE TABLE collect_folders (box TEXT PRIMARY KEY, validity INTEGER NOT NULL, floor INTEGER NOT NULL, adopt INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE collect_messages (box TEXT NOT NULL, validity INTEGER NOT NULL, uid INTEGER NOT NULL, print BLOB NOT NULL, fate TEXT NOT NULL,
	done INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (box, validity, uid)) WITHOUT ROWID;
CREATE INDEX collect_messages_print ON collect_messages (box, print);
CREATE INDEX collect_messages_owed ON collect_messages (box, validity, uid) WHERE done = 0;
`

// collectState is collect.State on the gateway's database.
type collectState struct {
	db  *store.DB
	now func() time.Time
}

func (s collectState) Open(ctx context.Context, box string, validity, next uint32) (p collect.Place, err error) {
	var have uint32
	err = s.db.Read().QueryRowContext(ctx, `SELECT validity, floor, adopt FROM collect_folders WHERE box = ?`, box).Scan(&have, &p.Floor, &p.Adopt)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("read the place in a mailbox: %w", err)
	}
	// A folder that was restored or made anew may keep its validity (Zimbra's is always 1). Its numbers are used again then.
	again := have == validity && 0 < next && next <= p.Floor
	if err != nil || have != validity || again {
		p = collect.Place{}
		if err == nil {
			p.Adopt = next
			if next == 0 { // the server does not say: whatever is there may be old
				p.Adopt = 1<<32 - 1
			}
		}
		err := s.db.Write(ctx, func(tx store.Tx) error {
			if again { // what is known goes by its print, under a validity that no folder has
				if _, err := tx.Exec(`UPDATE OR REPLACE collect_messages SET validity = 0 WHERE box = ? AND validity = ?`, box, validity); err != nil {
					return err
				}
			}
			_, err := tx.Exec(`INSERT OR REPLACE INTO collect_folders (box, validity, floor, adopt) VALUES (?, ?, 0, ?)`, box, validity, p.Adopt)
			return err
		})
		if err != nil {
			return p, fmt.Errorf("note a new folder: %w", err)
		}
	}
	rows, err := s.db.Read().QueryContext(ctx, `SELECT uid, fate FROM collect_messages WHERE box = ? AND validity = ? AND done = 0 ORDER BY uid LIMIT 1000`, box, validity)
	if err != nil {
		return p, fmt.Errorf("read what is owed: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var o collect.Owed
		if err := rows.Scan(&o.UID, &o.Fate); err != nil {
			return p, fmt.Errorf("read what is owed: %w", err)
		}
		p.Owed = append(p.Owed, o)
	}
	return p, rows.Err()
}

func (s collectState) Known(ctx context.Context, box string, validity uint32, uids []uint32) (map[uint32]bool, error) {
	known := map[uint32]bool{}
	if len(uids) == 0 {
		return known, nil
	}
	rows, err := s.db.Read().QueryContext(ctx, `SELECT uid FROM collect_messages WHERE box = ? AND validity = ? AND uid BETWEEN ? AND ?`,
		box, validity, uids[0], uids[len(uids)-1])
	if err != nil {
		return nil, fmt.Errorf("read collected messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var u uint32
		if err := rows.Scan(&u); err != nil {
			return nil, fmt.Errorf("read collected messages: %w", err)
		}
		known[u] = true
	}
	return known, rows.Err()
}

func (s collectState) Adopt(ctx context.Context, id collect.ID, p collect.Print) (fate collect.Fate, err error) {
	var validity, uid uint32
	err = s.db.Read().QueryRowContext(ctx, `SELECT validity, uid, fate FROM collect_messages WHERE box = ? AND print = ? AND validity <> ? LIMIT 1`, id.Box, p[:], id.Validity).
		Scan(&validity, &uid, &fate)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err == nil {
		err = s.db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec(`UPDATE collect_messages SET validity = ?, uid = ?, done = (done AND fate = 'refused') WHERE box = ? AND validity = ? AND uid = ?`, id.Validity, id.UID, id.Box, validity, uid)
			return err
		})
	}
	if err != nil {
		return "", fmt.Errorf("find a message under its new number: %w", err)
	}
	return fate, nil
}

func (s collectState) Settle(ctx context.Context, id collect.ID, p collect.Print, f collect.Fate) error {
	return s.write(ctx, "settle a collected message", `INSERT OR REPLACE INTO collect_messages (box, validity, uid, print, fate, done, at) VALUES (?, ?, ?, ?, ?, 0, ?)`,
		id.Box, id.Validity, id.UID, p[:], string(f), s.now().Unix())
}

func (s collectState) Done(ctx context.Context, id collect.ID) error {
	return s.write(ctx, "note that the server was told", `UPDATE collect_messages SET done = 1 WHERE box = ? AND validity = ? AND uid = ?`, id.Box, id.Validity, id.UID)
}

func (s collectState) Reach(ctx context.Context, box string, validity, floor uint32) error {
	return s.write(ctx, "note the place in a mailbox", `UPDATE collect_folders SET floor = ? WHERE box = ? AND validity = ?`, floor, box, validity)
}

// collectKept is how long a row outlives its message: so old a backup may be restored under another validity without bringing anything twice.
const collectKept = 90 * 24 * time.Hour

func (s collectState) Sweep(ctx context.Context, box string, validity uint32, held func([]uint32) (map[uint32]bool, error)) error {
	old := s.now().Add(-collectKept).Unix()
	const deed = "forget collected messages"
	err := s.write(ctx, deed, `DELETE FROM collect_messages WHERE box = ? AND validity <> ? AND at < ?`, box, validity, old)
	for after := uint32(0); err == nil; {
		var uids []uint32
		if uids, err = s.aged(ctx, box, validity, after, old); err != nil || len(uids) == 0 {
			return err
		}
		after = uids[len(uids)-1]
		there, fail := held(uids)
		if fail != nil {
			return fail
		}
		fail = s.db.Write(ctx, func(tx store.Tx) error {
			for _, u := range uids {
				if there[u] {
					continue
				}
				if _, err := tx.Exec(`DELETE FROM collect_messages WHERE box = ? AND validity = ? AND uid = ?`, box, validity, u); err != nil {
					return err
				}
			}
			return nil
		})
		if fail != nil {
			return fmt.Errorf("%s: %w", deed, fail)
		}
	}
	return err
}

// aged are some messages of long ago of which nothing is owed, in order. Above the place of the folder nothing but its row tells a message.
func (s collectState) aged(ctx context.Context, box string, validity, after uint32, old int64) (uids []uint32, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `SELECT uid FROM collect_messages WHERE box = ?1 AND validity = ?2 AND uid > ?3 AND done = 1 AND at < ?4
		AND uid <= (SELECT floor FROM collect_folders WHERE box = ?1 AND validity = ?2) ORDER BY uid LIMIT 200`, box, validity, after, old)
	if err != nil {
		return nil, fmt.Errorf("read old messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var u uint32
		if err := rows.Scan(&u); err != nil {
			return nil, fmt.Errorf("read old messages: %w", err)
		}
		uids = append(uids, u)
	}
	return uids, rows.Err()
}

func (s collectState) write(ctx context.Context, deed, query string, args ...any) error {
	err := s.db.Write(ctx, func(tx store.Tx) error { _, err := tx.Exec(query, args...); return err })
	if err != nil {
		return fmt.Errorf("%s: %w", deed, err)
	}
	return nil
}
