package directory

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

var (
	// ErrNotSearched: the mirror is away, damaged, or of a version that has no index.
	ErrNotSearched = errors.New("the directory could not be searched")
	// ErrNothingAsked: the query holds no word.
	ErrNothingAsked = errors.New("nothing to search for: type a name, a place, a speciality, an address or an RPPS number")
)

// Place is one place of practice of a mailbox.
type Place struct {
	Structure, StructureID, Service, Profession, Speciality string
	City, PostalCode, Department                            string
}

// Search finds mailboxes in the mirror, the best first: a name that was typed whole before one that was begun, a name before a place.
// A mailbox is one record, that of the line that fits best, and its Places tell all lines where there are several. Where nothing
// fits, words with one wrong letter are tried. Persons on the red list and what has ended are left out. The extraction may be
// older than Config.MaxAge, each record says its date: what is found is for a reader, never for a route. No match is no error;
// errors are ErrNothingAsked, ErrNotSearched and the context's.
func (d *Directory) Search(ctx context.Context, q Query) ([]Record, error) {
	words := q.parse()
	if len(words) == 0 {
		return nil, ErrNothingAsked
	}
	for range 3 {
		d.ensure(ctx, false)
		d.mu.RLock()
		m, f, seen := d.mirror, d.fault, d.seen
		if m == nil {
			d.mu.RUnlock()
			return nil, fmt.Errorf("%w: %s", ErrNotSearched, f.why)
		}
		m.hold() // not the lock: who swaps the mirror, and all who ask behind him, would wait for a search
		d.mu.RUnlock()
		found, err := m.search(ctx, words, q.limit(), d.hidden)
		m.release()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("search the directory: %w", ctx.Err())
		case errors.Is(err, ErrNotSearched):
			return nil, err
		}
		if now, _ := os.Stat(d.path); !sameFile(now, seen) {
			continue // the file was swapped or spoilt meanwhile
		}
		if err != nil {
			d.cfg.Log.Error("directory: the mirror cannot be searched", "err", err)
			return nil, fmt.Errorf("%w: %w", ErrNotSearched, err)
		}
		return found, nil
	}
	return nil, fmt.Errorf("%w: the mirror is being changed", ErrNotSearched)
}

