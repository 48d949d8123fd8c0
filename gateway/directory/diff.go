package directory

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Change is one mailbox that two extractions tell apart.
type Change struct {
	What          string // "added", "removed", "changed"
	Address, Kind string
	Fields        []string // of a changed one: "city: LYON -> PARIS"
}

// Difference is what became of the mailboxes from one extraction to the other.
type Difference struct {
	Old, New                      Stats
	OldName, NewName              string
	Added, Removed, Changed, Same int
	// Refused says why an import would not take the new extraction over the old one; "" if it would.
	Refused string
}

// Diff compares the mirror of stateDir with the extraction file at newFile, or, with an oldFile, that file with it. It changes nothing: files
// are imported into a folder of TMPDIR, half a GiB for the largest, and so refused as an import would (*RefusedError). each is
// told of every change in the order of the addresses; nil: nobody is.
func Diff(ctx context.Context, stateDir, oldFile, newFile string, o Options, each func(Change) error) (_ Difference, err error) {
	if o.MaxShrink <= 0 {
		o.MaxShrink = defaultShrink
	}
	var diff Difference
	scratch, err := os.MkdirTemp("", "passerelle-diff-")
	if err != nil {
		return diff, fmt.Errorf("compare extractions: %w", err)
	}
	defer os.RemoveAll(scratch)
	if oldFile != "" {
		if stateDir, _, err = scratchMirror(ctx, scratch, "old", oldFile, o); err != nil {
			return diff, err
		}
	}
	from, err := openMirror(ctx, stateDir)
	if err != nil {
		return diff, fmt.Errorf("compare with the mirror: %s", faultOf(err).why)
	}
	defer from.close()
	newDir, stats, err := scratchMirror(ctx, scratch, "new", newFile, o)
	if err != nil {
		return diff, err
	}
	to, err := openMirror(ctx, newDir)
	if err != nil {
		return diff, fmt.Errorf("compare extractions: %w", err)
	}
	defer to.close()
	diff.Old, diff.New, diff.OldName, diff.NewName = from.meta.stats(), stats, from.meta.sourceName, to.meta.sourceName
	diff.Refused = shrunk(from.meta, stats.Addresses, stats.Lines-stats.Malformed, o.MaxShrink)
	if err := diff.walk(ctx, from, to, each); err != nil {
		return diff, fmt.Errorf("compare extractions: %w", err)
	}
	return diff, nil
}

func scratchMirror(ctx context.Context, scratch, name, file string, o Options) (dir string, _ Stats, err error) {
	dir = filepath.Join(scratch, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", Stats{}, fmt.Errorf("compare extractions: %w", err)
	}
	stats, err := Import(ctx, dir, file, Options{Now: o.Now, Progress: o.Progress, AsOf: o.AsOf, unsearched: true})
	return dir, stats, err
}

func (m mirrorMeta) stats() Stats {
	return Stats{Lines: m.lines, Addresses: m.addresses, PER: m.persons, ORG: m.organisations, Other: m.addresses - m.persons - m.organisations, AsOf: m.asOf}
}

// walk goes through both mirrors by address, side by side.
func (diff *Difference) walk(ctx context.Context, from, to *mirror, each func(Change) error) error {
	a, err := from.boxes(ctx)
	if err != nil {
		return err
	}
	defer a.rows.Close()
	b, err := to.boxes(ctx)
	if err != nil {
		return err
	}
	defer b.rows.Close()
	tell := func(what string, box []Record, fields []string) error {
		if each == nil {
			return nil
		}
		return each(Change{What: what, Address: box[0].Address, Kind: box[0].Kind, Fields: fields})
	}
	was, err := a.next()
	if err != nil {
		return err
	}
	is, err := b.next()
	for err == nil && (was != nil || is != nil) {
		order := 0
		switch {
		case is == nil:
			order = -1
		case was == nil:
			order = 1
		default:
			order = strings.Compare(was[0].Address, is[0].Address)
		}
		switch fields := []string(nil); {
		case order < 0:
			diff.Removed++
			err = tell("removed", was, nil)
		case order > 0:
			diff.Added++
			err = tell("added", is, nil)
		default:
			if fields = changes(was, is); fields == nil {
				diff.Same++
				break
			}
			diff.Changed++
			err = tell("changed", is, fields)
		}
		if err == nil && order <= 0 {
			was, err = a.next()
		}
		if err == nil && order >= 0 {
			is, err = b.next()
		}
	}
	return err
}

// boxes are a mirror's mailboxes by address.
type boxes struct {
	m    *mirror
	rows *sql.Rows
	held []Record // first line of the next one
}

func (m *mirror) boxes(ctx context.Context) (*boxes, error) {
	rows, err := m.db.QueryContext(ctx, "SELECT "+recordColumns+" FROM record ORDER BY address, kind")
	return &boxes{m: m, rows: rows}, err
}

// next gives all lines of the next mailbox, nil at the end.
func (b *boxes) next() ([]Record, error) {
	box := b.held
	b.held = nil
	for b.rows.Next() {
		r, err := b.m.scan(b.rows)
		if err != nil {
			return nil, err
		}
		if len(box) > 0 && box[0].Address != r.Address {
			b.held = []Record{r}
			return box, nil
		}
		box = append(box, r)
	}
	return box, b.rows.Err()
}

// changes names the fields that differ, nil if none does. The order of a mailbox's lines says nothing.
func changes(was, is []Record) []string {
	a, b := texts(was), texts(is)
	if slices.EqualFunc(a, b, slices.Equal) {
		return nil
	}
	if len(a) != 1 || len(b) != 1 {
		if len(a) == len(b) {
			return []string{fmt.Sprintf("places: %d, not the same", len(b))}
		}
		return []string{fmt.Sprintf("places: %d -> %d", len(a), len(b))}
	}
	var fields []string
	for i, name := range diffNames {
		if a[0][i] != b[0][i] {
			fields = append(fields, fmt.Sprintf("%s: %s -> %s", name, orNone(a[0][i]), orNone(b[0][i])))
		}
	}
	return fields
}

var diffNames = [...]string{"kind", "title", "first name", "last name", "id type", "id", "structure", "structure id", "service", "profession", "category",
	"speciality", "city", "postal code", "department", "dematerialised"}

func texts(box []Record) [][]string {
	out := make([][]string, len(box))
	for i, r := range box {
		demat := ""
		if r.Dematerialised != nil {
			demat = map[bool]string{true: "yes", false: "no"}[*r.Dematerialised]
		}
		out[i] = []string{r.Kind, r.Title, r.FirstName, r.LastName, r.IDType, r.ID, r.Structure, r.StructureID, r.Service, r.Profession, r.Category,
			r.Speciality, r.City, r.PostalCode, r.Department, demat}
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
