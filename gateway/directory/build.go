package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

const (
	// MirrorName is the mirror's file in the state folder.
	MirrorName = "directory.db"
	tempPrefix = "directory-"
	lockName   = "directory.lock"

	// mirrorFormat is the number of the layout below. A mirror of formatUnsearched has no index: it answers look-ups, a search says
	// "import again". One of another number must be imported again.
	mirrorFormat     = "2"
	formatUnsearched = "1"

	// A mirror ends in its seal: these eight bytes and the SHA-256 of all before them. SQLite's header holds the number of pages,
	// so that it never reads the seal; and a mirror that was cut, overwritten or half copied is known before it is asked anything,
	// where SQLite alone would answer "no such row" from a damaged page.
	sealMagic = "PASSMIR1"
	sealSize  = len(sealMagic) + sha256.Size
)

const schema = `
CREATE TABLE record (address TEXT NOT NULL, kind TEXT NOT NULL, title TEXT, first_name TEXT, last_name TEXT, id_type TEXT, id TEXT,
	structure TEXT, structure_id TEXT, service TEXT, profession TEXT, category TEXT, speciality TEXT, city TEXT, postal_code TEXT,
	department TEXT, dematerialised INTEGER);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);`

const (
	recordWidth = 17
	rowsPerStep = 40 // one statement for many rows: the call costs more than the row
)

// builder writes a new mirror as a file of its own beside the one in use, and puts it in that one's place when it is whole.
type builder struct {
	dir, path string
	db        *sql.DB
	tx        *sql.Tx
	many      *sql.Stmt
	args      []any
	words     *indexer // nil: this mirror is not searched
}

func newBuilder(ctx context.Context, dir string) (_ *builder, err error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*.tmp") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("create the new mirror: %w", err)
	}
	b := &builder{dir: dir, path: f.Name(), args: make([]any, 0, recordWidth*rowsPerStep), words: newIndexer()}
	defer func() {
		if err != nil {
			b.discard()
		}
	}()
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("create the new mirror: %w", err)
	}
	// No journal and no sync: until the seal is written and synced this file is nothing, and a fault throws it away.
	b.db, err = sql.Open("sqlite", dsn(b.path, url.Values{"_pragma": {"journal_mode(OFF)", "synchronous(OFF)",
		"locking_mode(EXCLUSIVE)", "temp_store(MEMORY)", "cache_size(-32000)"}}))
	if err != nil {
		return nil, fmt.Errorf("open the new mirror: %w", err)
	}
	b.db.SetMaxOpenConns(1)
	if b.tx, err = b.db.BeginTx(ctx, nil); err != nil {
		return nil, fmt.Errorf("open the new mirror: %w", err)
	}
	if _, err = b.tx.ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("lay out the new mirror: %w", err)
	}
	if b.many, err = b.tx.PrepareContext(ctx, insertSQL(rowsPerStep)); err != nil {
		return nil, fmt.Errorf("lay out the new mirror: %w", err)
	}
	return b, nil
}

func insertSQL(rows int) string {
	one := "(?" + strings.Repeat(",?", recordWidth-1) + ")"
	return "INSERT INTO record VALUES " + one + strings.Repeat(","+one, rows-1)
}

// dsn writes path so that no character of it is read as an option. The pragmas must be in it: they are per connection.
func dsn(path string, opts url.Values) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: opts.Encode()}).String()
}

func (b *builder) add(ctx context.Context, r *row) error {
	v := &r.value
	if b.words != nil {
		b.words.add(v)
	}
	structure := v[colStructure]
	if structure == "" {
		structure = v[colTrade]
	}
	b.args = append(b.args, v[colAddress], v[colKind], v[colTitle], v[colFirst], v[colLast], idType(v[colIDType]), v[colID],
		structure, v[colStructureID], v[colService], v[colProfession], v[colCategory], v[colSpeciality],
		city(v[colCity], v[colPostal]), v[colPostal], v[colDepartment], yesNo(v[colDemat]))
	if len(b.args) < cap(b.args) {
		return nil
	}
	return b.flush(ctx)
}

func (b *builder) flush(ctx context.Context) (err error) {
	switch n := len(b.args) / recordWidth; n {
	case 0:
	case rowsPerStep:
		_, err = b.many.ExecContext(ctx, b.args...)
	default:
		_, err = b.tx.ExecContext(ctx, insertSQL(n), b.args...)
	}
	b.args = b.args[:0]
	if err != nil {
		return fmt.Errorf("write the new mirror: %w", err)
	}
	return nil
}

