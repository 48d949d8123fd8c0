package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func list(b *Blobs) (all []string, err error) {
	err = b.List(func(ids []string) error { all = append(all, ids...); return nil })
	slices.Sort(all)
	return all, err
}

func TestBlobLife(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b", "A-1_z"} {
		if err := b.Put(t.Context(), id, strings.NewReader("content of "+id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(t.Context(), "b", strings.NewReader("other")); !errors.Is(err, ErrBlobExists) {
		t.Errorf("put twice: got %v", err)
	}
	if ids, err := list(b); err != nil || !slices.Equal(ids, []string{"A-1_z", "b"}) {
		t.Errorf("list: %v, %v", ids, err)
	}
	f, err := b.Open("b")
	if err != nil || f.Size != 12 {
		t.Fatalf("open: %+v, %v", f, err)
	}
	if err := b.Delete("b"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if _, err := f.ReadAt(p, 8); err != nil || string(p) != "of b" {
		t.Errorf("read at after delete: %q, %v", p, err)
	}
	f.Close()
	if _, err := b.Open("b"); !errors.Is(err, ErrNoBlob) {
		t.Errorf("open deleted: %v", err)
	}
	if err := b.Delete("b", "A-1_z"); err != nil { // one is gone already, the other goes with it
		t.Errorf("delete twice: %v", err)
	}
	if ids, err := list(b); err != nil || len(ids) != 0 {
		t.Errorf("list: %v, %v", ids, err)
	}
}

func TestUnfinishedBlobIsNotThere(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("reader broke")
	if err := b.Put(t.Context(), "x", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Put(ctx, "x", strings.NewReader("all")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// what a killed process leaves is neither listed nor opened, and swept at the next start
	if err := os.WriteFile(filepath.Join(dir, tempPrefix+"123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ids, _ := list(b); len(ids) != 0 {
		t.Errorf("listed: %v", ids)
	}
	if _, err := OpenBlobs(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("not swept: %v", left)
	}
}

func TestConcurrentPutOfOneID(t *testing.T) {
	b, err := OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	won := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			if err := b.Put(context.Background(), "one", strings.NewReader("x")); err == nil {
				won <- struct{}{}
			} else if !errors.Is(err, ErrBlobExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d of 8 won", len(won))
	}
}

// FuzzBlobID: whatever the id, nothing outside the folder is made or opened.
func FuzzBlobID(f *testing.F) {
	for _, s := range []string{"", ".", "..", "../x", "a/b", "a\\b", ".temp-1", "a\x00", "-rf", "é", strings.Repeat("a", 129), "ok"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		dir := t.TempDir()
		b := &Blobs{dir: dir}
		path, err := b.path(id)
		if err != nil {
			if b.Put(t.Context(), id, strings.NewReader("x")) == nil {
				t.Fatalf("%q: refused as a path and put all the same", id)
			}
			return
		}
		if filepath.Dir(path) != dir || strings.HasPrefix(filepath.Base(path), ".") {
			t.Fatalf("%q leads to %s", id, path)
		}
	})
}
