package trust

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The files of the list in the state folder.
const (
	listName    = "whitelist.xml"         // the list in force, as it came
	waitingName = "whitelist-waiting.xml" // a good list that waits for the operator
	listPart    = "whitelist.part"        // a download that is not verified yet
	listState   = "whitelist.json"
	listLock    = "whitelist.lock"
)

// lister holds the list in force of one Space.
type lister struct {
	cfg   WhiteListConfig
	space *Space
	force atomic.Pointer[whiteList]

	mu    sync.Mutex
	st    keptState
	seen  fileMark  // of the file that was read last, well or not
	fault string    // why that file is not in force
	again time.Time // when a file that could not be used is looked at again
}

// keptState is what the state folder knows beside the list itself. It is not believed about domains.
type keptState struct {
	Source       string       `json:"source"` // hash of the URL that was asked last
	Of           string       `json:"of"`     // of the one that the list kept came from
	ETag         string       `json:"etag,omitempty"`
	LastModified string       `json:"last_modified,omitempty"`
	Newest       time.Time    `json:"newest"` // date of the newest list that was in force: none older is taken
	Digest       string       `json:"digest"` // of that list
	Domains      int          `json:"domains"`
	Tried        time.Time    `json:"tried"`
	Checked      time.Time    `json:"checked"` // the last look that went well
	Next         time.Time    `json:"next"`
	Failed       time.Time    `json:"failed"`
	Failures     int          `json:"failures"`
	Fault        string       `json:"fault"`
	Waiting      *WaitingList `json:"waiting,omitempty"`
}

// fileMark tells one content of a file from another.
type fileMark struct {
	changed time.Time
	size    int64
	inode   uint64
}

func markOf(path string) (m fileMark) {
	if fi, err := os.Stat(path); err == nil {
		m = fileMark{changed: fi.ModTime(), size: fi.Size()}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			m.inode = st.Ino
		}
	}
	return m
}

// retryKept is how often a kept list that could not be used (no fresh revocation list, say) is tried again.
const retryKept = time.Minute

// newLister takes the list over from a former Space, or reads the last good one. Without any everything that hangs on it waits, which is
// no error; where the new settings do not stand the list in force it is one.
func newLister(s *Space, former *Space) error {
	l := &lister{cfg: s.cfg.WhiteList.withDefaults(), space: s}
	s.lister = l
	l.st = l.loadState()
	if former == nil || former.lister == nil {
		l.adopt()
		return nil
	}
	f := former.lister
	if sameTrust(f.cfg, l.cfg) {
		f.mu.Lock() // the list and the mark of its file go together
		defer f.mu.Unlock()
		l.force.Store(f.force.Load())
		l.seen, l.fault, l.again, l.st = f.seen, f.fault, f.again, f.st
		return nil
	}
	l.adopt()
	if l.force.Load() == nil && f.force.Load() != nil && f.cfg.URL == l.cfg.URL {
		return fmt.Errorf("the white list in force is not good under the new settings: %s", l.fault)
	}
	return nil
}

// sameTrust: the settings that a list is verified by are the same.
func sameTrust(a, b WhiteListConfig) bool {
	a.Every, a.MaxAge, a.AlarmAge, a.Shrink, a.CA, a.Silence, a.Total = b.Every, b.MaxAge, b.AlarmAge, b.Shrink, b.CA, b.Silence, b.Total
	return reflect.DeepEqual(a, b)
}

func (l *lister) path(name string) string { return filepath.Join(l.cfg.StateDir, name) }

