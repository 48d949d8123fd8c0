package store

import (
	"fmt"
	"io/fs"
	"os"
)

// files are the database and its log as they were opened. SQLite goes on writing into a file that was removed or replaced, and every
// commit succeeds into something without a name: durable would be a lie.
type files struct {
	paths [2]string
	infos [2]fs.FileInfo
}

// openedFiles looks at them once SQLite has made both; the log stays the same file until the last connection is closed.
func openedFiles(path string) (*files, error) {
	f := &files{paths: [2]string{path, path + "-wal"}}
	for i, p := range f.paths {
		var err error
		if f.infos[i], err = os.Stat(p); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// there is nil while the names still lead to what is open.
func (f *files) there() error {
	for i, p := range f.paths {
		if now, err := os.Stat(p); err != nil {
			return fmt.Errorf("database file was removed or replaced: %w", err)
		} else if !os.SameFile(f.infos[i], now) {
			return fmt.Errorf("database file was removed or replaced: %s is another file", p)
		}
	}
	return nil
}
