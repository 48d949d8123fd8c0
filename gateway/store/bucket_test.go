package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"passerelle/gateway/gatewaytest"
)

var s3 = sync.OnceValues(func() (_ *gatewaytest.S3, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s3server, err = gatewaytest.StartS3(ctx)
	return s3server, err
})

var s3server *gatewaytest.S3

func newBucket(t *testing.T, change ...func(*BucketConfig)) (*gatewaytest.S3, *Bucket) {
	t.Helper()
	s, err := s3()
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.NewBucket()
	if err != nil {
		t.Fatal(err)
	}
	cfg := BucketConfig{Endpoint: s.Endpoint, Region: "us-east-1", Bucket: name, Prefix: "clinic/", Key: s.Key, Secret: s.Secret, CA: s.CAFile, Owner: func(context.Context) (string, error) { return "db one", nil }}
	for _, c := range change {
		c(&cfg)
	}
	b, err := OpenBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return s, b
}

// keptBlob and blobPlace are what the vault uses, of a folder or of a bucket.
type keptBlob interface {
	io.ReaderAt
	io.Closer
}

type blobPlace struct {
	put    func(ctx context.Context, id string, r io.Reader) error
	open   func(id string) (keptBlob, int64, error)
	delete func(ctx context.Context, ids ...string) error
	list   func(ctx context.Context, f func([]string) error) error
}

func places(t *testing.T, f func(t *testing.T, p blobPlace)) {
	t.Run("folder", func(t *testing.T) {
		b, err := OpenBlobs(filepath.Join(t.TempDir(), "blobs"))
		if err != nil {
			t.Fatal(err)
		}
		f(t, blobPlace{b.Put, func(id string) (keptBlob, int64, error) {
			o, err := b.Open(id)
			if err != nil {
				return nil, 0, err
			}
			return o, o.Size, nil
		}, func(_ context.Context, ids ...string) error { return b.Delete(ids...) }, func(_ context.Context, f func([]string) error) error { return b.List(f) }})
	})
	t.Run("s3", func(t *testing.T) {
		_, b := newBucket(t)
		f(t, blobPlace{b.Put, func(id string) (keptBlob, int64, error) {
			o, err := b.Open(id)
			if err != nil {
				return nil, 0, err
			}
			return o, o.Size(), nil
		}, b.Delete, b.List})
	})
}

