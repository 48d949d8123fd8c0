package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	maxOCSP    = 64 << 10
	maxAnswers = 4096
	// shortAnswer is how long an answer counts that does not say until when: its responder always has newer ones (RFC 6960 section 4.2.2.1).
	shortAnswer = time.Hour
)

// answerKey names a certificate by its issuer's name and key and its number, as OCSP does.
type answerKey [sha256.Size]byte

func keyOf(cert, issuer *x509.Certificate) (k answerKey) {
	h := sha256.New()
	fmt.Fprintf(h, "%x %x %x", issuer.RawSubject, issuer.RawSubjectPublicKeyInfo, cert.SerialNumber)
	h.Sum(k[:0])
	return k
}

// answer is a responder's word, its signature found good.
type answer struct {
	revoked     bool
	from, until time.Time
	asked       time.Time // when it came
}

// due tells that a successor may be looked for: half of its life has passed, or an hour.
func (a *answer) due(now time.Time) bool {
	return now.Sub(a.asked) >= min(time.Hour, a.until.Sub(a.asked)/2)
}

// readAnswer checks a response about a certificate, and that it speaks of now. No nonce is asked for, as most responders sign in advance (RFC 9654
// section 3): what bounds a replay is the answer's own time and maxAge. The signer is the issuer itself or who it made a responder
// (RFC 6960 section 4.2.2.2).
func readAnswer(raw []byte, cert, issuer *x509.Certificate, now time.Time, maxAge time.Duration, lists []*revocations) (*answer, error) {
	r, err := ocsp.ParseResponseForCert(raw, cert, nil) // checks the signature by the certificate inside, if there is one
	if err != nil {
		return nil, fmt.Errorf("read OCSP response: %w", err)
	}
	if err := aboutIssuer(raw, cert.SerialNumber, issuer); err != nil {
		return nil, fmt.Errorf("read OCSP response: %w", err)
	}
	if err := soundSignature(r.SignatureAlgorithm); err != nil {
		return nil, fmt.Errorf("read OCSP response: %w", err)
	}
	if by := r.Certificate; by == nil || bytes.Equal(by.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		err = r.CheckSignatureFrom(issuer)
	} else {
		err = responder(by, issuer, now, lists)
	}
	if err != nil {
		return nil, fmt.Errorf("OCSP response is not by the issuer: %w", err)
	}
	a := &answer{revoked: r.Status == ocsp.Revoked, from: r.ThisUpdate, until: r.NextUpdate, asked: now}
	if a.until.IsZero() {
		a.until = a.from.Add(shortAnswer)
	}
	if end := a.from.Add(maxAge); maxAge > 0 && end.Before(a.until) {
		a.until = end
	}
	switch {
	case a.from.After(now.Add(skew)):
		return nil, errors.New("OCSP response is of the future")
	case now.After(a.until):
		return nil, fmt.Errorf("OCSP response was to be renewed by %s", a.until.UTC().Format(time.RFC3339))
	case r.Status != ocsp.Good && r.Status != ocsp.Revoked:
		return nil, errors.New("OCSP responder does not know the certificate")
	}
	return a, nil
}

// responder checks a certificate that answers for its issuer. Its own revocation is looked for in the lists that are there; it is not asked for, as
// such certificates are short-lived or bear the issuer's word that they are not looked up (RFC 6960 section 4.2.2.2.1).
func responder(by, issuer *x509.Certificate, now time.Time, lists []*revocations) error {
	var v verdict
	v.ask(lists, by, issuer, now, 0)
	switch {
	case !bytes.Equal(by.RawIssuer, issuer.RawSubject):
		return errors.New("its signer has another issuer")
	case !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("its signer is no OCSP responder")
	case now.Before(by.NotBefore) || now.After(by.NotAfter):
		return errors.New("its signer's certificate is not valid now")
	case v.revoked():
		return fmt.Errorf("its signer: %w", v.err)
	}
	if err := strong(by); err != nil {
		return err
	}
	if err := soundSignature(by.SignatureAlgorithm); err != nil {
		return err
	}
	return issuer.CheckSignature(by.SignatureAlgorithm, by.RawTBSCertificate, by.Signature)
}

