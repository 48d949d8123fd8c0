package trust

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// What came of a look, as passerelle_trust_list_fetched_total counts it.
const (
	listTaken     = "taken"
	listUnchanged = "unchanged"
	listWaiting   = "waiting"  // a good list that lost too many domains
	listRefused   = "refused"  // signature, shape or date
	listDown      = "down"     // no connection, or it broke
	listTimeout   = "timeout"  // too slow
	listTLS       = "tls"      // the host's certificate is not one of its CA
	listRedirect  = "redirect" // led to another host, or out of https
	listStatus    = "status"   // an HTTP error
	listSize      = "size"     // larger than the limit
	listLocal     = "local"    // our own disk, files or lock
)

// listError says what a fault counts as.
type listError struct {
	result string
	after  time.Duration // Retry-After
	err    error
}

func (e *listError) Error() string { return e.err.Error() }
func (e *listError) Unwrap() error { return e.err }

func refused(format string, args ...any) error {
	return &listError{result: listRefused, err: fmt.Errorf(format, args...)}
}

func local(err error) error { return &listError{result: listLocal, err: err} }

// RefreshList looks for a newer list now and takes it, and says what came of it. Whatever goes wrong leaves the list in force as it is,
// and is told to the log and in WhiteList.
func (s *Space) RefreshList(ctx context.Context) (result string, err error) {
	l := s.lister
	if l == nil {
		return "", ErrNoWhiteList
	}
	unlock, err := l.lock()
	if err != nil {
		return listLocal, err
	}
	defer unlock()
	l.adopt()
	st := l.loadState()
	if st.Source != sourceKey(l.cfg.URL) { // what is known is of another list
		st = keptState{Source: sourceKey(l.cfg.URL), Of: st.Of}
		os.Remove(l.path(waitingName))
	}
	result, err = l.look(ctx, &st)
	if err != nil && ctx.Err() != nil { // we were told to stop: nobody's fault
		return result, fmt.Errorf("refresh the white list: %w", context.Cause(ctx))
	}
	if err != nil {
		result = resultOf(err)
		err = fmt.Errorf("refresh the white list from %s: %w", hostOf(l.cfg.URL), plainly(err))
	}
	fetchedLists.WithLabelValues(result).Inc()
	l.settle(&st, err)
	log := s.cfg.Log
	switch {
	case err != nil:
		log.Error("white list: no newer one, the one in force stays", "result", result, "err", err, "next", st.Next)
	case result == listWaiting:
		log.Error("white list: a list that lost many domains waits for `passerelle whitelist accept`", "date", st.Waiting.Date, "removed", st.Waiting.Lost, "added", st.Waiting.Added)
	default:
		log.Info("white list: looked for a newer one", "result", result, "next", st.Next)
	}
	return result, errors.Join(err, l.saveState(st))
}

