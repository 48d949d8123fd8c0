package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What came of a refresh, as passerelle_directory_fetched_total counts it.
const (
	resultImported  = "imported"
	resultUnchanged = "unchanged"
	resultRefused   = "refused"  // the file is damaged, no extraction, too small, or older than the mirror
	resultDown      = "down"     // no connection, or it broke
	resultTimeout   = "timeout"  // too slow
	resultTLS       = "tls"      // the certificate is not one of the CA
	resultRedirect  = "redirect" // led to another host, or out of https
	resultStatus    = "status"   // an HTTP error
	resultCut       = "cut"      // ended before its length
	resultSize      = "size"     // larger than the limit
	resultLocal     = "local"    // our own disk, CA file or lock
)

var (
	errSilence  = errors.New("nothing came for too long")
	errTotal    = errors.New("it takes too long")
	errRedirect = errors.New("forged redirect refused")
	errTooLarge = errors.New("the file is larger than the limit")
	errOurs     = errors.New("here")
)

type statusError struct {
	code  int
	after time.Duration // Retry-After
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
}

func resultOf(err error) string {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	var timeout net.Error
	switch {
	case errors.As(err, new(*RefusedError)):
		return resultRefused
	case is(errRedirect):
		return resultRedirect
	case is(errTooLarge):
		return resultSize
	case errors.As(err, new(*statusError)):
		return resultStatus
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return resultTLS
	case is(errOurs, syscall.ENOSPC, fs.ErrPermission), errors.As(err, new(*fs.PathError)), errors.As(err, new(*os.LinkError)):
		return resultLocal
	case is(errSilence, errTotal, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return resultTimeout
	case is(io.ErrUnexpectedEOF):
		return resultCut
	}
	return resultDown
}

// plainly leaves the URL out of the error: it may hold a secret.
func plainly(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err
	}
	return err
}

func hostOf(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		return u.Host
	}
	return "a malformed address"
}

// fetcher is one refresh.
type fetcher struct {
	cfg    FetchConfig
	dir    string
	now    func() time.Time
	client *http.Client
	st     fetchState
}

// newFetcher gives a fetcher in any case; with an error it can note how it went and no more.
func newFetcher(cfg FetchConfig, dir string, now func() time.Time) (*fetcher, error) {
	f := &fetcher{cfg: cfg, dir: dir, now: now, st: loadFetchState(dir)}
	if f.st.Source != sourceKey(cfg.URL) { // what is known is of another file
		f.forgetPart()
		f.st = fetchState{Source: sourceKey(cfg.URL)}
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return f, fmt.Errorf("read the CA: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return f, fmt.Errorf("%w: no certificate in %s", errOurs, cfg.CA)
		}
	}
	dial := &net.Dialer{Timeout: min(30*time.Second, cfg.Silence)}
	f.client = &http.Client{CheckRedirect: f.follow, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext,
		TLSClientConfig: t, TLSHandshakeTimeout: dial.Timeout, ResponseHeaderTimeout: cfg.Silence,
		DisableCompression:     true, // ranges count bytes of the file
		MaxResponseHeaderBytes: 64 << 10}}
	return f, nil
}