// adopt puts the kept list in force where the file is another than the one read last: at start, and where another process refreshed it.
// Its signature is verified again.
func (l *lister) adopt() {
	mark, now := markOf(l.path(listName)), l.space.cfg.Now()
	l.mu.Lock()
	old := l.force.Load()
	skip := mark == l.seen && (old != nil && l.fault == "" || now.Before(l.again) && l.again.Sub(now) <= retryKept)
	l.mu.Unlock()
	if skip {
		return
	}
	st := l.loadState()
	list, err := l.read(listName)
	switch {
	case mark == (fileMark{}):
		err = errors.New("none was fetched yet")
	case err != nil:
	case st.Of != "" && st.Of != sourceKey(l.cfg.URL):
		err = errors.New("the one kept is of another address")
	case list.date.Before(st.Newest) || old != nil && list.date.Before(old.date):
		err = fmt.Errorf("the one kept, of %s, is older than one that was in force", list.date.Format(time.RFC3339))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.st, l.seen, l.again = st, mark, now.Add(retryKept)
	if err != nil {
		if l.fault != err.Error() {
			l.space.cfg.Log.Error("white list: what is kept cannot be put in force", "err", err, "in_force", old != nil)
		}
		l.fault = err.Error()
		return
	}
	l.putInForce(old, list)
}

// read verifies one of the files.
func (l *lister) read(name string) (*whiteList, error) {
	f, err := os.Open(l.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return l.space.readWhiteList(f, fi.Size())
}

const maxChangeLines = 50

// putInForce swaps the list and tells the log what changed. The caller holds mu.
func (l *lister) putInForce(old, list *whiteList) {
	l.force.Store(list)
	l.fault = ""
	log := l.space.cfg.Log
	added, lost := list.against(old)
	log.Info("white list in force", "date", list.date, "domains", len(list.names), "added", len(added), "removed", len(lost), "skipped", list.odd, "signer", list.signer)
	if old != nil { // the first one is all new
		for i, d := range lost {
			if i == maxChangeLines {
				break
			}
			log.Warn("white list: domain removed", "domain", d)
		}
		for i, d := range added {
			if i == maxChangeLines {
				break
			}
			log.Info("white list: domain added", "domain", d)
		}
	}
	for _, why := range list.skipped {
		log.Warn("white list: entry skipped", "why", why)
	}
}

// keep makes a verified file the list in force, durable before it counts. The caller holds the lock of the folder.
func (l *lister) keep(file string, list *whiteList, st *keptState) error {
	if err := os.Rename(l.path(file), l.path(listName)); err != nil {
		return fmt.Errorf("keep the white list: %w", err)
	}
	if err := syncFolder(l.cfg.StateDir); err != nil {
		return fmt.Errorf("keep the white list: %w", err)
	}
	if file != waitingName {
		os.Remove(l.path(waitingName))
	}
	st.Of, st.Newest, st.Digest, st.Domains, st.Waiting = sourceKey(l.cfg.URL), list.date, hex.EncodeToString(list.digest[:]), len(list.names), nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = markOf(l.path(listName))
	l.putInForce(l.force.Load(), list)
	return nil
}

// loadState gives the empty state where there is none or it cannot be read: everything is then fetched anew.
func (l *lister) loadState() (st keptState) {
	b, err := os.ReadFile(l.path(listState))
	if err != nil || json.Unmarshal(b, &st) != nil {
		return keptState{}
	}
	if markOf(l.path(waitingName)) == (fileMark{}) { // it was taken, and the process ended before it noted that
		st.Waiting = nil
	}
	return st
}

func (l *lister) saveState(st keptState) error {
	l.mu.Lock()
	l.st = st
	l.mu.Unlock()
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("note the white list: %w", err)
	}
	f, err := l.create(listState + ".new")
	if err != nil {
		return fmt.Errorf("note the white list: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = errors.Join(os.Rename(f.Name(), l.path(listState)), syncFolder(l.cfg.StateDir))
	}
	if err != nil {
		return fmt.Errorf("note the white list: %w", err)
	}
	return nil
}

// create makes a file of the state folder; what root makes belongs to the folder's owner, who serves. A link that lies there is not followed:
// root would empty its target and give it away.
func (l *lister) create(name string) (*os.File, error) {
	f, err := os.OpenFile(l.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil || os.Geteuid() != 0 {
		return f, err
	}
	fi, err := os.Stat(l.cfg.StateDir)
	if err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock keeps two processes from changing the list at once.
func (l *lister) lock() (unlock func(), err error) {
	f, err := l.create(listLock)
	if err != nil {
		return nil, fmt.Errorf("lock the white list: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the white list: it is being refreshed by another process: %w", err)
	}
	return func() { f.Close() }, nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrNoWhiteList: trust.white_list.url is not set.
var ErrNoWhiteList = errors.New("trust.white_list.url is not set")

// ErrNoneWaiting: no list waits for the operator.
var ErrNoneWaiting = errors.New("no white list is waiting")

// Waiting gives the date of the waiting list, and what it would add and remove.
func (s *Space) Waiting() (date time.Time, added, lost []string, err error) {
	list, added, lost, err := s.waiting()
	if err != nil {
		return date, nil, nil, err
	}
	return list.date, added, lost, nil
}

func (s *Space) waiting() (list *whiteList, added, lost []string, err error) {
	if s.lister == nil {
		return nil, nil, nil, ErrNoWhiteList
	}
	s.lister.adopt()
	if markOf(s.lister.path(waitingName)) == (fileMark{}) {
		return nil, nil, nil, ErrNoneWaiting
	}
	if list, err = s.lister.read(waitingName); err != nil {
		return nil, nil, nil, fmt.Errorf("the waiting white list: %w", err)
	}
	added, lost = list.against(s.lister.force.Load())
	return list, added, lost, nil
}

// Accept puts the waiting list of this date in force, the one that the operator was shown. Its signature is verified again, and it must
// still be newer.
func (s *Space) Accept(ctx context.Context, date time.Time) error {
	if s.lister == nil {
		return ErrNoWhiteList
	}
	l := s.lister
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	list, _, _, err := s.waiting()
	if err != nil {
		return err
	}
	st := l.loadState()
	if _, err := l.newer(list, &st); err != nil {
		return err
	}
	if !list.date.Equal(date) {
		return fmt.Errorf("another list, of %s, waits by now: look at it first", list.date.Format(time.RFC3339))
	}
	return errors.Join(l.keep(waitingName, list, &st), l.saveState(st))
}
