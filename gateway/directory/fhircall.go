package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	fhirCount        = "10"    // matches on a page; one is what an address has
	maxFHIRPage      = 1 << 20 // bytes of one page, unpacked; 10 matches with their inclusions have under 300 kB
	maxFHIRValues    = 1 << 14 // commas of one page: what bounds the memory that it takes once it is read
	maxFHIRPages     = 20
	maxFHIRResources = 1000
	maxFHIRTries     = 3
	maxFHIRPause     = 15 * time.Minute // of what Retry-After may ask: a forged century is no reason to be silent for one
)

// fhirSearch is a search on one type of resource.
type fhirSearch struct {
	resource string
	params   url.Values
}

// fhirAnswer is all pages of a search.
type fhirAnswer struct {
	matches  []*fhirResource
	missing  int                      // matches that the server counted and did not give
	included map[string]*fhirResource // by "Practitioner/003-1": what the matches refer to
}

// search asks and follows the server's own next links to their end. No error text of it holds what was searched for.
func (f *fhir) search(ctx context.Context, s fhirSearch) (*fhirAnswer, error) {
	ans := &fhirAnswer{included: make(map[string]*fhirResource)}
	seen := make(map[string]bool) // resources, which a page may repeat, and pages, which must not
	body, err := f.first(ctx, s)
	announced, given := 0, 0
	for pages := 1; ; pages++ {
		if err != nil {
			return nil, fmt.Errorf("fhir: search %s: %w", s.resource, err)
		}
		page, err := parseBundle(body, s.resource)
		if err != nil {
			return nil, fmt.Errorf("fhir: search %s: %w", s.resource, err)
		}
		announced, given = max(announced, page.total), given+len(page.matches)
		for _, r := range page.matches {
			if r.ID == "" || !seen[r.ref()] {
				seen[r.ref()] = true
				ans.matches = append(ans.matches, r)
			}
		}
		for _, r := range page.included {
			ans.included[r.ref()] = r
		}
		if page.next == "" {
			ans.missing = max(0, announced-given)
			return ans, nil
		}
		next, err := f.follow(page.next)
		switch {
		case err != nil:
			return nil, fmt.Errorf("fhir: search %s: %w", s.resource, err)
		case seen[next]:
			return nil, fmt.Errorf("fhir: search %s: its pages go round", s.resource)
		case pages == maxFHIRPages || len(ans.matches)+len(ans.included) > maxFHIRResources:
			return nil, fmt.Errorf("fhir: search %s: more than %d pages or %d resources", s.resource, maxFHIRPages, maxFHIRResources)
		}
		seen[next] = true
		body, err = f.call(ctx, http.MethodGet, next, "")
		if err != nil {
			return nil, fmt.Errorf("fhir: search %s: page %d: %w", s.resource, pages+1, err)
		}
	}
}

// first gets the first page: by POST, so that the address stands in no URL and in no proxy's log; by GET where the server has no POST.
func (f *fhir) first(ctx context.Context, s fhirSearch) ([]byte, error) {
	s.params.Set("_count", fhirCount)
	at, form := f.base.String()+"/"+s.resource, s.params.Encode()
	if !f.byGET.Load() {
		body, err := f.call(ctx, http.MethodPost, at+"/_search", form)
		var st fhirStatus
		if !errors.As(err, &st) || st != http.StatusNotFound && st != http.StatusMethodNotAllowed && st != http.StatusNotImplemented {
			return body, err
		}
	}
	body, err := f.call(ctx, http.MethodGet, at+"?"+form, "")
	if err == nil && !f.byGET.Swap(true) {
		f.log.Warn("directory: the FHIR server takes no search by POST; addresses stand in the URLs that it is asked")
	}
	return body, err
}

// follow gives the address of the next page. The key goes with the call: to the server that was configured and to no other.
func (f *fhir) follow(link string) (string, error) {
	u, err := f.base.Parse(link)
	if err != nil {
		return "", errors.New("its next link is no URL")
	}
	if u.Scheme != f.base.Scheme || !strings.EqualFold(u.Hostname(), f.base.Hostname()) || portOf(u) != portOf(f.base) || u.User != nil || u.Opaque != "" {
		return "", errors.New("its next link leads to another server and was not followed")
	}
	u.Fragment = ""
	return u.String(), nil
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// fhirStatus is an HTTP status that is no answer.
type fhirStatus int

func (s fhirStatus) Error() string {
	if s == http.StatusUnauthorized || s == http.StatusForbidden {
		return fmt.Sprintf("the service refuses the API key (%d)", int(s))
	}
	return fmt.Sprintf("the service answered %d", int(s))
}

// call makes one call and repeats it while the fault may pass and ctx has time. form is posted; with GET it is "".
func (f *fhir) call(ctx context.Context, method, at, form string) ([]byte, error) {
	for try := 1; ; try++ {
		if err := f.limit.wait(ctx); err != nil {
			fhirCalls.WithLabelValues("held").Inc()
			return nil, err
		}
		body, again, err := f.once(ctx, method, at, form)
		if err == nil {
			fhirCalls.WithLabelValues("answered").Inc()
			return body, nil
		}
		fhirCalls.WithLabelValues("failed").Inc()
		if again == 0 && try < maxFHIRTries {
			again = time.Duration(float64(250*time.Millisecond<<try) * (0.5 + rand.Float64())) // gateways of one clinic must not return together
		}
		if again < 0 || try == maxFHIRTries || ctx.Err() != nil {
			return nil, err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= again {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(again):
		}
	}
}

// once makes one call. again tells when it may be repeated: 0 is soon, less is never.
func (f *fhir) once(ctx context.Context, method, at, form string) (body []byte, again time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form))
	if err != nil {
		return nil, -1, errors.New("the URL is none")
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "application/fhir+json")
	req.Header.Set("User-Agent", "passerelle")
	if f.key != "" {
		req.Header.Set("ESANTE-API-KEY", string(f.key))
	}
	req.Header["Idempotency-Key"] = nil // net/http: a search by POST may be sent again over a fresh connection; the header is not sent
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, lasting(err), bare(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxFHIRPage+1))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		again = retryAfterOf(resp.Header.Get("Retry-After"), time.Now())
		f.limit.pause(again)
		return nil, again, fhirStatus(resp.StatusCode)
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return nil, 0, fhirStatus(resp.StatusCode)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, -1, fmt.Errorf("the service redirects (%d) and was not followed", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, -1, fhirStatus(resp.StatusCode)
	case err != nil:
		return nil, 0, fmt.Errorf("the answer breaks off: %w", bare(err))
	case len(body) > maxFHIRPage:
		return nil, -1, fmt.Errorf("the answer is larger than %d MiB", maxFHIRPage>>20)
	}
	// A portal's or a proxy's page comes with 200 as well.
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != "application/fhir+json" && t != "application/json" {
		return nil, -1, errors.New("the answer is no FHIR (its Content-Type is not application/fhir+json)")
	}
	return body, 0, nil
}

// bare leaves out the URL that net/http writes into its errors: it may hold the address.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// lasting tells whether a fault of the connection may pass. An untrusted certificate does not.
func lasting(err error) time.Duration {
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	if errors.As(err, &cert) || errors.As(err, &dns) && dns.IsNotFound {
		return -1
	}
	return 0
}

// retryAfterOf reads a Retry-After header, seconds or a date (RFC 9110 section 10.2.3), as 1 s to maxFHIRPause; 1 s where it says nothing.
func retryAfterOf(s string, now time.Time) time.Duration {
	d := time.Second
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, time.Second), maxFHIRPause)
}
