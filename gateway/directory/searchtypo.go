package directory

import (
	"bytes"
	"context"
	"database/sql"
)

// maxSimilar bounds the terms that are tried for one word.
const maxSimilar = 200

// similar gives for each word the terms of the index that differ from it by one letter: one too many, one missing, one wrong, two
// that changed places. It reads all words of the index, which takes some milliseconds, and so comes second.
func (m *mirror) similar(ctx context.Context, words []wanted) ([][]term, error) {
	rows, err := m.db.QueryContext(ctx, "SELECT block, words FROM word")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	type place struct {
		block int
		word  int
		key   string
	}
	var places []place
	count := make([]int, len(words))
	for rows.Next() {
		var block int
		var list sql.RawBytes
		if err := rows.Scan(&block, &list); err != nil {
			return nil, err
		}
		err := cut(list, nil, func(t term) error {
			for i, w := range words {
				if w.mayBeTypo() && count[i] < maxSimilar && w.forms[0].in.has(t.field) && oneLetterAway(w.forms[0].text, t.word) {
					count[i]++
					places = append(places, place{block, i, string(t.word) + string(rune(t.field))})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	found := make([][]term, len(words))
	for _, p := range places {
		err := m.blocks(ctx, p.block, p.block, func(t term) error {
			if n := len(p.key) - 1; t.field == p.key[n] && string(t.word) == p.key[:n] {
				found[p.word] = append(found[p.word], term{bytes.Clone(t.word), t.field, bytes.Clone(t.rows)})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// oneLetterAway: whether one insertion, deletion, replacement or exchange of neighbours makes typed into word; of a typed word of six
// letters and more into its beginning.
func oneLetterAway(typed string, word []byte) bool {
	open := len(typed) >= 6
	i := 0
	for i < len(typed) && i < len(word) && typed[i] == word[i] {
		i++
	}
	ends := func(a string, b []byte) bool {
		return len(b) >= len(a) && string(b[:len(a)]) == a && (open || len(b) == len(a))
	}
	t, w := typed[i:], word[i:]
	switch {
	case t == "":
		return open || len(w) <= 1
	case ends(t[1:], w): // one too many
		return true
	case len(w) == 0:
		return false
	case ends(t, w[1:]), ends(t[1:], w[1:]): // one missing, one wrong
		return true
	}
	return len(t) > 1 && len(w) > 1 && t[0] == w[1] && t[1] == w[0] && ends(t[2:], w[2:])
}