// follow keeps to the host that the operator wrote, and to those he allowed beside it.
func (f *fetcher) follow(r *http.Request, via []*http.Request) error {
	if len(via) > 5 {
		return fmt.Errorf("%w: more than 5 in a row", errRedirect)
	}
	host := strings.ToLower(r.URL.Host)
	if r.URL.Scheme != "https" || r.URL.User != nil || host != strings.ToLower(via[0].URL.Host) && !slices.Contains(f.cfg.RedirectHosts, host) {
		return fmt.Errorf("%w: to %.8q, host %.80q", errRedirect, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

func (f *fetcher) request(ctx context.Context, method string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, f.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%w: directory.fetch.url must be https", errOurs)
	}
	r.Header.Set("User-Agent", "passerelle")
	return r, nil
}

// probe asks for the header alone. A server that does not do HEAD gives the empty version, and the GET tells.
func (f *fetcher) probe(ctx context.Context) (version, error) {
	r, err := f.request(ctx, http.MethodHead)
	if err != nil {
		return version{}, err
	}
	resp, err := f.client.Do(r)
	if err != nil {
		return version{}, cause(ctx, err)
	}
	resp.Body.Close()
	switch c := resp.StatusCode; {
	case c == http.StatusOK && resp.ContentLength > f.cfg.MaxSize:
		return version{}, fmt.Errorf("%w of %d bytes: %d", errTooLarge, f.cfg.MaxSize, resp.ContentLength)
	case c == http.StatusOK:
		return versionOf(resp), nil
	case c == http.StatusTooManyRequests, c >= 500 && c != http.StatusNotImplemented:
		return version{}, f.status(resp)
	}
	return version{}, nil
}

func (f *fetcher) status(r *http.Response) error {
	e := &statusError{code: r.StatusCode}
	after := r.Header.Get("Retry-After") // RFC 9110 section 10.2.3: seconds or a date
	if n, err := strconv.ParseUint(after, 10, 31); err == nil {
		e.after = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		e.after = t.Sub(f.now())
	}
	return e
}

// cause says in the place of "context canceled" who ended it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// download makes partName the whole file of one version, going on where a former one was cut. unchanged: the server says that it has what
// was taken last.
func (f *fetcher) download(ctx context.Context, probe version, mirrored bool) (v version, unchanged bool, err error) {
	fi, err := os.Stat(f.path(partName))
	from := f.st.PartSize
	if err != nil || fi.Size() < from || !f.st.Part.resumable() || probe != (version{}) && !f.st.Part.same(probe) {
		f.forgetPart()
		from = 0
	}
	if from > 0 && from == f.st.Part.Length && f.st.Part.same(probe) {
		return f.st.Part, false, nil // it was whole, and could not be taken then
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := f.get(ctx, from, mirrored)
	if err != nil {
		return version{}, false, cause(ctx, err)
	}
	defer resp.Body.Close()
	v = versionOf(resp)
	switch at, total, ranged := contentRange(resp); {
	case resp.StatusCode == http.StatusNotModified && mirrored && f.st.Last != (version{}):
		return version{}, true, nil
	case resp.StatusCode == http.StatusOK:
		from = 0
		if told := v; v.Length == 0 { // an answer that ends with its connection: what HEAD told shows where it was cut
			if told.Length = probe.Length; told.same(probe) {
				v = told
			}
		}
	case from > 0 && resp.StatusCode == http.StatusPartialContent && ranged && at == from && v.same(f.st.Part):
		v = f.st.Part
		v.Length = total
	case from > 0: // another content, another range, 416: the next look begins anew
		f.forgetPart()
		return version{}, false, fmt.Errorf("the rest of the file cannot be had: %w", f.status(resp))
	default:
		return version{}, false, f.status(resp)
	}
	if v.Length > f.cfg.MaxSize {
		return version{}, false, fmt.Errorf("%w of %d bytes: %d", errTooLarge, f.cfg.MaxSize, v.Length)
	}
	silence := time.AfterFunc(f.cfg.Silence, func() { cancel(errSilence) })
	defer silence.Stop()
	f.st.Part, f.st.PartSize = v, from
	err = f.store(resp.Body, func() { silence.Reset(f.cfg.Silence) })
	if err != nil && (!v.resumable() || errors.Is(err, errTooLarge)) {
		f.forgetPart()
	}
	if err != nil {
		return version{}, false, cause(ctx, err)
	}
	return f.st.Part, false, nil
}

func (f *fetcher) get(ctx context.Context, from int64, mirrored bool) (*http.Response, error) {
	r, err := f.request(ctx, http.MethodGet)
	if err != nil {
		return nil, err
	}
	if last := f.st.Last; mirrored { // RFC 9110 section 13.2.2: looked at before the range
		if last.ETag != "" {
			r.Header.Set("If-None-Match", last.ETag)
		}
		if last.LastModified != "" {
			r.Header.Set("If-Modified-Since", last.LastModified)
		}
	}
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if v := f.st.Part.ifRange(); v != "" {
			r.Header.Set("If-Range", v)
		}
	}
	return f.client.Do(r)
}

// syncEvery is how much of a download a power cut may lose.
const syncEvery = 8 << 20

// store writes the body behind what is there. What it notes as PartSize lies on the disk.
func (f *fetcher) store(body io.Reader, alive func()) (err error) {
	w, err := os.OpenFile(f.path(partName), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := giveToOwner(w.Name(), f.dir); err != nil {
		return err
	}
	at := f.st.PartSize
	if err := w.Truncate(at); err != nil {
		return err
	}
	settle := func() error {
		if err := w.Sync(); err != nil {
			return err
		}
		f.st.PartSize = at
		return f.save()
	}
	if err := settle(); err != nil { // the version is noted before its first byte
		return err
	}
	buf := make([]byte, 256<<10)
	for {
		n, rerr := body.Read(buf)
		if n > 0 {
			alive()
			if at+int64(n) > f.cfg.MaxSize {
				return fmt.Errorf("%w of %d bytes", errTooLarge, f.cfg.MaxSize)
			}
			if _, err := w.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
			if f.cfg.Progress != nil {
				f.cfg.Progress(Progress{Stage: "download", Done: at, Total: f.st.Part.Length})
			}
		}
		if rerr == io.EOF && f.st.Part.Length == 0 {
			f.st.Part.Length = at
		}
		if rerr == io.EOF && at != f.st.Part.Length {
			rerr = io.ErrUnexpectedEOF
		}
		if rerr != nil || at-f.st.PartSize >= syncEvery {
			if err := settle(); err != nil {
				return err
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
