package trust

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var errRedirect = errors.New("redirected to another host")

// offered gives the addresses at which a verified certificate's CA offers something by HTTP, four at most; LDAP and the rest are not asked.
func offered(urls []string) (out []string) {
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Scheme == "http" && u.Host != "" && u.User == nil && len(s) <= 1024 && len(out) < 4 {
			out = append(out, s)
		}
	}
	return out
}

// fetchList looks once for a new list. Whatever fails leaves the former one.
func (e *Evidence) fetchList(s *source, every time.Duration) {
	e.mu.Lock()
	old, etag, modified, signers := s.list, s.etag, s.modified, s.signers
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(e.ctx, listTime)
	defer cancel()
	got, err := e.get(ctx, s.url, etag, modified, old != nil)
	if got.large {
		defer func() { <-e.large }()
	}
	var list *revocations
	var signer *x509.Certificate
	if err == nil && got.raw != nil {
		if list, signer, err = parseCRL(got.raw, s.url, signers); err == nil {
			err = newer(list, old, e.cfg.Now())
		}
	}
	if e.ctx.Err() != nil {
		return // we are told to stop: nobody's fault
	}
	now := e.cfg.Now()
	if err == nil && list != nil {
		if kerr := e.save(s.url, got, signer); kerr != nil {
			e.cfg.Log.Error("revocation list is not kept over a restart", "list", s.url, "err", kerr)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		s.failed(now, err)
		mFetched.WithLabelValues("failed").Inc()
		if s.failures == 1 || s.failures%12 == 0 { // about once an hour
			e.cfg.Log.Warn("no new revocation list, what there is counts as long as it is good", "list", s.url, "err", err, "next", s.next)
		}
		return
	}
	if s.failures > 0 {
		e.cfg.Log.Info("revocation list: its source is back", "list", s.url)
	}
	s.patience = patience{}
	if list != nil {
		s.list, s.etag, s.modified = list, got.etag, got.modified
		e.publish()
		mFetched.WithLabelValues("new").Inc()
	} else {
		mFetched.WithLabelValues("unchanged").Inc()
	}
	s.next = now.Add(every)
	// Ahead of the end its successor is looked for more often: from a tenth of its life before.
	if ahead := s.list.until.Add(-s.list.until.Sub(s.list.from) / 10); ahead.Before(s.next) {
		s.next = now.Add(min(every, longPause))
		if ahead.After(s.next) {
			s.next = ahead
		}
	}
	mNextUpdate.WithLabelValues(s.url).Set(float64(s.list.until.Unix()))
}

// newer refuses a list that is out of date as it comes, and one older than what we hold: a grace is for what was good when it came. Another
// CA's takes the place of none that is still good: they come over HTTP, and whoever stands in the way has the good lists of all.
func newer(list, old *revocations, now time.Time) error {
	if err := list.fresh(now, 0); err != nil {
		return err
	}
	switch same := old != nil && string(list.issuer) == string(old.issuer); {
	case old != nil && !same && old.fresh(now, 0) == nil:
		return fmt.Errorf("CRL %s is of another issuer than the one that we hold", list.name)
	case same && list.from.Before(old.from):
		return fmt.Errorf("CRL %s is older than the one that we hold", list.name)
	}
	return nil
}

// fetched is an answer; raw is nil where nothing changed.
type fetched struct {
	raw            []byte
	etag, modified string
	large          bool // it holds the place in Evidence.large
}

// smallList is what a list may have before it waits for its turn, in octets: a CA's list of organisations has some hundred thousand.
const smallList = 1 << 20

func (e *Evidence) get(ctx context.Context, from, etag, modified string, conditional bool) (f fetched, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return f, err
	}
	if conditional && etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	if conditional && modified != "" {
		r.Header.Set("If-Modified-Since", modified)
	}
	c := newClient()
	defer c.CloseIdleConnections()
	resp, err := c.Do(r)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return f, nil
	case resp.StatusCode != http.StatusOK:
		return f, fmt.Errorf("GET %s: status %d", from, resp.StatusCode)
	case resp.ContentLength > maxCRL:
		return f, fmt.Errorf("GET %s: over %d octets", from, maxCRL)
	}
	f = fetched{etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified")}
	body := bufio.NewReaderSize(io.LimitReader(resp.Body, maxCRL+1), smallList)
	if _, err = body.Peek(smallList); err == nil { // there is more
		select {
		case e.large <- struct{}{}:
			f.large = true
		case <-ctx.Done():
			return f, fmt.Errorf("GET %s: another large list is being read: %w", from, ctx.Err())
		}
	}
	if f.raw, err = io.ReadAll(body); err != nil {
		return f, fmt.Errorf("GET %s: %w", from, err)
	}
	if len(f.raw) > maxCRL {
		return f, fmt.Errorf("GET %s: over %d octets", from, maxCRL)
	}
	return f, nil
}

