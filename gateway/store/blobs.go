package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

var (
	// ErrNoBlob is what Open answers for an id that is not there.
	ErrNoBlob = errors.New("no such blob")
	// ErrBlobExists is what Put answers for an id that is there: a blob never changes.
	ErrBlobExists = errors.New("blob exists already")
	errBlobID     = errors.New("blob id must be 1 to 128 of A-Z a-z 0-9 - _, no - in front")
)

const tempPrefix = ".temp-" // no valid id begins with a dot

// Blobs is a folder of files that are whole or absent, whatever happens. Its folder lies in a state folder that a DB has locked:
// one process at a time.
type Blobs struct {
	dir string
	mu  sync.Mutex // makes "is it there" and "rename" one step
}

// Blob is one open blob.
type Blob struct {
	*os.File // Read, ReadAt, Seek, Close
	Size     int64
}

// OpenBlobs makes or opens the folder and removes what unfinished Puts of a dead process left there. It must not run while
// another Blobs of the same folder writes.
func OpenBlobs(dir string) (*Blobs, error) {
	if err := makeDir(dir, false); err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	err := each(dir, func(es []fs.DirEntry) error {
		for _, e := range es {
			if strings.HasPrefix(e.Name(), tempPrefix) {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return fmt.Errorf("sweep unfinished blob: %w", err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	return &Blobs{dir: dir}, nil
}

// each reads a folder some names at a time: it may hold a million.
func each(dir string, f func([]fs.DirEntry) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		es, err := d.ReadDir(500)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(es)
		}
		if err != nil {
			return err
		}
	}
}

// path maps an id to its file; an id that could leave the folder or hide in it is refused.
func (b *Blobs) path(id string) (string, error) {
	if !validID(id) {
		return "", errBlobID
	}
	return filepath.Join(b.dir, id), nil
}

func validID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '-' {
		return false
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// Put stores all of r under id. When it returns nil the bytes and the name are durable; otherwise there is no
// blob. The way is restic's: temp file in the same folder, fsync, rename, fsync of the folder.
func (b *Blobs) Put(ctx context.Context, id string, r io.Reader) (err error) {
	final, err := b.path(id)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(b.dir, tempPrefix) // mode 0600
	if err != nil {
		return fmt.Errorf("put blob %s: %w", id, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name()) // best effort: the next OpenBlobs sweeps it
			err = fmt.Errorf("put blob %s: %w", id, err)
		}
	}()
	if _, err = io.Copy(f, ctxReader{ctx, r}); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = b.publish(f.Name(), final); err != nil {
		return err
	}
	if err = syncDir(b.dir); err != nil {
		os.Remove(final) // not durable, so it must not be found either
		return err
	}
	return nil
}

func (b *Blobs) publish(temp, final string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := os.Lstat(final); err == nil {
		return ErrBlobExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temp, final)
}

// Open gives a blob for reading from any offset; the caller closes it. A blob deleted meanwhile stays readable to those who have
// it open.
func (b *Blobs) Open(id string) (*Blob, error) {
	path, err := b.path(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open blob %s: %w", id, ErrNoBlob)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	return &Blob{File: f, Size: st.Size()}, nil
}

// Delete removes blobs; when it returns nil they stay removed after a power cut. What is not there is no error.
func (b *Blobs) Delete(ids ...string) error {
	for _, id := range ids {
		path, err := b.path(id)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete blob %s: %w", id, err)
		}
	}
	if err := syncDir(b.dir); err != nil { // once: each flush makes the ledger's wait
		return fmt.Errorf("delete blobs: %w", err)
	}
	return nil
}

// List gives the ids of all blobs to f, some at a time and in no order. What is put or deleted meanwhile may be among them or not.
func (b *Blobs) List(f func(ids []string) error) error {
	err := each(b.dir, func(es []fs.DirEntry) error {
		var ids []string
		for _, e := range es {
			if validID(e.Name()) && e.Type().IsRegular() {
				ids = append(ids, e.Name())
			}
		}
		return f(ids)
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return nil
}

// ctxReader ends a copy when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
