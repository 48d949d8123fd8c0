package directory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
)

// Limits of the clinic's list.
const (
	maxListSize = 32 << 20
	maxContacts = 200_000
	maxKeySize  = 1 << 20
	// The list's files are looked at once in this time, and a change is taken when it stood for that time: an editor or a share
	// that writes in pieces never gives half a list.
	listEvery = time.Second
)

// Fault is one fault of the clinic's list or of a key file.
type Fault struct {
	File string // base name
	Line int
	Col  int // 0 where the whole line is meant
	Text string
}

// ListError holds every fault of the list; a list with one is not taken at all.
type ListError struct{ Faults []Fault }

func (e *ListError) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i == 20 {
			fmt.Fprintf(&b, "\n... and %d more faults", len(e.Faults)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		switch {
		case f.Col > 0:
			fmt.Fprintf(&b, "%s:%d:%d: %s", f.File, f.Line, f.Col, f.Text)
		case f.Line > 0:
			fmt.Fprintf(&b, "%s:%d: %s", f.File, f.Line, f.Text)
		default:
			fmt.Fprintf(&b, "%s: %s", f.File, f.Text)
		}
	}
	return b.String()
}

// LogValue tells where the faults are and not what stands there: in a list without its header row that is somebody's address and phone.
func (e *ListError) LogValue() slog.Value {
	where := make([]string, 0, 20)
	for _, f := range e.Faults[:min(len(e.Faults), cap(where))] {
		where = append(where, fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Col))
	}
	return slog.GroupValue(slog.Int("faults", len(e.Faults)), slog.String("at", strings.Join(where, " ")), slog.String("told_by", "passerelle check"))
}

// list is the clinic's own list with the keys of the config laid over it.
type list struct {
	file     string
	keyFiles map[string]string
	open     func(address string, sealed []byte) ([]byte, error) // of agreed phrases, may be nil
	now      func() time.Time
	log      *slog.Logger

	mu       sync.RWMutex
	contacts map[string]*Contact // by key; domain entries by "@domain"
	count    int                 // entries that stand in the list's file
	fault    string
	checked  time.Time
	taken    stamps // the files as content was last taken, or refused, from them
	pending  stamps // a change that must stand for a while
}

// stamps are the looks at all files that the list was made of.
type stamps map[string]fs.FileInfo

func (s stamps) same(t stamps) bool {
	if len(s) != len(t) {
		return false
	}
	for p, fi := range s {
		other, ok := t[p]
		if !ok || (fi == nil) != (other == nil) || fi != nil && !sameFile(fi, other) {
			return false
		}
	}
	return true
}

func look(paths stamps) stamps {
	now := make(stamps, len(paths))
	for p := range paths {
		now[p], _ = os.Stat(p) // nil where it is gone
	}
	return now
}

func openList(file string, keyFiles map[string]string, open func(address string, sealed []byte) ([]byte, error), now func() time.Time, log *slog.Logger) (*list, error) {
	l := &list{file: file, keyFiles: keyFiles, open: open, now: now, log: log}
	if err := l.reload(); err != nil {
		return nil, err
	}
	return l, nil
}

// reload takes the files as they are now, or keeps what it has and tells every fault.
func (l *list) reload() error {
	paths := make(stamps)
	if l.file != "" {
		paths[l.file] = nil
	}
	for _, f := range l.keyFiles {
		paths[f] = nil
	}
	seen := look(paths)
	contacts, count, err := readContacts(l.file, l.keyFiles, l.open, seen)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken, l.pending, l.checked = seen, nil, l.now()
	if err != nil {
		l.fault = err.Error()
		return err
	}
	l.contacts, l.count, l.fault = contacts, count, ""
	return nil
}

// find gives the entry for a: its own, else that of its domain.
func (l *list) find(a message.Address) *Contact {
	if a.IsNull() {
		return nil
	}
	l.refresh()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if c, ok := l.contacts[a.Key()]; ok {
		return c
	}
	return l.contacts["@"+a.Domain]
}

// refresh looks at the files, at most once per listEvery, and reloads what changed and then stood still.
func (l *list) refresh() {
	now := l.now()
	l.mu.RLock()
	due := len(l.taken) > 0 && now.Sub(l.checked) >= listEvery
	l.mu.RUnlock()
	if !due {
		return
	}
	l.mu.Lock()
	if now.Sub(l.checked) < listEvery { // another asker looks
		l.mu.Unlock()
		return
	}
	l.checked = now
	seen := look(l.taken)
	settled := false
	switch {
	case seen.same(l.taken):
		l.pending = nil
	case l.pending != nil && seen.same(l.pending):
		settled = true
	default:
		l.pending = seen
	}
	l.mu.Unlock()
	if !settled {
		return
	}
	if err := l.reload(); err != nil {
		l.log.Error("directory: the clinic's list is faulty, its former content stays", "faults", faultCount(err))
		return
	}
	l.log.Info("directory: the clinic's list was read again")
}

func faultCount(err error) int {
	if e := new(ListError); errors.As(err, &e) {
		return len(e.Faults)
	}
	return 1
}

