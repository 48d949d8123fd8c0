package directory

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// index is where a mirror's blocks begin; the blocks stay in the file.
type index struct {
	rows   int      // records in the mirror
	words  []string // first word of each block
	idents []uint64 // first identifier of each block
}

var errIndex = errors.New("the index of the mirror is damaged")

// readIndex reads where the blocks begin.
func readIndex(ctx context.Context, db *sql.DB) (x *index, err error) {
	x = new(index)
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(rowid), 0) FROM record").Scan(&x.rows); err != nil {
		return nil, err
	}
	if x.words, err = firsts[string](ctx, db, "SELECT first FROM word ORDER BY block"); err != nil {
		return nil, err
	}
	ids, err := firsts[int64](ctx, db, "SELECT first FROM ident ORDER BY block")
	for _, id := range ids {
		x.idents = append(x.idents, uint64(id))
	}
	return x, err
}

func firsts[T any](ctx context.Context, db *sql.DB, query string) (list []T, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// term is a word of the index with its field and, encoded, the records that hold it.
type term struct {
	word  []byte
	field byte
	rows  []byte
}

// prefixed tells of each term that begins with word. Terms are good until fn returns.
func (m *mirror) prefixed(ctx context.Context, word string, fn func(term) error) error {
	lo := max(0, sort.SearchStrings(m.index.words, word)-1)
	hi := sort.Search(len(m.index.words), func(i int) bool { return m.index.words[i] > word && !strings.HasPrefix(m.index.words[i], word) }) - 1
	return m.blocks(ctx, lo, hi, func(t term) error {
		if !bytes.HasPrefix(t.word, []byte(word)) {
			return nil
		}
		return fn(t)
	})
}

func (m *mirror) blocks(ctx context.Context, lo, hi int, fn func(term) error) error {
	rows, err := m.db.QueryContext(ctx, "SELECT words, rows FROM word WHERE block BETWEEN ? AND ?", lo, hi)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var words, lists sql.RawBytes
		if err := rows.Scan(&words, &lists); err != nil {
			return err
		}
		if err := cut(words, lists, fn); err != nil {
			return err
		}
	}
	return rows.Err()
}

// cut tells the terms of a block; lists may be nil where only the words are wanted.
func cut(words, lists []byte, fn func(term) error) error {
	all := lists == nil
	for len(words) > 0 {
		n, k := binary.Uvarint(words)
		if k <= 0 || n < 2 || n > uint64(len(words)-k) {
			return errIndex
		}
		word := words[k : k+int(n)]
		words = words[k+int(n):]
		size, k := binary.Uvarint(words)
		if k <= 0 || !all && size > uint64(len(lists)) {
			return errIndex
		}
		words = words[k:]
		t := term{word: word[:n-1], field: word[n-1]}
		if !all {
			t.rows, lists = lists[:size], lists[size:]
		}
		if err := fn(t); err != nil {
			return err
		}
	}
	return nil
}

// raise lifts the score of every record in an encoded list to at least weight.
func raise(score []uint8, list []byte, weight uint8) error {
	row := uint64(0)
	for len(list) > 0 {
		d, k := uint64(list[0]), 1
		if d >= 0x80 {
			if d, k = binary.Uvarint(list); k <= 0 {
				return errIndex
			}
		}
		if row += d; row >= uint64(len(score)) {
			return errIndex
		}
		score[row] = max(score[row], weight)
		list = list[k:]
	}
	return nil
}

// identified gives the records whose identifier begins with digits.
func (m *mirror) identified(ctx context.Context, digits string) (found []uint32, err error) {
	if len(digits) > idDigits {
		digits = digits[:idDigits]
	}
	lo, ok := packID(digits)
	if !ok {
		return nil, nil
	}
	hi, err := strconv.ParseUint(digits+strings.Repeat("9", idDigits-len(digits)), 10, 64)
	if err != nil {
		return nil, nil
	}
	lo, hi = lo<<rowBits, (hi+1)<<rowBits
	at, _ := slices.BinarySearch(m.index.idents, lo)
	rows, err := m.db.QueryContext(ctx, "SELECT first, ids FROM ident WHERE block >= ? AND first < ? ORDER BY block", max(0, at-1), int64(hi))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var first int64
		var ids sql.RawBytes
		if err := rows.Scan(&first, &ids); err != nil {
			return nil, err
		}
		id := uint64(first)
		for len(ids) > 0 {
			d, k := binary.Uvarint(ids)
			if k <= 0 {
				return nil, errIndex
			}
			ids = ids[k:]
			if id += d; id >= lo && id < hi {
				found = append(found, uint32(id&(1<<rowBits-1)))
			}
		}
		if id >= hi {
			break
		}
	}
	return found, rows.Err()
}

// addressed gives the records whose address begins with prefix.
func (m *mirror) addressed(ctx context.Context, prefix string) ([]uint32, error) {
	rows, err := m.db.QueryContext(ctx, "SELECT rowid FROM record WHERE address >= ? AND address < ? ORDER BY address LIMIT 1000", prefix, prefix+"\U0010ffff")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []uint32
	for rows.Next() {
		var row uint32
		if err := rows.Scan(&row); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}