// search looks for the words as they are and then, if nothing was found, with a wrong letter in each.
func (m *mirror) search(ctx context.Context, words []wanted, limit int, hidden func(string) bool) ([]Record, error) {
	if m.index == nil {
		return nil, fmt.Errorf("%w: the mirror was made by an older version and has no index: import the extraction again", ErrNotSearched)
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := scorer{m: m, total: make([]uint16, m.index.rows+1), score: make([]uint8, m.index.rows+1)}
	hits, err := s.run(ctx, words)
	if err == nil && hits == 0 && slices.ContainsFunc(words, wanted.mayBeTypo) {
		if s.typos, err = m.similar(ctx, words); err == nil {
			_, err = s.run(ctx, words)
		}
	}
	if err != nil {
		return nil, err
	}
	return m.collect(ctx, s.best(limit), limit, hidden)
}

// searches is how many run at once on one mirror: each takes three octets of memory for a record, and mail goes first.
const searches = 4

// scorer gives every record points for the words that it holds.
type scorer struct {
	m     *mirror
	total []uint16 // 0: out
	score []uint8  // of the word in hand
	typos [][]term // for each word the terms of the index that are one letter away
}

// What a word is worth where it stands whole, where it is the beginning, and where a letter is wrong.
var worth = [fieldEnd][3]uint8{
	fieldLast: {60, 20, 6}, fieldFirst: {40, 16, 5}, fieldSkill: {30, 24, 4}, fieldPlace: {30, 14, 4}, fieldStructure: {24, 10, 3},
	fieldLocal: {12, 8, 2}, fieldDomain: {6, 4, 1},
}

// run fills total and tells how many records hold all words.
func (s *scorer) run(ctx context.Context, words []wanted) (hits int, err error) {
	clear(s.total)
	first := true
	for pass := range 2 { // what must be there, then what only raises
		for i, w := range words {
			if w.optional != (pass == 1) {
				continue
			}
			clear(s.score)
			if err := s.word(ctx, i, w); err != nil {
				return 0, err
			}
			hits = 0
			for row, score := range s.score {
				t := s.total[row]
				switch {
				case first && score > 0, t > 0 && (score > 0 || w.optional):
					s.total[row] = t + uint16(score)
					hits++
				default:
					s.total[row] = 0
				}
			}
			if first = false; hits == 0 {
				return 0, nil
			}
		}
	}
	return hits, nil
}

func (s *scorer) word(ctx context.Context, i int, w wanted) error {
	if w.digits != "" {
		rows, err := s.m.identified(ctx, w.digits)
		return errors.Join(err, s.set(rows, 60))
	}
	if w.address != "" { // the parts of an address that is there say nothing more
		rows, err := s.m.addressed(ctx, w.address)
		if err != nil || len(rows) > 0 {
			return errors.Join(err, s.set(rows, 60))
		}
	}
	for _, f := range w.forms {
		err := s.m.prefixed(ctx, f.text, func(t term) error {
			switch whole := len(t.word) == len(f.text); {
			case !f.in.has(t.field) || t.field >= fieldEnd:
				return nil
			case whole:
				return raise(s.score, t.rows, worth[t.field][0])
			case f.prefix:
				return raise(s.score, t.rows, worth[t.field][1])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if s.typos != nil {
		for _, t := range s.typos[i] {
			if err := raise(s.score, t.rows, worth[t.field][2]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scorer) set(rows []uint32, weight uint8) error {
	for _, r := range rows {
		if int(r) >= len(s.score) {
			return errIndex
		}
		s.score[r] = weight
	}
	return nil
}

// best gives the records with the most points, best first; more than limit, since several may be of one mailbox.
func (s *scorer) best(limit int) []uint32 {
	most := 4*limit + maxRecords
	byScore := make(map[uint16][]uint32)
	for row, t := range s.total {
		if t > 0 && len(byScore[t]) < most {
			byScore[t] = append(byScore[t], uint32(row))
		}
	}
	scores := make([]uint16, 0, len(byScore))
	for t := range byScore {
		scores = append(scores, t)
	}
	slices.Sort(scores)
	var rows []uint32
	for _, t := range slices.Backward(scores) {
		if rows = append(rows, byScore[t]...); len(rows) >= most {
			break
		}
	}
	return rows
}

// hidden tells whether a source over the network said of an address that its owner does not want to be shown, or that it has ended. How old
// its answer is does not matter: a wish is not forgotten.
func (d *Directory) hidden(address string) bool {
	a := d.asking.Load()
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range d.remotes {
		said := a.answers[answerKey{r.key, address}]
		if said != nil && (verdictBy(said.records) == Inactive || slices.ContainsFunc(said.records, func(r Record) bool { return r.RedList })) {
			return true
		}
	}
	return false
}

// collect reads the mailboxes of rows, in their order.
func (m *mirror) collect(ctx context.Context, rows []uint32, limit int, hidden func(string) bool) ([]Record, error) {
	one, err := m.db.PrepareContext(ctx, "SELECT "+recordColumns+" FROM record WHERE rowid = ?")
	if err != nil {
		return nil, err
	}
	defer one.Close()
	var found []Record
	seen := make(map[string]bool)
	for _, row := range rows {
		if len(found) == limit {
			break
		}
		r, err := m.scan(one.QueryRowContext(ctx, row))
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errIndex
		}
		if err != nil {
			return nil, err
		}
		if seen[r.Address] {
			continue
		}
		if seen[r.Address] = true; hidden(r.Address) {
			continue
		}
		all, err := m.lookup(ctx, r.Address)
		if err != nil {
			return nil, err
		}
		if len(all) > 1 {
			for _, l := range all {
				r.Places = append(r.Places, Place{l.Structure, l.StructureID, l.Service, l.Profession, l.Speciality, l.City, l.PostalCode, l.Department})
			}
		}
		found = append(found, r)
	}
	return found, nil
}

// Name is a person's name as it is read, an organisation's where there is no person.
func (r Record) Name() string {
	name := strings.Join(strings.Fields(r.Title+" "+r.FirstName+" "+r.LastName), " ")
	return cmp.Or(name, r.Structure, r.Service, r.Address)
}