// knows tells whether the list has an entry for all of a domain.
func (l *list) knows(domain string) bool {
	if l == nil {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.contacts["@"+domain] != nil
}

func (l *list) status() (contacts, certificatesOver int, fault string) {
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, c := range l.contacts {
		if c.Certificate != nil && now.After(c.Certificate.NotAfter) {
			certificatesOver++
		}
	}
	return l.count, certificatesOver, l.fault
}

// readContacts reads the list and the keys. seen gets the key files that the list names, each as it was before it was read: what changes while
// it is read differs from its stamp, and is read again.
func readContacts(file string, keyFiles map[string]string, open func(address string, sealed []byte) ([]byte, error), seen stamps) (contacts map[string]*Contact, count int, err error) {
	var faults []Fault
	contacts = make(map[string]*Contact)
	if file != "" {
		text, err := readBounded(file, maxListSize)
		if err != nil {
			return nil, 0, &ListError{[]Fault{{File: filepath.Base(file), Text: strings.TrimPrefix(err.Error(), filepath.Base(file)+": ")}}}
		}
		var cs []*Contact
		switch strings.ToLower(filepath.Ext(file)) {
		case ".yaml", ".yml":
			cs, faults = parseYAML(filepath.Base(file), text)
		default:
			cs, faults = parseCSV(filepath.Base(file), text)
		}
		count = len(cs)
		for _, c := range cs {
			if other, twice := contacts[c.Address]; twice {
				faults = append(faults, Fault{File: c.File, Line: c.Line, Text: fmt.Sprintf("address stands in line %d already", other.Line)})
				continue
			}
			contacts[c.Address] = c
			if err := c.openSecret(open); err != nil {
				faults = append(faults, Fault{File: c.File, Line: c.Line, Text: err.Error()})
			}
			beside := func(path *string) bool {
				if *path == "" {
					return false
				}
				if !filepath.IsAbs(*path) {
					*path = filepath.Join(filepath.Dir(file), *path)
				}
				if _, looked := seen[*path]; !looked {
					seen[*path], _ = os.Stat(*path)
				}
				return true
			}
			if beside(&c.OpenPGPKeyFile) {
				if c.OpenPGPKey, err = readKey(c.OpenPGPKeyFile); err != nil {
					faults = append(faults, Fault{File: c.File, Line: c.Line, Text: "openpgp: " + err.Error()})
				}
			}
			if beside(&c.CertFile) {
				text, err := readBounded(c.CertFile, maxKeySize)
				if err == nil {
					c.Certificate, err = readCertificate(text)
				}
				if err != nil {
					faults = append(faults, Fault{File: c.File, Line: c.Line, Text: "certificate: " + err.Error()})
				}
			}
		}
		faults = append(faults, resolveAliases(contacts)...)
	}
	faults = append(faults, overlayKeys(contacts, keyFiles)...)
	if faults != nil {
		slices.SortStableFunc(faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, 0, &ListError{faults}
	}
	return contacts, count, nil
}

// overlayKeys gives the keys of the config to the entries without a key of their own: first those for one address, then those for
// a domain; an address or a domain without an entry gets one that holds the key alone.
func overlayKeys(contacts map[string]*Contact, keyFiles map[string]string) (faults []Fault) {
	own, domains := make(map[string]*Contact), make(map[string]*Contact)
	for who, file := range keyFiles {
		k, err := contactKey(who)
		if err != nil {
			faults = append(faults, Fault{File: filepath.Base(file), Text: fmt.Sprintf("key for %q: %v", who, err)})
			continue
		}
		key, err := readKey(file)
		if err != nil {
			faults = append(faults, Fault{File: filepath.Base(file), Text: fmt.Sprintf("key for %q: %v", who, err)})
			continue
		}
		c := &Contact{Address: k, OpenPGPKey: key, OpenPGPKeyFile: file}
		if k[0] == '@' {
			domains[k] = c
		} else {
			own[k] = c
		}
	}
	for k, c := range own {
		entry, ok := contacts[k]
		if !ok {
			if of, ok := contacts[k[strings.LastIndexByte(k, '@'):]]; ok { // the domain's entry, with this person's key
				dup := *of
				dup.Address, dup.OpenPGPKey, dup.OpenPGPKeyFile = k, c.OpenPGPKey, c.OpenPGPKeyFile
				c = &dup
			}
			contacts[k] = c
		} else if entry.OpenPGPKey == nil {
			entry.OpenPGPKey, entry.OpenPGPKeyFile = c.OpenPGPKey, c.OpenPGPKeyFile
		}
	}
	for k, c := range contacts {
		if d, ok := domains[k[strings.LastIndexByte(k, '@'):]]; ok && c.OpenPGPKey == nil {
			c.OpenPGPKey, c.OpenPGPKeyFile = d.OpenPGPKey, d.OpenPGPKeyFile
		}
	}
	for k, c := range domains {
		if _, ok := contacts[k]; !ok {
			contacts[k] = c
		}
	}
	return faults
}

// readKey reads a public OpenPGP key. Whether it is usable is the room's question that encrypts; here it must look like one.
func readKey(path string) ([]byte, error) {
	key, err := readBounded(path, maxKeySize)
	if err != nil {
		return nil, err
	}
	return key, checkKey(key)
}

func checkKey(key []byte) error {
	switch {
	case bytes.Contains(key, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")):
		return errors.New("this is a private key; the public one belongs here")
	case bytes.Contains(key, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")):
		return nil
	case len(key) > 2 && key[0]&0x80 != 0: // RFC 9580 section 4.2: bit 7 of a packet's first octet is set
		return nil
	}
	return errors.New("this is no OpenPGP public key")
}

// readBounded reads a small file; its errors name no folder.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), errors.Unwrap(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), limit)
	}
	return b, nil
}