// KeepListFresh looks when it is due, until ctx ends. current gives the Space in force, nil where there is none.
func KeepListFresh(ctx context.Context, current func() *Space) {
	tick := time.NewTicker(listLook)
	defer tick.Stop()
	for {
		if s := current(); s != nil && s.lister != nil {
			liveList.Store(s)
			s.lister.adopt()
			if s.lister.due() {
				tried := s.lister.tried()
				s.RefreshList(ctx) // it tells its faults
				s.lister.spare(tried)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const (
	listLook  = time.Second
	listRetry = time.Minute // the first wait after a failure; it doubles
	listNoise = 0.1         // every operator of the country asks one host: each at a time of its own
)

func (l *lister) tried() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Tried
}

func (l *lister) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.space.cfg.Now()
	if l.st.Source != sourceKey(l.cfg.URL) || l.st.Tried.After(now) { // never tried, or the clock was set back
		return true
	}
	return !now.Before(l.st.Next) || l.st.Failures == 0 && now.Sub(l.st.Tried) >= l.cfg.Every*11/10 // "every" was made shorter
}

// spare keeps a look that could not even be noted (locked, no room) from being repeated each second.
func (l *lister) spare(tried time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.st.Tried.Equal(tried) || l.st.Source != sourceKey(l.cfg.URL) {
		now := l.space.cfg.Now()
		l.st.Source, l.st.Tried, l.st.Next = sourceKey(l.cfg.URL), now, now.Add(listRetry)
	}
}

// settle notes how it went and when to look again.
func (l *lister) settle(st *keptState, err error) {
	now := l.space.cfg.Now()
	st.Tried = now
	wait := l.cfg.Every
	if err == nil {
		st.Checked, st.Failures, st.Fault = now, 0, ""
	} else {
		st.Fault, st.Failed = err.Error(), now
		st.Failures++
		wait = min(l.cfg.Every, listRetry<<min(st.Failures-1, 12))
		if e := (*listError)(nil); errors.As(err, &e) {
			wait = max(wait, min(e.after, 24*time.Hour))
		}
	}
	st.Next = now.Add(wait + time.Duration(listNoise*rand.Float64()*float64(wait)))
}

// look downloads, verifies and decides.
func (l *lister) look(ctx context.Context, st *keptState) (string, error) {
	defer os.Remove(l.path(listPart)) // what is not taken is not kept
	got, unchanged, err := l.download(ctx, st)
	if err != nil || unchanged {
		return listUnchanged, err
	}
	list, err := l.read(listPart)
	if err != nil {
		return "", &listError{result: listRefused, err: err}
	}
	same, err := l.newer(list, st)
	if err != nil {
		return "", err
	}
	st.ETag, st.LastModified = got.Get("ETag"), got.Get("Last-Modified")
	if same {
		return listUnchanged, nil
	}
	old := l.force.Load()
	added, lost := list.against(old)
	had, gone := st.Domains, st.Domains-len(list.names) // of a list in force that cannot be verified any more its size is known
	if old != nil {
		had, gone = len(old.names), len(lost)
	}
	if float64(gone) > l.cfg.Shrink*float64(had) {
		if err := os.Rename(l.path(listPart), l.path(waitingName)); err != nil {
			return "", local(err)
		}
		st.Waiting = &WaitingList{Date: list.date, Domains: len(list.names), Added: len(added), Lost: gone}
		return listWaiting, nil
	}
	if err := l.keep(listPart, list, st); err != nil {
		return "", local(err)
	}
	return listTaken, nil
}

// newer holds a list against the one in force, and against the newest that ever was: none goes back, and one date has one content.
// same: it is the one in force.
func (l *lister) newer(list *whiteList, st *keptState) (same bool, err error) {
	date, digest := st.Newest, st.Digest
	if old := l.force.Load(); old != nil && !old.date.Before(date) {
		date, digest = old.date, hex.EncodeToString(old.digest[:])
	}
	switch {
	case list.date.Before(date):
		return false, refused("the list of %s is older than that of %s, which was in force", list.date.Format(time.RFC3339), date.Format(time.RFC3339))
	case !list.date.Equal(date):
		return false, nil
	case digest != hex.EncodeToString(list.digest[:]):
		return false, refused("another list of the same date %s was in force", date.Format(time.RFC3339))
	}
	return l.noted(st), nil
}

// noted tells whether the list in force is the one that the folder's note speaks of: another process may have taken a newer one that could
// not be verified here yet.
func (l *lister) noted(st *keptState) bool {
	old := l.force.Load()
	return old != nil && hex.EncodeToString(old.digest[:]) == st.Digest
}

// download writes the list into listPart, on the disk. unchanged: the server has what is in force.
func (l *lister) download(ctx context.Context, st *keptState) (h http.Header, unchanged bool, err error) {
	client, err := l.client()
	if err != nil {
		return nil, false, err
	}
	defer client.CloseIdleConnections()
	ctx, end := context.WithTimeoutCause(ctx, l.cfg.Total, &listError{result: listTimeout, err: errors.New("it takes too long")})
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(l.cfg.Silence, func() {
		cancel(&listError{result: listTimeout, err: errors.New("nothing came for too long")})
	})
	defer silence.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.cfg.URL, nil)
	if err != nil || r.URL.Scheme != "https" {
		return nil, false, local(errors.New("trust.white_list.url must be https"))
	}
	r.Header.Set("User-Agent", "passerelle")
	conditional := l.noted(st) // else any answer is wanted
	if conditional {
		if st.ETag != "" {
			r.Header.Set("If-None-Match", st.ETag)
		}
		if st.LastModified != "" {
			r.Header.Set("If-Modified-Since", st.LastModified)
		}
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, false, cause(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return nil, true, nil
	case resp.StatusCode != http.StatusOK:
		return nil, false, l.status(resp)
	case resp.ContentLength > maxSigned:
		return nil, false, tooLarge()
	case resp.Header.Get("Content-Encoding") != "":
		return nil, false, refused("the server compresses what was asked for as it is")
	}
	f, err := l.create(listPart)
	if err != nil {
		return nil, false, local(err)
	}
	defer f.Close()
	n, err := io.Copy(f, &live{io.LimitReader(resp.Body, maxSigned+1), func() { silence.Reset(l.cfg.Silence) }})
	switch {
	case err != nil, ctx.Err() != nil: // a server may still end its answer well while we give it up
		return nil, false, cause(ctx, err)
	case n > maxSigned:
		return nil, false, tooLarge()
	}
	if err := f.Sync(); err != nil {
		return nil, false, local(err)
	}
	return resp.Header, false, nil
}

// live tells that something came.
type live struct {
	r     io.Reader
	alive func()
}

func (l *live) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if n > 0 {
		l.alive()
	}
	return n, err
}

func tooLarge() error {
	return &listError{result: listSize, err: fmt.Errorf("the list is larger than %d octets", maxSigned)}
}

func (l *lister) status(r *http.Response) error {
	e := &listError{result: listStatus, err: fmt.Errorf("the server answers %d %s", r.StatusCode, http.StatusText(r.StatusCode))}
	after := r.Header.Get("Retry-After") // RFC 9110 section 10.2.3: seconds or a date
	if n, err := strconv.ParseUint(after, 10, 31); err == nil {
		e.after = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		e.after = t.Sub(l.space.cfg.Now())
	}
	return e
}

// client believes the CA of the host alone and follows to the same host alone.
func (l *lister) client() (*http.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.cfg.CA != "" {
		cas, err := readCerts(l.cfg.CA)
		if err != nil {
			return nil, local(err)
		}
		t.RootCAs, _ = pools(cas)
	}
	dial := &net.Dialer{Timeout: min(30*time.Second, l.cfg.Silence)}
	follow := func(r *http.Request, via []*http.Request) error {
		if len(via) > 5 || r.URL.Scheme != "https" || r.URL.User != nil || !strings.EqualFold(r.URL.Host, via[0].URL.Host) {
			return &listError{result: listRedirect, err: fmt.Errorf("forged redirect refused: to %.8q, host %.80q", r.URL.Scheme, r.URL.Host)}
		}
		return nil
	}
	return &http.Client{CheckRedirect: follow, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, TLSClientConfig: t,
		TLSHandshakeTimeout: dial.Timeout, ResponseHeaderTimeout: l.cfg.Silence, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}}, nil
}

// cause says in the place of "context canceled" who ended it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func resultOf(err error) string {
	var e *listError
	var timeout net.Error
	switch {
	case errors.As(err, &e):
		return e.result
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return listTLS
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(*os.LinkError)):
		return listLocal
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return listTimeout
	}
	return listDown
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

func sourceKey(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}
