package ledger

import (
	"fmt"
	"slices"
	"strings"

	"passerelle/gateway/store"
)

// A note waits for the disk, and each index that its entry enters is one more page to write. So entries enter the indexes in the background,
// many at a time, in the order of their numbers: those up to ledger_open.listed have, and their column listed is 1. A query looks through
// the few behind it one by one.

// maxList is how many entries one commit lists; a note may wait behind it.
const maxList = 256

// list brings entries into the indexes, in the commit that runs. Its statement says OR FAIL: to be able to undo it alone, SQLite would copy
// each page it touches. What fails here undoes the transaction, or its savepoint.
func (l *Ledger) list(tx store.Tx) error {
	to := min(l.seq, l.listed+maxList)
	if to == l.listed {
		return nil
	}
	if _, err := tx.Stmt(l.st.list).Exec(l.listed, to); err != nil {
		return fmt.Errorf("list entries: %w", err)
	}
	l.listed = to
	l.mu.Lock()
	l.stale = true
	l.mu.Unlock()
	return nil
}

// listed stands in a condition beside each column that has an index: without it SQLite cannot use the index.
const listed = "listed = 1"

// everywhere gives a query for the entries that fit, whether they are listed or not.
func everywhere(where string, args []any) (string, []any) {
	const from = `SELECT seq, ` + columns + ` FROM ledger_entries WHERE `
	if !strings.Contains(where, listed) {
		return from + where, args // all rows are read anyway
	}
	return from + where + ` UNION ALL ` + from + `seq > (SELECT listed FROM ledger_open) AND ` + strings.ReplaceAll(where, listed, "listed = 0"), slices.Concat(args, args)
}
