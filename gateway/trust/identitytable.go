package trust

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/text/encoding/charmap"
)

var mTableBroken = promauto.NewGauge(prometheus.GaugeOpts{Name: "passerelle_trust_identities_broken",
	Help: "1 while the table of identities cannot be read: what was read before stays in force."})

const (
	maxTable = 16 << 20
	// The table is looked at once in this time, and a change is taken when it stood for that time: never half a file.
	tableEvery = time.Second
)

// stamp is a look at a file; the zero value is "not there".
type stamp struct {
	size int64
	at   time.Time
	mode fs.FileMode
}

func lookAt(file string) stamp {
	fi, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{fi.Size(), fi.ModTime(), fi.Mode()}
}

// Reload reads the table as it is now, or keeps what it had and tells every fault.
func (x *Identities) Reload() error {
	at := lookAt(x.cfg.Table)
	table, err := x.readTable()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen, x.pending, x.checked, x.fault = at, stamp{}, x.cfg.Now(), err
	if err != nil {
		mTableBroken.Set(1)
		return err
	}
	mTableBroken.Set(0)
	x.rows = table
	return nil
}

// Fault is what is wrong with the table as it is now; nil where it is in force.
func (x *Identities) Fault() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.fault
}

// current looks whether the table changed and gives what is in force.
func (x *Identities) current() rows {
	now := x.cfg.Now()
	x.mu.RLock()
	r, fresh := x.rows, x.cfg.Table == "" || now.Sub(x.checked) < tableEvery && !now.Before(x.checked)
	x.mu.RUnlock()
	if fresh || !x.due(now) {
		return r
	}
	if err := x.Reload(); err != nil {
		x.cfg.Log.Error("table of identities cannot be read, the one before stays in force", "err", err)
	} else {
		x.cfg.Log.Info("table of identities read again", "addresses", len(x.rows.byAddress))
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.rows
}

// due tells whether a changed table has stood for a while; one caller is told so.
func (x *Identities) due(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now.Sub(x.checked) < tableEvery && !now.Before(x.checked) {
		return false
	}
	x.checked = now
	at := lookAt(x.cfg.Table)
	if at == x.seen {
		x.pending = stamp{}
		return false
	}
	stood := at == x.pending
	x.pending = at
	return stood
}

// fixedRows are those of the config.
func (x *Identities) fixedRows() (rows, error) {
	out := rows{map[string]*row{}, map[string]*row{}}
	for _, a := range slices.Sorted(maps.Keys(x.cfg.Mailboxes)) {
		r, err := x.newRow(a, x.cfg.Mailboxes[a])
		if err != nil {
			return out, fmt.Errorf("identities: %s %w", a, err)
		}
		if !out.add(r) {
			return out, fmt.Errorf("identities: %s stands twice, in other cases of letters", a)
		}
	}
	return out, nil
}

// add gives false where the address has a row.
func (r rows) add(one *row) bool {
	key := one.Address.Key()
	if r.byAddress[key] != nil {
		return false
	}
	r.byAddress[key] = one
	if m := one.Mailbox.Key(); m != "" && r.byMailbox[m] == nil {
		r.byMailbox[m] = one
	}
	return true
}

// columns of the table, with the names that they may bear.
var columns = map[string]string{"address": "address", "adresse": "address", "mailbox": "mailbox", "bal": "mailbox", "mssante": "mailbox", "type": "type", "kind": "type",
	"title": "title", "titre": "title", "first_name": "first_name", "prenom": "first_name", "prénom": "first_name", "last_name": "last_name", "nom": "last_name",
	"entity": "entity", "entite": "entity", "entité": "entity", "label": "label", "libelle": "label", "libellé": "label", "delegates": "delegates", "delegues": "delegates", "délégués": "delegates"}

// readTable gives the rows of the table and the config's behind them. The table is CSV: a first row with the columns' names, then one row
// for each address of the clinic, separated by semicolons, commas or tabs; UTF-8 or Windows-1252.
func (x *Identities) readTable() (rows, error) {
	out := rows{map[string]*row{}, map[string]*row{}}
	if x.cfg.Table != "" {
		f, err := os.Open(x.cfg.Table)
		if err != nil {
			return out, fmt.Errorf("identities: open table: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxTable+1))
		f.Close()
		if err != nil {
			return out, fmt.Errorf("identities: read table: %w", err)
		}
		if len(text) > maxTable {
			return out, errors.New("identities: the table is longer than 16 MiB")
		}
		if err := x.parseTable(out, text); err != nil {
			return out, fmt.Errorf("identities: %w", err)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(x.fixed.byAddress)) {
		out.add(x.fixed.byAddress[a])
	}
	return out, nil
}

func (x *Identities) parseTable(out rows, text []byte) error {
	name := filepath.Base(x.cfg.Table)
	if text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")); !utf8.Valid(text) {
		var err error
		if text, err = charmap.Windows1252.NewDecoder().Bytes(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	r := csv.NewReader(bytes.NewReader(text))
	first, _, _ := bytes.Cut(text, []byte{'\n'})
	r.Comma = ';'
	for _, c := range []rune{',', '\t'} {
		if bytes.Count(first, []byte(string(c))) > bytes.Count(first, []byte(string(r.Comma))) {
			r.Comma = c
		}
	}
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("%s:1: the first row must name the columns: %w", name, err)
	}
	seen := map[string]bool{}
	for i, h := range head {
		c := columns[strings.ToLower(strings.TrimSpace(h))]
		if c == "" || seen[c] {
			return fmt.Errorf("%s:1: column %q is not known or stands twice", name, h)
		}
		head[i], seen[c] = c, true
	}
	if !seen["address"] || !seen["mailbox"] {
		return fmt.Errorf("%s:1: columns address and mailbox must be there", name)
	}
	var faults []error
	for {
		rec, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil { // what follows cannot be told apart
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			break
		}
		line, _ := r.FieldPos(0)
		if err := x.parseRow(out, head, rec); err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", name, line, err))
		}
		if len(faults) == 20 {
			break
		}
	}
	return errors.Join(faults...)
}

func (x *Identities) parseRow(out rows, head, rec []string) error {
	v := map[string]string{}
	for i, c := range head {
		v[c] = strings.TrimSpace(rec[i])
	}
	if strings.Join(rec, "") == "" {
		return nil
	}
	one, err := x.newRow(v["address"], v["mailbox"])
	if err != nil {
		return fmt.Errorf("the address %w", err)
	}
	if err := one.delegate(v["delegates"]); err != nil {
		return err
	}
	kind := strings.ToUpper(v["type"])
	if kind == "" {
		kind = Person
	}
	if kind != Person && kind != Organisation && kind != Application {
		return errors.New("type is none of PER, ORG, APP")
	}
	if one.Label = LabelText(v["label"]); one.Label == "" {
		one.Label = Label(kind, v["title"], v["first_name"], v["last_name"], v["entity"])
	}
	if !out.add(one) {
		return errors.New("the address has a row already")
	}
	return nil
}