// index ends the table and counts the mailboxes: an address on several lines is one.
func (b *builder) index(ctx context.Context) (addresses int, byKind map[string]int, err error) {
	if err := b.flush(ctx); err != nil {
		return 0, nil, err
	}
	if b.words != nil {
		if err := b.words.write(ctx, b.tx); err != nil {
			return 0, nil, err
		}
		b.words = nil // before SQLite sorts: the two would be the peak of memory
		debug.FreeOSMemory()
	}
	if _, err := b.tx.ExecContext(ctx, "CREATE INDEX record_address ON record (address, kind)"); err != nil {
		return 0, nil, fmt.Errorf("index the new mirror: %w", err)
	}
	rows, err := b.tx.QueryContext(ctx, "SELECT kind, count(*) FROM (SELECT min(kind) AS kind FROM record GROUP BY address) GROUP BY kind")
	if err != nil {
		return 0, nil, fmt.Errorf("count the new mirror: %w", err)
	}
	defer rows.Close()
	byKind = make(map[string]int)
	for rows.Next() {
		var kind string
		var n int
		if err := rows.Scan(&kind, &n); err != nil {
			return 0, nil, fmt.Errorf("count the new mirror: %w", err)
		}
		byKind[kind] = n
		addresses += n
	}
	return addresses, byKind, rows.Err()
}

// publish seals the new mirror and puts it in the place of the old one: file, rename, folder, each made durable in this order.
func (b *builder) publish(ctx context.Context, meta map[string]string) (err error) {
	for k, v := range meta {
		if _, err := b.tx.ExecContext(ctx, "INSERT INTO meta VALUES (?, ?)", k, v); err != nil {
			return fmt.Errorf("write the new mirror: %w", err)
		}
	}
	if err := b.tx.Commit(); err != nil {
		return fmt.Errorf("write the new mirror: %w", err)
	}
	b.tx = nil
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("write the new mirror: %w", err)
	}
	b.db = nil
	if err := sealFile(b.path); err != nil {
		return fmt.Errorf("seal the new mirror: %w", err)
	}
	if err := giveToOwner(b.path, b.dir); err != nil {
		return fmt.Errorf("give the new mirror to the folder's owner: %w", err)
	}
	if err := os.Rename(b.path, filepath.Join(b.dir, MirrorName)); err != nil {
		return fmt.Errorf("swap the mirror: %w", err)
	}
	b.path = ""
	return syncDir(b.dir)
}

// giveToOwner gives a new file to who owns the folder: an import run by root must not leave what the service's user cannot read.
func giveToOwner(path, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}

// discard removes what was not published.
func (b *builder) discard() {
	if b.tx != nil {
		b.tx.Rollback()
	}
	if b.db != nil {
		b.db.Close()
	}
	if b.path != "" {
		os.Remove(b.path)
	}
}

func sealFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if _, err := f.Write(h.Sum([]byte(sealMagic))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

var errSeal = errors.New("the file is damaged or not whole")

// checkSeal reads the whole file and compares it with its seal.
func checkSeal(f *os.File, size int64) error {
	if size <= int64(sealSize) {
		return errSeal
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size-int64(sealSize))); err != nil {
		return err
	}
	var seal [sealSize]byte
	if _, err := f.ReadAt(seal[:], size-int64(sealSize)); err != nil {
		return err
	}
	if !bytes.Equal(seal[:], h.Sum([]byte(sealMagic))) {
		return errSeal
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// idType names the two identifiers of a person that the national service uses (TRE_G08); another code stays as it is.
func idType(code string) string {
	switch code {
	case "8":
		return "RPPS"
	case "0":
		return "ADELI"
	}
	return code
}

// city is the delivery line without its postal code.
func city(line, postal string) string {
	if postal != "" {
		if c, ok := strings.CutPrefix(line, postal+" "); ok {
			return strings.TrimSpace(c)
		}
	}
	return line
}

// yesNo is three-valued: a mark that is absent or unknown is NULL.
func yesNo(s string) any {
	switch strings.ToUpper(s) {
	case "O", "OUI", "1", "TRUE":
		return 1
	case "N", "NON", "0", "FALSE":
		return 0
	}
	return nil
}

func unixText(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
