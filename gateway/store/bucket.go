package store

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var bucketTotal = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_store_bucket_total", Help: "Requests for blobs in the S3 bucket that several gateways share, by what was asked and what became of it.",
}, []string{"op", "result"}) // put, open, read, delete, list; ok, error

const (
	// partSize is what a Put holds in memory, and the least that S3 takes as a part of a larger blob.
	partSize = 5 << 20
	// BucketMemory is what one Put takes at once.
	BucketMemory = partSize
	// stallTime is how long a server may neither take nor give an octet.
	stallTime = 30 * time.Second
	// ownerName is the object that says whose blobs these are; it is no blob's id.
	ownerName = "passerelle.vault"
	// unfinished parts are removed after that long; no Put takes it.
	unfinishedLife = 24 * time.Hour
)

// BucketConfig says where the blobs of several gateways lie.
type BucketConfig struct {
	// Endpoint is https://host[:port], or http:// on loopback. Prefix stands before the ids, "" for nothing.
	Endpoint, Region, Bucket, Prefix string
	Key, Secret                      string
	// CA is a file of certificates that the server is believed by; "" means the system's.
	CA string
	// Owner names the database whose blobs these are. Nothing is put or listed under a prefix that another's name stands in: who lists deletes
	// what his database does not know.
	Owner func(context.Context) (string, error)
}

// Bucket keeps blobs in S3. It keeps the promises of Blobs: whole or absent, durable when Put returns.
type Bucket struct {
	cfg  BucketConfig
	core minio.Core
	web  *http.Transport

	owned atomic.Bool
}

// OpenBucket asks the server for nothing; Ready does.
func OpenBucket(cfg BucketConfig) (*Bucket, error) {
	host, secure := strings.CutPrefix(cfg.Endpoint, "https://")
	if !secure {
		host = strings.TrimPrefix(host, "http://")
	}
	dialer := &net.Dialer{Timeout: connectTime}
	web := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: stallTime, TLSHandshakeTimeout: 2 * connectTime, ResponseHeaderTimeout: stallTime, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return movingConn{c}, nil
		}}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("open bucket: %w", err)
		}
		web.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !web.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("open bucket: no certificate in %s", cfg.CA)
		}
	}
	core, err := minio.NewCore(host, &minio.Options{Creds: credentials.NewStaticV4(cfg.Key, cfg.Secret, ""), Secure: secure, Region: cfg.Region, Transport: web, MaxRetries: 3})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Bucket, err)
	}
	return &Bucket{cfg: cfg, core: *core, web: web}, nil
}

// movingConn ends a connection on which nothing moves.
type movingConn struct{ net.Conn }

func (c movingConn) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(2 * stallTime)) // of idle ones too: they are made anew
	return c.Conn.Read(p)
}

func (c movingConn) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(stallTime))
	c.SetReadDeadline(time.Now().Add(2 * stallTime)) // an answer is being waited for since the connection was idle: a slow line takes long for a part
	return c.Conn.Write(p)
}

// Close ends the connections that are kept.
func (b *Bucket) Close() error {
	b.web.CloseIdleConnections()
	return nil
}

// Ready is nil when the bucket can be read, and is this database's or nobody's. It writes nothing.
func (b *Bucket) Ready(ctx context.Context) error {
	_, err := b.owner(ctx)
	return err
}

// owner reads whose blobs these are, "" for nobody's.
func (b *Bucket) owner(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stallTime)
	defer cancel()
	r, _, _, err := b.core.GetObject(ctx, b.cfg.Bucket, b.cfg.Prefix+ownerName, minio.GetObjectOptions{})
	if isCode(err, "NoSuchKey") {
		return "", nil
	}
	var id []byte
	if err == nil {
		id, err = io.ReadAll(io.LimitReader(r, 100))
		r.Close()
	}
	if err != nil {
		return "", fmt.Errorf("read whose bucket %s is: %w", b.cfg.Bucket, err)
	}
	return string(id), nil
}

