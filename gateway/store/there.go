package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// files are the database and its log as they were opened. SQLite goes on writing into a file that was removed or replaced, and every
// commit succeeds into something without a name: durable would be a lie.
type files [2]struct {
	path string
	id   fileID
}

// fileID is what tells one file from another.
type fileID struct {
	devMajor, devMinor uint32
	inode              uint64
}

// openedFiles looks at them once SQLite has made both; the log stays the same file until the last connection is closed.
func openedFiles(path string) (*files, error) {
	var f files
	for i, p := range []string{path, path + "-wal"} {
		id, err := identify(p)
		if err != nil {
			return nil, err
		}
		f[i].path, f[i].id = p, id
	}
	return &f, nil
}

// there is nil while the names still lead to what is open.
func (f *files) there() error {
	for _, file := range f {
		if now, err := identify(file.path); err != nil {
			return fmt.Errorf("database file was removed or replaced: %w", err)
		} else if now != file.id {
			return fmt.Errorf("database file was removed or replaced: %s is another file", file.path)
		}
	}
	return nil
}

// identify asks for no times, as stat would: since Linux 6.13 a file's next write after somebody looked at its times gets a new one, and the
// fsync behind it waits for the inode too. On ext4 that is half as long again for each commit.
func identify(path string) (fileID, error) {
	var st unix.Statx_t
	for {
		err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO, &st)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fileID{}, fmt.Errorf("statx %s: %w", path, err)
		default:
			return fileID{st.Dev_major, st.Dev_minor, st.Ino}, nil
		}
	}
}
