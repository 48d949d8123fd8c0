package keyring

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/store"
)

// scanner is a row of *sql.Rows or a *sql.Row.
type scanner interface{ Scan(...any) error }

func scan(row scanner) (k Key, err error) {
	var added, seen, checked, before, after, until int64
	err = row.Scan(&k.Address, &k.Kind, &k.Fingerprint, &k.Data, &k.Name, &k.Source, &k.Trust, &k.Why, &k.Fixed, &added, &seen, &checked, &before, &after,
		&until, &k.Revoked)
	for _, t := range []struct {
		to   *time.Time
		from int64
	}{{&k.Added, added}, {&k.Seen, seen}, {&k.Checked, checked}, {&k.NotBefore, before}, {&k.NotAfter, after}, {&k.Until, until}} {
		if t.from != 0 {
			*t.to = time.Unix(t.from, 0).UTC()
		}
	}
	return k, err
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func one(tx store.Tx, address string, kind Kind, fingerprint string) (*Key, error) {
	k, err := scan(tx.QueryRow(`SELECT `+columns+` FROM keyring_keys WHERE address = ? AND kind = ? AND fingerprint = ?`, address, kind, fingerprint))
	if err != nil {
		return nil, err
	}
	return &k, nil
}

func insert(tx store.Tx, k *Key) error {
	_, err := tx.Exec(`INSERT OR REPLACE INTO keyring_keys (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		k.Address, k.Kind, k.Fingerprint, k.Data, k.Name, k.Source, k.Trust, k.Why, k.Fixed,
		unix(k.Added), unix(k.Seen), unix(k.Checked), unix(k.NotBefore), unix(k.NotAfter), unix(k.Until), k.Revoked)
	return err
}

// lean are the columns without what is large.
var lean = strings.Replace(columns, "data", "x'' AS data", 1)

// query reads the keys that a WHERE clause of our own names.
func query(ctx context.Context, db *sql.DB, columns, where string, args ...any) (keys []Key, err error) {
	rows, err := db.QueryContext(ctx, `SELECT `+columns+` FROM keyring_keys `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		k, err := scan(rows)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// sortKeys puts the best of each address first: by trust, then the newest.
func sortKeys(keys []Key) {
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Trust.rank(), a.Trust.rank()), b.NotBefore.Compare(a.NotBefore), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
}