func (p blobPlace) ids(t *testing.T) (all []string) {
	t.Helper()
	if err := p.list(t.Context(), func(ids []string) error { all = append(all, ids...); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// Whatever length, a blob comes back as it was put, from any offset; a Put that fails leaves none; what is deleted is gone.
func TestBlobPlaces(t *testing.T) {
	places(t, func(t *testing.T, p blobPlace) {
		var want []string
		for id, size := range map[string]int{"empty": 0, "one": 1, "small": 70_000, "part": partSize, "more": partSize + 1, "three": 3*partSize + 17} {
			content := make([]byte, size)
			rand.Read(content)
			if err := p.put(t.Context(), id, bytes.NewReader(content)); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			want = append(want, id)
			o, got, err := p.open(id)
			if err != nil || got != int64(size) {
				t.Fatalf("%s: %d octets (%v), want %d", id, got, err, size)
			}
			if size < 1000 { // it takes the square of it
				if err := iotest.TestReader(io.NewSectionReader(o, 0, got), content); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
			for _, off := range []int64{0, 1, got / 2, got - 1, 13} {
				if off < 0 || off > got {
					continue
				}
				rest, err := io.ReadAll(io.NewSectionReader(o, off, got-off))
				if err != nil || !bytes.Equal(rest, content[off:]) {
					t.Errorf("%s from %d: %d octets, %v", id, off, len(rest), err)
				}
			}
			if _, err := o.ReadAt(make([]byte, 1), got); err != io.EOF {
				t.Errorf("%s behind its end: %v", id, err)
			}
			o.Close()
		}
		for _, n := range []int{100, partSize + 100} {
			err := p.put(t.Context(), "bad", io.MultiReader(io.LimitReader(rand.Reader, int64(n)), iotest.ErrReader(errors.New("the message broke off"))))
			if err == nil || !strings.Contains(err.Error(), "broke off") {
				t.Errorf("a broken Put gave %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.put(ctx, "bad", io.LimitReader(rand.Reader, int64(n))); err == nil {
				t.Error("put under a context that had ended")
			}
		}
		if _, _, err := p.open("bad"); !errors.Is(err, ErrNoBlob) {
			t.Errorf("half a blob: %v", err)
		}
		for _, id := range []string{"", "../x", "a/b", ".x", "-x", strings.Repeat("x", 129)} {
			if p.put(t.Context(), id, strings.NewReader("")) == nil || p.delete(t.Context(), id) == nil {
				t.Errorf("id %q was taken", id)
			}
		}
		slices.Sort(want)
		if got := p.ids(t); !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		if err := p.delete(t.Context(), "one", "not-there", "three"); err != nil {
			t.Error(err)
		}
		if err := p.delete(t.Context(), "small"); err != nil {
			t.Error(err)
		}
		if err := p.delete(t.Context(), "small"); err != nil {
			t.Errorf("twice: %v", err)
		}
		if got := p.ids(t); !slices.Equal(got, []string{"empty", "more", "part"}) {
			t.Errorf("left: %q", got)
		}
	})
}

// Two databases that name one bucket do not delete each other's payloads as orphans.
func TestBucketHasOneOwner(t *testing.T) {
	s, b := newBucket(t)
	if err := b.Put(t.Context(), "x", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	other, err := OpenBucket(BucketConfig{Endpoint: s.Endpoint, Region: "us-east-1", Bucket: b.cfg.Bucket, Prefix: "clinic/", Key: s.Key, Secret: s.Secret, CA: s.CAFile,
		Owner: func(context.Context) (string, error) { return "db two", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.List(t.Context(), func([]string) error { return nil }); !errors.Is(err, ErrRefused) {
		t.Errorf("listed another's: %v", err)
	}
	if err := other.Put(t.Context(), "y", strings.NewReader("y")); !errors.Is(err, ErrRefused) {
		t.Errorf("put among another's: %v", err)
	}
	// Nor does who was told so long ago, when another database lies behind the same URL by now, or another's bucket behind the same name.
	moved, err := OpenBucket(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	name := "db one"
	moved.cfg.Owner = func(context.Context) (string, error) { return name, nil }
	if err := moved.Put(t.Context(), "z", strings.NewReader("z")); err != nil {
		t.Fatal(err)
	}
	name = "db three"
	if err := moved.List(t.Context(), func([]string) error { return nil }); !errors.Is(err, ErrRefused) {
		t.Errorf("listed what was its own once: %v", err)
	}
	// Two that come at once do not both have it.
	var wg sync.WaitGroup
	var owners atomic.Int32
	for i := range 8 {
		cfg := b.cfg
		cfg.Prefix, cfg.Owner = "race/", func(context.Context) (string, error) { return fmt.Sprint("db ", i), nil }
		c, err := OpenBucket(cfg)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := c.Put(t.Context(), fmt.Sprint("p", i), strings.NewReader("p")); err == nil {
				owners.Add(1)
			} else if !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		})
		t.Cleanup(func() { c.Close() })
	}
	if wg.Wait(); owners.Load() != 1 {
		t.Errorf("%d databases own one bucket", owners.Load())
	}
	again, err := OpenBucket(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Put(t.Context(), "y", strings.NewReader("y")); err != nil {
		t.Errorf("its own, after a restart: %v", err)
	}
}

// A server that is away is an error in time; the password stands in none; afterwards it works again.
func TestBucketAway(t *testing.T) {
	s, b := newBucket(t)
	content := make([]byte, 2<<20)
	rand.Read(content)
	if err := b.Put(t.Context(), "x", bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	o, err := b.Open("x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := o.ReadAt(make([]byte, 1000), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"put":    func() error { return b.Put(t.Context(), "y", strings.NewReader("y")) },
		"open":   func() error { _, err := b.Open("x"); return err },
		"delete": func() error { return b.Delete(t.Context(), "x") },
		"many":   func() error { return b.Delete(t.Context(), "x", "y") },
		"list":   func() error { return b.List(t.Context(), func([]string) error { return nil }) },
		"ready":  func() error { return b.Ready(t.Context()) },
		"read":   func() error { _, err := o.ReadAt(make([]byte, 1000), 1<<20); return err },
	} {
		start := time.Now()
		if err := f(); err == nil || errors.Is(err, ErrNoBlob) || strings.Contains(err.Error(), s.Secret) {
			t.Errorf("%s without a server: %v", what, err)
		}
		if d := time.Since(start); d > 25*time.Second {
			t.Errorf("%s took %v", what, d)
		}
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("after it: %d octets, %v", len(got), err)
	}
	wrong, err := OpenBucket(BucketConfig{Endpoint: s.Endpoint, Region: "us-east-1", Bucket: b.cfg.Bucket, Key: s.Key, Secret: "wrong", CA: s.CAFile})
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Ready(t.Context()); err == nil {
		t.Error("a wrong secret is ready")
	}
	stranger, err := OpenBucket(BucketConfig{Endpoint: s.Endpoint, Region: "us-east-1", Bucket: b.cfg.Bucket, Key: s.Key, Secret: s.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody's: %v", err)
	}
	if err := os.Remove(filepath.Join(s.Dir, b.cfg.Bucket, "clinic", "x")); err != nil {
		t.Errorf("the payload is not where the server keeps it: %v", err)
	}
}

// What goes away between two requests of one reader, the server or the payload itself, ends the reading with an error: nobody waits for it, and it
// is not asked for again without end.
func TestBucketBlobGoneWhileRead(t *testing.T) {
	s, b := newBucket(t)
	content := make([]byte, 2*firstWindow)
	rand.Read(content)
	for what, end := range map[string]func() error{
		"payload": func() error { return b.Delete(t.Context(), "payload") },
		"server":  s.Stop,
		"reader":  nil,
	} {
		if err := b.Put(t.Context(), what, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		o, err := b.Open(what)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if _, err := o.ReadAt(make([]byte, firstWindow), 0); err != nil { // the whole first window: the next octet is another request
			t.Fatal(err)
		}
		if end == nil {
			end = o.Close
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := o.ReadAt(make([]byte, 1000), firstWindow)
			read <- err
		}()
		select {
		case err := <-read:
			if err == nil || err == io.EOF {
				t.Errorf("%s gone: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s gone: its reader goes on asking", what)
		}
		if what == "server" {
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