// aboutIssuer: the library compares serial numbers alone, and a responder may speak for several CAs.
func aboutIssuer(raw []byte, serial *big.Int, issuer *x509.Certificate) error {
	var outer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			Raw  []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	var basic struct {
		Data struct {
			Version     int `asn1:"optional,default:0,explicit,tag:0"`
			ResponderID asn1.RawValue
			ProducedAt  time.Time `asn1:"generalized"`
			Responses   []struct {
				ID struct {
					Hash     pkix.AlgorithmIdentifier
					Name     []byte
					Key      []byte
					SerialNo *big.Int
				}
				Status asn1.RawValue
				From   time.Time        `asn1:"generalized"`
				Until  time.Time        `asn1:"generalized,explicit,tag:0,optional"`
				Ext    []pkix.Extension `asn1:"explicit,tag:1,optional"`
			}
			Ext []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(raw, &outer); err != nil {
		return err
	}
	if _, err := asn1.Unmarshal(outer.Bytes.Raw, &basic); err != nil {
		return err
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return err
	}
	for _, r := range basic.Data.Responses {
		if r.ID.SerialNo.Cmp(serial) != 0 {
			continue
		}
		i := slices.IndexFunc(idHashes, func(h idHash) bool { return r.ID.Hash.Algorithm.Equal(h.oid) })
		if i < 0 || !bytes.Equal(r.ID.Name, idHashes[i].sum(issuer.RawSubject)) || !bytes.Equal(r.ID.Key, idHashes[i].sum(spki.Key.RightAlign())) {
			return errors.New("it speaks of another issuer's certificate")
		}
		return nil // the first is the one that the library takes
	}
	return errors.New("it does not speak of the certificate")
}

type idHash struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}

func (h idHash) sum(p []byte) []byte {
	w := h.hash.New()
	w.Write(p)
	return w.Sum(nil)
}

// idHashes name an issuer; nothing is proved by them, so SHA-1, which everybody uses there, will do.
var idHashes = []idHash{{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1}, {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384}, {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512}}

// find gives the answer about a certificate, nil where there is none.
func (e *Evidence) find(k answerKey) *answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answers[k]
}

// keepAnswer keeps an answer unless a newer one is there. A full store is emptied: it is filled again at one question a peer.
func (e *Evidence) keepAnswer(k answerKey, a *answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.answers[k]
	if old != nil && (a.from.Before(old.from) || a.from.Equal(old.from) && old.revoked) {
		return
	}
	if len(e.answers) >= maxAnswers {
		clear(e.answers)
	}
	e.answers[k] = a
	if a.revoked && (old == nil || !old.revoked) {
		e.gen.Add(1)
	}
}

// wantAnswer has a responder asked about a certificate, and gives what is closed when that has ended.
func (e *Evidence) wantAnswer(url string, cert, issuer *x509.Certificate, r Revocation, files []*revocations) <-chan struct{} {
	k := keyOf(cert, issuer)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.asked[url]
	if p == nil {
		if len(e.asked) >= maxSources {
			return landed
		}
		p = &patience{}
		e.asked[url] = p
	}
	if e.cfg.Now().Before(p.next) {
		return landed
	}
	return e.flight(k, func() {
		ctx, cancel := context.WithTimeout(e.ctx, max(r.Timeout, 10*time.Second))
		defer cancel()
		raw, err := post(ctx, url, cert, issuer)
		answered := err == nil
		var a *answer
		if err == nil {
			a, err = readAnswer(raw, cert, issuer, e.cfg.Now(), r.MaxAge, slices.Concat(files, e.counting(r)))
		}
		if e.ctx.Err() != nil {
			return
		}
		if err == nil {
			e.keepAnswer(k, a)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		switch {
		case err == nil && a.revoked:
			mOCSP.WithLabelValues("revoked").Inc()
			*p = patience{}
		case err == nil:
			mOCSP.WithLabelValues("good").Inc()
			*p = patience{}
		default:
			mOCSP.WithLabelValues("failed").Inc()
			if p.failed(e.cfg.Now(), err); answered { // what it says of one certificate holds up no other for long
				p.failures, p.next = 1, e.cfg.Now().Add(time.Second)
			}
			if p.failures == 1 || p.failures%12 == 0 {
				e.cfg.Log.Warn("OCSP gave no answer", "responder", url, "serial", fmt.Sprintf("%x", cert.SerialNumber), "err", err)
			}
		}
	})
}

// faultOf says why responders gave nothing.
func (e *Evidence) faultOf(urls []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range urls {
		if p := e.asked[u]; p != nil && p.fault != nil {
			return p.fault
		}
	}
	return nil
}

func post(ctx context.Context, to string, cert, issuer *x509.Certificate) ([]byte, error) {
	q, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return nil, fmt.Errorf("make OCSP request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(q))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	r.Header.Set("Accept", "application/ocsp-response")
	c := newClient()
	defer c.CloseIdleConnections()
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("POST %s: status %d", to, resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSP+1))
	if err == nil && len(raw) > maxOCSP {
		err = fmt.Errorf("over %d octets", maxOCSP)
	}
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", to, err)
	}
	return raw, nil
}