// own puts the database's name into an empty bucket, once, and refuses another's. Of many who ask first each looks for himself: a server that
// hangs would else hold them one after the other.
func (b *Bucket) own(ctx context.Context) error {
	if b.owned.Load() || b.cfg.Owner == nil {
		return nil
	}
	want, err := b.cfg.Owner(ctx)
	if err != nil {
		return err
	}
	got, err := b.owner(ctx)
	if err == nil && got == "" {
		first := putOptions()
		first.SetMatchETagExcept("*") // of two databases that come at once, one
		put := func(o minio.PutObjectOptions) error {
			_, err := b.core.PutObject(ctx, b.cfg.Bucket, b.cfg.Prefix+ownerName, strings.NewReader(want), int64(len(want)), sum([]byte(want)), "", o)
			return err
		}
		if err = put(first); isCode(err, "NotImplemented") {
			err = put(putOptions())
		}
		if err == nil || isCode(err, "PreconditionFailed") {
			got, err = b.owner(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("note whose bucket it is: %w", err)
	}
	if got != want {
		return fmt.Errorf("%w: bucket %s holds the payloads of another database", ErrRefused, b.cfg.Bucket)
	}
	b.owned.Store(true)
	return nil
}

func isCode(err error, codes ...string) bool {
	got := minio.ToErrorResponse(err)
	for _, c := range codes {
		if err != nil && got.Code == c {
			return true
		}
	}
	return false
}

func counted(op string, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	bucketTotal.WithLabelValues(op, result).Inc()
}

func sum(p []byte) string {
	h := md5.Sum(p) // what S3 checks a transfer by
	return base64.StdEncoding.EncodeToString(h[:])
}

// Put stores all of r under id; when it returns nil the server has confirmed it whole.
func (b *Bucket) Put(ctx context.Context, id string, r io.Reader) (err error) {
	defer func() { counted("put", err) }()
	if !validID(id) {
		return errBlobID
	}
	if err := b.own(ctx); err != nil {
		return fmt.Errorf("put blob %s: %w", id, err)
	}
	buf := make([]byte, partSize)
	n, err := io.ReadFull(ctxReader{ctx, r}, buf)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		_, err = b.core.PutObject(ctx, b.cfg.Bucket, b.cfg.Prefix+id, bytes.NewReader(buf[:n]), int64(n), sum(buf[:n]), "", putOptions())
	case err == nil:
		err = b.parts(ctx, b.cfg.Prefix+id, buf, r)
	}
	if err != nil {
		return fmt.Errorf("put blob %s: %w", id, err)
	}
	return nil
}

func putOptions() minio.PutObjectOptions {
	return minio.PutObjectOptions{ContentType: "application/octet-stream"}
}

// parts stores what is longer than buf, which is full, piece by piece. There is no blob before the last request.
func (b *Bucket) parts(ctx context.Context, name string, buf []byte, r io.Reader) (err error) {
	upload, err := b.core.NewMultipartUpload(ctx, b.cfg.Bucket, name, putOptions())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
			defer cancel()
			b.core.AbortMultipartUpload(clean, b.cfg.Bucket, name, upload) // best effort: List sweeps it
		}
	}()
	var done []minio.CompletePart
	for n, last := len(buf), false; n > 0; {
		p, err := b.core.PutObjectPart(ctx, b.cfg.Bucket, name, upload, len(done)+1, bytes.NewReader(buf[:n]), int64(n), minio.PutObjectPartOptions{Md5Base64: sum(buf[:n])})
		if err != nil {
			return err
		}
		if done = append(done, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag}); last {
			break
		}
		n, err = io.ReadFull(ctxReader{ctx, r}, buf)
		if last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); err != nil && !last {
			return err
		}
	}
	_, err = b.core.CompleteMultipartUpload(ctx, b.cfg.Bucket, name, upload, done, putOptions())
	return err
}

// Delete removes blobs. What is not there is no error.
func (b *Bucket) Delete(ctx context.Context, ids ...string) (err error) {
	defer func() { counted("delete", err) }()
	for _, id := range ids {
		if !validID(id) {
			return errBlobID
		}
	}
	if len(ids) == 1 {
		if err := b.core.RemoveObject(ctx, b.cfg.Bucket, b.cfg.Prefix+ids[0], minio.RemoveObjectOptions{}); err != nil && !isCode(err, "NoSuchKey") {
			return fmt.Errorf("delete blob %s: %w", ids[0], err)
		}
		return nil
	}
	names := make(chan minio.ObjectInfo, len(ids))
	for _, id := range ids {
		names <- minio.ObjectInfo{Key: b.cfg.Prefix + id}
	}
	close(names)
	for e := range b.core.RemoveObjects(ctx, b.cfg.Bucket, names, minio.RemoveObjectsOptions{}) {
		if e.Err != nil && !isCode(e.Err, "NoSuchKey") {
			err = errors.Join(err, fmt.Errorf("delete blob %s: %w", strings.TrimPrefix(e.ObjectName, b.cfg.Prefix), e.Err))
		}
	}
	return err
}

// List gives the ids of all blobs to f, some at a time, and removes what Puts of dead processes began. What is put or deleted meanwhile may be
// among them or not.
func (b *Bucket) List(ctx context.Context, f func(ids []string) error) (err error) {
	defer func() { counted("list", err) }()
	b.owned.Store(false) // who lists deletes: both names are looked at anew
	if err := b.own(ctx); err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ids []string
	for o := range b.core.Client.ListObjects(ctx, b.cfg.Bucket, minio.ListObjectsOptions{Prefix: b.cfg.Prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("list blobs: %w", o.Err)
		}
		if id := strings.TrimPrefix(o.Key, b.cfg.Prefix); validID(id) {
			ids = append(ids, id)
		}
		if len(ids) == 500 {
			if err := f(ids); err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
			ids = nil
		}
	}
	if len(ids) > 0 {
		if err := f(ids); err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
	}
	for u := range b.core.ListIncompleteUploads(ctx, b.cfg.Bucket, b.cfg.Prefix, true) {
		if u.Err != nil {
			return fmt.Errorf("list unfinished blobs: %w", u.Err)
		}
		if time.Since(u.Initiated) > unfinishedLife && validID(strings.TrimPrefix(u.Key, b.cfg.Prefix)) {
			if err := b.core.AbortMultipartUpload(ctx, b.cfg.Bucket, u.Key, u.UploadID); err != nil && !isCode(err, "NoSuchUpload") {
				return fmt.Errorf("sweep unfinished blob: %w", err)
			}
		}
	}
	return nil
}
