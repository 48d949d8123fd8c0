package store

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/minio/minio-go/v7"
)

const (
	firstWindow = 256 << 10 // asked for at a new place,
	nextWindow  = 4 << 20   // and where reading goes on
)

// BucketBlob is one open blob of a Bucket. ReadAt in rising order, as a download does it, is one request for each nextWindow.
type BucketBlob struct {
	b      *Bucket
	name   string
	size   int64
	ctx    context.Context // of its requests, until Close
	cancel context.CancelFunc

	mu      sync.Mutex
	body    io.ReadCloser
	at, end int64 // of body: the next octet, and the one behind its last
}

// Open gives a blob for reading from any offset; the caller closes it.
func (b *Bucket) Open(id string) (_ *BucketBlob, err error) {
	defer func() { counted("open", err) }()
	if !validID(id) {
		return nil, errBlobID
	}
	ctx, cancel := context.WithTimeout(context.Background(), stallTime)
	defer cancel()
	st, err := b.core.StatObject(ctx, b.cfg.Bucket, b.cfg.Prefix+id, minio.StatObjectOptions{})
	if isCode(err, "NoSuchKey", "NotFound") {
		return nil, fmt.Errorf("open blob %s: %w", id, ErrNoBlob)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	o := &BucketBlob{b: b, name: b.cfg.Prefix + id, size: st.Size}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o, nil
}

// Size is the blob's length in octets.
func (o *BucketBlob) Size() int64 { return o.size }

// Close ends what is being read.
func (o *BucketBlob) Close() error {
	o.cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop()
	return nil
}

func (o *BucketBlob) drop() {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
}

// ReadAt reads as io.ReaderAt says. A connection that breaks is replaced once.
func (o *BucketBlob) ReadAt(p []byte, off int64) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for broken := false; n < len(p); {
		at := off + int64(n)
		if at >= o.size {
			return n, io.EOF
		}
		m, err := o.some(p[n:], at)
		n += m
		switch {
		case m > 0:
			broken = false
		case err != nil && (broken || o.ctx.Err() != nil):
			return n, fmt.Errorf("read blob: %w", err)
		case err != nil:
			broken = true
		}
	}
	return n, nil
}

// some is one Read at an offset; whatever it ends with, the next one finds its own way.
func (o *BucketBlob) some(p []byte, at int64) (int, error) {
	if err := o.from(at, int64(len(p))); err != nil {
		return 0, err
	}
	m, err := o.body.Read(p[:min(int64(len(p)), o.end-at)])
	o.at += int64(m)
	if o.at == o.end { // all that was asked for
		o.drop()
		return m, nil
	}
	if err != nil {
		o.drop()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// from has body stand at an offset.
func (o *BucketBlob) from(at, want int64) (err error) {
	if o.body != nil && o.at == at {
		return nil
	}
	window := int64(firstWindow)
	if o.at == at && at > 0 {
		window = nextWindow
	}
	o.drop()
	defer func() { counted("read", err) }()
	end := min(o.size, at+max(window, want))
	var opts minio.GetObjectOptions
	if err := opts.SetRange(at, end-1); err != nil {
		return err
	}
	body, _, _, err := o.b.core.GetObject(o.ctx, o.b.cfg.Bucket, o.name, opts)
	if err == nil {
		o.body, o.at, o.end = body, at, end
	}
	return err
}
