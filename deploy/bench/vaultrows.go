package main

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"passerelle/crypto/seal"
)

// sample is a deposit that the gateway itself has sealed, and all that its recipient and its sender know.
type sample struct{ ID, Link, Short, Sender, Code string }

// vaultRows is the database of a gateway that does not run.
type vaultRows struct {
	db    *sql.DB
	key   seal.Key
	state string
}

func openRows(state string) (*vaultRows, error) {
	text, err := os.ReadFile(filepath.Join(state, "server.key"))
	if err != nil {
		return nil, fmt.Errorf("key of the vault: %w", err)
	}
	server, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("key of the vault: %w", err)
	}
	key, err := hkdf.Key(sha256.New, server, nil, "passerelle vault", 32) // as gateway/key.go derives it
	if err != nil {
		return nil, fmt.Errorf("key of the vault: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(state, "passerelle.db")+"?_pragma=synchronous(OFF)&_pragma=cache_size(-1500000)&_pragma=temp_store(MEMORY)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, fmt.Errorf("rows of the vault: %w", err)
	}
	db.SetMaxOpenConns(1)
	return &vaultRows{db, seal.Key(key), state}, nil
}

// samples gives each living deposit of the database the code 123456, and what opens it.
func (v *vaultRows) samples() (out []sample, err error) {
	rows, err := v.db.Query(`SELECT id, resend, sending FROM vault_deposits WHERE state = 'waiting'`)
	if err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		s := sample{Code: "123456"}
		var resend []byte
		var sending string
		if err := rows.Scan(&s.ID, &resend, &sending); err != nil {
			return nil, fmt.Errorf("samples: %w", err)
		}
		both, err := seal.OpenValue(v.key, "resend", s.ID, resend)
		if err != nil {
			return nil, fmt.Errorf("samples: %w", err)
		}
		s.Link, s.Short = string(both[:26]), string(both[26:])
		s.Sender = sending + hex.EncodeToString(seal.Mark(v.key, "sending link", sending)[:16])
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	for _, s := range out {
		if _, err := v.db.Exec(`UPDATE vault_deposits SET code1 = ?, code1_until = expires WHERE id = ?`, seal.Mark(v.key, "code", s.ID, s.Code), s.ID); err != nil {
			return nil, fmt.Errorf("samples: %w", err)
		}
	}
	return out, nil
}

// fill adds n deposits, each of a message of its own, the oldest first, 29 days old to new. Their records open, for reminders; their
// content does not, and their payloads are empty files. The indexes are made anew behind it, which is quicker and takes their cost out of none.
func (v *vaultRows) fill(ctx context.Context, n int) error {
	var names, makes []string
	rows, err := v.db.Query(`SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'vault_%' AND sql IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("fill the vault: %w", err)
	}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return fmt.Errorf("fill the vault: %w", err)
		}
		names, makes = append(names, name), append(makes, text)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("fill the vault: %w", err)
	}
	tx, err := v.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("fill the vault: %w", err)
	}
	defer tx.Rollback()
	for _, name := range names {
		if _, err := tx.Exec(`DROP INDEX ` + name); err != nil {
			return fmt.Errorf("fill the vault: %w", err)
		}
	}
	if err := v.insert(tx, n); err != nil {
		return fmt.Errorf("fill the vault: %w", err)
	}
	for _, text := range makes {
		if _, err := tx.Exec(text); err != nil {
			return fmt.Errorf("fill the vault: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fill the vault: %w", err)
	}
	return nil
}

func (v *vaultRows) insert(tx *sql.Tx, n int) error {
	deposit, err := tx.Prepare(`INSERT INTO vault_deposits (id, link, header, resend, created, expires, changed, next_due, state, sender, recipient, lang, mode, size,
		code1, code1_until, opened, openings, sending, short, short_link, level, noted, reminders)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'fr', 'sender', 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, 2)`)
	if err != nil {
		return err
	}
	sending, err := tx.Prepare(`INSERT INTO vault_sendings (id, mark, sender, message_id, created, told, next_due) VALUES (?, ?, ?, ?, ?, 1, 0)`)
	if err != nil {
		return err
	}
	const day = 24 * 3600 * 1000
	now := time.Now().UnixMilli()
	for i := range n {
		var r [400]byte
		rand.Read(r[:])
		id, of := hex.EncodeToString(r[:16]), hex.EncodeToString(r[16:32])
		created := now - 29*day + int64(i)*(28*day/int64(n)) + 1
		from := fmt.Sprintf("dr.martin%d@clinic.test", i%500)
		state, opened, level := "waiting", int64(0), ""
		if i%10 < 3 {
			state, opened, level = "opened", created+day/2, "sender"
		}
		resend, err := seal.Value(v.key, "resend", id, []byte("0123456789abcdefghjkmnpqrs0123456789abcdef"))
		if err != nil {
			return err
		}
		if _, err := deposit.Exec(id, r[32:64], r[64:350], resend, created, created+30*day, created, created+30*day, state, from,
			fmt.Sprintf("patient%d@pickup.test", i%400_000), r[40:72], created+30*day, opened, opened>>1&1, of, r[300:332], r[310:390], level, state); err != nil {
			return err
		}
		if _, err := sending.Exec(of, r[200:232], from, "<"+of+"@clinic.test>", created); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(v.state, "deposits", id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// oldest changes the n oldest deposits that wait and are not samples.
func (v *vaultRows) oldest(n int, change string, args ...any) error {
	_, err := v.db.Exec(`UPDATE vault_deposits SET `+change+` WHERE id IN (SELECT id FROM vault_deposits WHERE state = 'waiting' AND size = 0 ORDER BY created LIMIT ?)`, append(args, n)...)
	if err != nil {
		return fmt.Errorf("change the oldest deposits: %w", err)
	}
	return nil
}

// close writes what SQLite still holds in its log into the database.
func (v *vaultRows) close() error {
	if err := v.db.Close(); err != nil {
		return fmt.Errorf("rows of the vault: %w", err)
	}
	return nil
}

func writeSamples(path string, s []sample) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("samples: %w", err)
	}
	return nil
}

func readSamples(path string) (s []sample, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	return s, nil
}
