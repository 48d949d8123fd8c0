package directory

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The index of a search lies in the mirror as an inverted file of our own: it sorts and writes once, where FTS5 would
// merge as it grows (not measured). A block holds neighbouring words and, word by word, the numbers of the records that hold them, as differences in uvarint.
// A search reads the few blocks that its words fall into; see searchindex.go.
const searchSchema = `
CREATE TABLE word (block INTEGER PRIMARY KEY, first TEXT NOT NULL, words BLOB NOT NULL, rows BLOB NOT NULL);
CREATE TABLE ident (block INTEGER PRIMARY KEY, first INTEGER NOT NULL, ids BLOB NOT NULL);`

const (
	blockWords = 3 << 10 // bytes of words in a block, so that they lie on one page
	blockIDs   = 2048    // identifiers in a block

	// An identifier and its record in one number: the first eleven digits (RPPS has eleven) above, the record below.
	idDigits = 11
	rowBits  = 24 // more than maxLines
)

// indexer gathers the words of the records in the order in which they are added; the first record is number 1.
type indexer struct {
	row   uint32
	terms map[string]uint32 // word and field -> number in posts
	posts []posting
	ids   []uint64
	known [columnCount]map[string][]uint32 // numbers of a value's terms, for columns that repeat themselves
}

type posting struct {
	last uint32
	rows []byte
}

// maxKnown bounds the values of a column that are remembered.
const maxKnown = 1 << 14

func newIndexer() *indexer { return &indexer{terms: make(map[string]uint32)} }

// add takes the next record.
func (x *indexer) add(v *[columnCount]string) {
	x.row++
	for _, c := range [...]struct {
		column int
		field  byte
	}{{colLast, fieldLast}, {colFirst, fieldFirst}, {colProfession, fieldSkill}, {colSpeciality, fieldSkill}, {colService, fieldSkill},
		{colStructure, fieldStructure}, {colTrade, fieldStructure}, {colCity, fieldPlace}, {colPostal, fieldPlace}, {colDepartment, fieldPlace}} {
		if v[c.column] != "" {
			x.value(c.column, c.field, v[c.column])
		}
	}
	local, domain, _ := strings.Cut(v[colAddress], "@")
	x.local(local, v)
	x.value(colAddress, fieldDomain, domain)
	if id, ok := packID(v[colID]); ok {
		x.ids = append(x.ids, id<<rowBits|uint64(x.row))
	}
}

func (x *indexer) value(column int, field byte, value string) {
	known := x.known[column]
	terms, ok := known[value]
	if !ok {
		words := fold(value)
		for _, w := range withJoined(words, column) {
			terms = append(terms, x.term(w, field))
		}
		if known == nil || len(known) >= maxKnown {
			known = make(map[string][]uint32)
			x.known[column] = known
		}
		known[strings.Clone(value)] = terms
	}
	for _, t := range terms {
		x.note(t)
	}
}

// withJoined adds what people write as one word: LE GOFF as legoff, Jean-Luc as jeanluc, SAINT-DENIS as saintdenis; and the two
// departments of Corsica, which postal codes do not tell.
func withJoined(words []string, column int) []string {
	switch column {
	case colLast, colFirst, colCity, colSpeciality:
		n := len(words)
		for i := 1; i < n; i++ {
			if j := words[i-1] + words[i]; len(j) <= maxWord && !isDigits(words[i-1]) {
				words = append(words, j)
			}
		}
		for i := 2; i < n && column == colLast; i++ { // DE LA TOUR as delatour
			if j := words[i-2] + words[i-1] + words[i]; len(j) <= maxWord {
				words = append(words, j)
			}
		}
	case colPostal:
		if len(words) == 1 && len(words[0]) == 5 && strings.HasPrefix(words[0], "20") {
			words = append(words, corsica(words[0]))
		}
	}
	return words
}

func corsica(postal string) string {
	if postal < "20200" {
		return "2a"
	}
	return "2b"
}

// local indexes the words of an address that the names do not hold already: jean.dupont says nothing new of Jean Dupont.
func (x *indexer) local(local string, v *[columnCount]string) {
	for _, w := range fold(local) {
		if t, ok := x.terms[w+string(rune(fieldLast))]; ok && x.posts[t].last == x.row {
			continue
		}
		if t, ok := x.terms[w+string(rune(fieldFirst))]; ok && x.posts[t].last == x.row {
			continue
		}
		x.note(x.term(w, fieldLocal))
	}
}

func (x *indexer) term(word string, field byte) uint32 {
	key := word + string(rune(field))
	t, ok := x.terms[key]
	if !ok {
		t = uint32(len(x.posts))
		x.terms[key] = t
		x.posts = append(x.posts, posting{})
	}
	return t
}

// note says that the present record holds a term.
func (x *indexer) note(t uint32) {
	p := &x.posts[t]
	if p.last == x.row {
		return
	}
	p.rows = binary.AppendUvarint(p.rows, uint64(x.row-p.last))
	p.last = x.row
}

// write puts the index into the new mirror.
func (x *indexer) write(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, searchSchema); err != nil {
		return fmt.Errorf("index the new mirror: %w", err)
	}
	x.known = [columnCount]map[string][]uint32{}
	keys := make([]string, 0, len(x.terms))
	for k := range x.terms {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	insert, err := tx.PrepareContext(ctx, "INSERT INTO word VALUES (?, ?, ?, ?)")
	if err != nil {
		return fmt.Errorf("index the new mirror: %w", err)
	}
	defer insert.Close()
	var block int
	var first string
	var words, rows []byte
	flush := func() error {
		if len(words) == 0 {
			return nil
		}
		_, err := insert.ExecContext(ctx, block, first, words, rows)
		block, words, rows = block+1, words[:0], rows[:0]
		return err
	}
	for _, k := range keys {
		p := x.posts[x.terms[k]].rows
		if len(words) == 0 {
			first = k
		}
		words = binary.AppendUvarint(words, uint64(len(k)))
		words = append(words, k...)
		words = binary.AppendUvarint(words, uint64(len(p)))
		rows = append(rows, p...)
		if len(words) >= blockWords {
			if err := flush(); err != nil {
				return fmt.Errorf("index the new mirror: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("index the new mirror: %w", err)
	}
	return x.writeIDs(ctx, tx)
}

func (x *indexer) writeIDs(ctx context.Context, tx *sql.Tx) error {
	slices.Sort(x.ids)
	block := 0
	for part := range slices.Chunk(x.ids, blockIDs) {
		var b []byte
		last := part[0]
		for _, id := range part {
			b = binary.AppendUvarint(b, id-last)
			last = id
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO ident VALUES (?, ?, ?)", block, int64(part[0]), b); err != nil {
			return fmt.Errorf("index the new mirror: %w", err)
		}
		block++
	}
	return nil
}

// packID gives the first digits of an identifier as a number that sorts as its digits do.
func packID(id string) (uint64, bool) {
	if !isDigits(id) {
		return 0, false
	}
	if len(id) > idDigits {
		id = id[:idDigits]
	}
	n, err := strconv.ParseUint(id+strings.Repeat("0", idDigits-len(id)), 10, 64)
	return n, err == nil
}
