package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// LockedError says that another process (or another DB of this one) has the database open.
type LockedError struct {
	Path string
	// PID is what the holder wrote into the lock file; it may be empty.
	PID string
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return fmt.Sprintf("state is in use by %s (lock %s): only one gateway may run on a state folder", who, e.Path)
}

// lockFile takes the lock that says "this database is mine", or ours where it is shared. flock belongs to the open file: it ends with the process however
// that dies, so a lock file left behind means nothing.
func lockFile(path string, shared bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		var b [32]byte
		n, _ := f.Read(b[:])
		f.Close()
		return nil, &LockedError{Path: path, PID: strings.TrimSpace(string(b[:n]))}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if shared {
		return f, nil
	}
	// The number helps a person only; a full disk must not keep the gateway from saying so itself later.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}
