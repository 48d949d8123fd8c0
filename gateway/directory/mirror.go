package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxRecords bounds what one address may answer with; the national file has a handful of lines for a mailbox at most.
const maxRecords = 64

// mirror is an open, sealed and unchanging file of records.
type mirror struct {
	db   *sql.DB
	find *sql.Stmt
	meta mirrorMeta
	info fs.FileInfo // of the file that was opened

	index *index        // nil in a mirror of formatUnsearched
	slots chan struct{} // of the searches that run

	using   sync.Mutex
	users   int // searches in hand
	closing bool

	mu     sync.Mutex
	people map[string][]string // personal mailboxes by RPPS
	cached map[string][]Record // by address key, "none" too: a clinic writes to the same people again and again
}

// maxCached answers are kept; when it is full a new cache begins.
const maxCached = 4096

type mirrorMeta struct {
	format                 string
	sourceName, sourceSum  string
	sourceSize             int64
	sourceTime             time.Time
	asOf, importedAt       time.Time
	lines, addresses       int
	persons, organisations int
}

var errUnreadable = errors.New("its mode lets nobody read it")

// openMirror opens the mirror of a state folder and proves it whole.
func openMirror(ctx context.Context, stateDir string) (m *mirror, err error) {
	path := filepath.Join(stateDir, MirrorName)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m = &mirror{slots: make(chan struct{}, searches)}
	if m.info, err = f.Stat(); err != nil {
		return nil, err
	}
	// Root reads a file of mode 000 all the same; who took its mode away wants it unread.
	if m.info.Mode().Perm()&0o444 == 0 {
		return nil, errUnreadable
	}
	if err := checkSeal(f, m.info.Size()); err != nil {
		return nil, err
	}
	// immutable: no locks, no look at a journal, and f may be closed without the POSIX locks of this process going with it; that
	// the file was changed is seen from outside (see Directory.ensure). No mmap: a file cut short would be SIGBUS, not an error. The
	// cache is shared with the store's (see there).
	m.db, err = sql.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "immutable": {"1"},
		"_pragma": {"query_only(1)", "mmap_size(0)", "cache_size(-125)"}}))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	m.db.SetMaxOpenConns(8)
	m.db.SetMaxIdleConns(8)
	if err := m.readMeta(ctx); err != nil {
		return nil, err
	}
	m.find, err = m.db.PrepareContext(ctx, "SELECT "+recordColumns+" FROM record WHERE address = ? ORDER BY rowid LIMIT "+strconv.Itoa(maxRecords))
	if err != nil {
		return nil, err
	}
	if m.meta.format != formatUnsearched {
		if m.index, err = readIndex(ctx, m.db); err != nil {
			return nil, err
		}
	}
	// SQLite opened the path, not f: both must be the same file.
	if now, err := os.Stat(path); err != nil || !sameFile(now, m.info) {
		return nil, errors.New("it was swapped while it was opened")
	}
	return m, nil
}

func (m *mirror) readMeta(ctx context.Context) error {
	rows, err := m.db.QueryContext(ctx, "SELECT key, value FROM meta")
	if err != nil {
		return err
	}
	defer rows.Close()
	kv := make(map[string]string)
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return err
		}
		kv[k] = v
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if kv["format"] != mirrorFormat && kv["format"] != formatUnsearched {
		return fmt.Errorf("its format is %q, not %q: import the file again", kv["format"], mirrorFormat)
	}
	var fault error
	number := func(k string) int64 {
		n, err := strconv.ParseInt(kv[k], 10, 64)
		if err != nil {
			fault = fmt.Errorf("its %s is no number", k)
		}
		return n
	}
	at := func(k string) time.Time { return time.Unix(0, number(k)).UTC() }
	m.meta = mirrorMeta{format: kv["format"], sourceName: kv["source_name"], sourceSum: kv["source_sha256"], sourceSize: number("source_size"),
		sourceTime: at("source_mtime"), asOf: at("as_of"), importedAt: at("imported_at"), lines: int(number("lines")),
		addresses: int(number("addresses")), persons: int(number("per")), organisations: int(number("org"))}
	return fault
}

// remembered gives what lookup said of an address key before.
func (m *mirror) remembered(key string) (recs []Record, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	recs, ok = m.cached[key]
	return recs, ok
}

func (m *mirror) remember(key string, recs []Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cached == nil || len(m.cached) >= maxCached {
		m.cached = make(map[string][]Record)
	}
	m.cached[key] = recs
}

func (m *mirror) rememberedPerson(rpps string) (addresses []string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	addresses, ok = m.people[rpps]
	return addresses, ok
}

func (m *mirror) rememberPerson(rpps string, addresses []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.people == nil || len(m.people) >= maxCached {
		m.people = make(map[string][]string)
	}
	m.people[rpps] = addresses
}

// persons gives the personal mailboxes of an RPPS in the order of their addresses, none where there are none. A mirror of formatUnsearched
// does not know.
func (m *mirror) persons(ctx context.Context, rpps string) (addresses []string, err error) {
	if m.index == nil || len(rpps) != idDigits {
		return nil, nil
	}
	rows, err := m.identified(ctx, rpps)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		var address string
		err = m.db.QueryRowContext(ctx, "SELECT address FROM record WHERE rowid = ? AND id = ? AND id_type = 'RPPS' AND kind = 'PER'", row, rpps).Scan(&address)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, err
		default:
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

// lookup gives the records of an address key, none if it is not listed. The pool may open the path anew after a swap that was not
// noticed yet: then it is the next mirror that answers, whole as every published mirror is; what else may lie there is caught by
// the look that Ask takes behind every "no".
func (m *mirror) lookup(ctx context.Context, key string) ([]Record, error) {
	rows, err := m.find.QueryContext(ctx, key)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Record
	for rows.Next() {
		r, err := m.scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

const recordColumns = `address, kind, title, first_name, last_name, id_type, id, structure, structure_id, service,
	profession, category, speciality, city, postal_code, department, dematerialised`

// scan reads a row of recordColumns.
func (m *mirror) scan(row interface{ Scan(...any) error }) (Record, error) {
	r := Record{Source: "extraction", AsOf: m.meta.asOf}
	var demat sql.NullBool
	err := row.Scan(&r.Address, &r.Kind, &r.Title, &r.FirstName, &r.LastName, &r.IDType, &r.ID, &r.Structure, &r.StructureID,
		&r.Service, &r.Profession, &r.Category, &r.Speciality, &r.City, &r.PostalCode, &r.Department, &demat)
	if demat.Valid {
		r.Dematerialised = &demat.Bool
	}
	r.flag()
	return r, err
}

// hold keeps the mirror open for a search; release lets it go.
func (m *mirror) hold() {
	m.using.Lock()
	defer m.using.Unlock()
	m.users++
}

func (m *mirror) release() {
	m.using.Lock()
	defer m.using.Unlock()
	if m.users--; m.users == 0 && m.closing {
		m.end()
	}
}

// close closes the mirror, at the end of the last search that holds it.
func (m *mirror) close() {
	m.using.Lock()
	defer m.using.Unlock()
	if m.closing = true; m.users == 0 {
		m.end()
	}
}

func (m *mirror) end() {
	if m.find != nil {
		m.find.Close()
	}
	if m.db != nil {
		m.db.Close()
	}
}

// sameFile tells whether two looks at a path saw the same bytes, as far as a look can tell.
func sameFile(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}