// keptList is what stands beside a list in the folder.
type keptList struct {
	URL      string    `json:"url"`
	ETag     string    `json:"etag,omitempty"`
	Modified string    `json:"modified,omitempty"`
	Signer   []byte    `json:"signer"` // the certificate of the CA that signed it, DER
	Used     time.Time `json:"used"`
	SHA256   []byte    `json:"sha256"` // of the list: the two are one
}

func (e *Evidence) path(url, ext string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(e.cfg.Dir, hex.EncodeToString(sum[:12])+ext)
}

// save puts a list into the folder, durable before it is counted on.
func (e *Evidence) save(url string, f fetched, signer *x509.Certificate) error {
	if e.cfg.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(e.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("keep revocation list: %w", err)
	}
	sum := sha256.Sum256(f.raw)
	meta, err := json.Marshal(keptList{URL: url, ETag: f.etag, Modified: f.modified, Signer: signer.Raw, Used: e.cfg.Now().UTC(), SHA256: sum[:]})
	if err != nil {
		return err
	}
	if err := replaceFile(e.path(url, ".crl"), f.raw); err != nil {
		return fmt.Errorf("keep revocation list: %w", err)
	}
	if err := replaceFile(e.path(url, ".json"), meta); err != nil {
		return fmt.Errorf("keep revocation list: %w", err)
	}
	return nil
}

func (e *Evidence) forget(s *source) {
	mNextUpdate.DeleteLabelValues(s.url)
	if e.cfg.Dir != "" {
		os.Remove(e.path(s.url, ".json"))
		os.Remove(e.path(s.url, ".crl"))
	}
}

// restore reads the folder; each list's signature is checked again.
func (e *Evidence) restore() {
	if e.cfg.Dir == "" {
		return
	}
	parts, _ := filepath.Glob(filepath.Join(e.cfg.Dir, ".new-*")) // of a process that was killed; one that lives needs seconds
	for _, f := range parts {
		if fi, err := os.Stat(f); err == nil && time.Since(fi.ModTime()) > time.Hour {
			os.Remove(f)
		}
	}
	files, _ := filepath.Glob(filepath.Join(e.cfg.Dir, "*.json"))
	for _, f := range files {
		s, err := e.restoreList(f)
		if err != nil {
			e.cfg.Log.Warn("a kept revocation list is not taken, it is fetched again", "file", filepath.Base(f), "err", err)
			continue
		}
		if len(e.sources) < maxSources {
			e.sources[s.url] = s
			mNextUpdate.WithLabelValues(s.url).Set(float64(s.list.until.Unix()))
		}
	}
	e.publish()
}

func (e *Evidence) restoreList(file string) (*source, error) {
	meta, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var k keptList
	if err := json.Unmarshal(meta, &k); err != nil {
		return nil, err
	}
	signer, err := x509.ParseCertificate(k.Signer)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".crl")
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); !bytes.Equal(sum[:], k.SHA256) || e.path(k.URL, ".json") != file {
		return nil, errors.New("it is not what was kept")
	}
	list, _, err := parseCRL(raw, k.URL, []*x509.Certificate{signer})
	if err != nil {
		return nil, err
	}
	return &source{url: k.URL, signers: []*x509.Certificate{signer}, list: list, etag: k.ETag, modified: k.Modified, used: k.Used}, nil
}

// replaceFile writes a file of our own user's in the place of the former one, durable when it returns.
func replaceFile(path string, p []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(p)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
