package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"passerelle/gateway/message"
)

// FHIRConfig is what a client of the Annuaire Santé FHIR API (v2) works from.
type FHIRConfig struct {
	URL    string // the base, https://gateway.api.esante.gouv.fr/fhir/v2; "": no FHIR. http for loopback alone
	APIKey Secret // the header ESANTE-API-KEY
	CA     string // PEM file that takes the place of the system's roots; "" if the server's certificate is public
}

// maxFHIRQuestion is the longest that one question takes, all its calls and repeats together: the service's own limit for one call. The mail's way
// sets a shorter one on its context.
const maxFHIRQuestion = 30 * time.Second

// fhir asks the national directory about one address. It is safe for concurrent use.
type fhir struct {
	base   *url.URL // without a slash at its end
	key    Secret
	limit  *fhirLimit
	client *http.Client
	now    func() time.Time
	log    *slog.Logger
	byGET  atomic.Bool // the server does not take searches by POST
}

// newFHIR makes a client; nothing is asked yet. All clients of a process share one limit; nil makes one. Its faults are the operator's: a URL that
// is none, a CA file without a certificate.
func newFHIR(cfg FHIRConfig, limit *fhirLimit, now func() time.Time, log *slog.Logger) (remote, error) {
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil || base.Hostname() == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("fhir: the url must be https://host/path, without user and query")
	}
	if base.Scheme != "https" && !(base.Scheme == "http" && loopbackHost(base.Hostname())) {
		return nil, errors.New("fhir: the url must begin with https://: the key goes with each call")
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("fhir: %w", err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("fhir: no certificate in %s", cfg.CA)
		}
	}
	if limit == nil {
		limit = newFHIRLimit()
	}
	f := &fhir{base: base, key: cfg.APIKey, limit: limit, now: now, log: log}
	f.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tc, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 6, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// The service redirects nowhere; who would redirect us wants the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f, nil
}

func loopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

func (f *fhir) name() string { return "fhir" }

func (f *fhir) close() error {
	f.client.CloseIdleConnections()
	return nil
}

// ask searches the three resources that may hold a mailbox. There is no answer but a whole one: if one of the three could not be asked, the
// address could not. The plain search is used, not :exact, which FHIR makes sensitive to case (R4, search, "Modifiers"): it may find more, and
// what only looks like the address is left out here.
func (f *fhir) ask(ctx context.Context, a message.Address) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, maxFHIRQuestion)
	defer cancel()
	key := a.Key()
	if a.IsNull() || strings.ContainsAny(key, `,$|\`) { // FHIR would read several values in one: such a mailbox cannot be asked for
		return nil, oddAddress{errors.New("fhir: the address cannot be searched for")}
	}
	searches := []fhirSearch{
		{resource: "Practitioner", params: url.Values{"mailbox-mss": {key}}},
		{resource: "PractitionerRole", params: url.Values{"mailbox-mss": {key}, "_include": {"PractitionerRole:practitioner", "PractitionerRole:organization"}}},
		{resource: "Organization", params: url.Values{"mailbox-mss": {key}}},
	}
	answers, errs := make([]*fhirAnswer, len(searches)), make([]error, len(searches))
	var wg sync.WaitGroup
	for i, s := range searches {
		wg.Go(func() {
			if answers[i], errs[i] = f.search(ctx, s); errs[i] != nil {
				cancel() // the others cannot make it whole
			}
		})
	}
	wg.Wait()
	if err := firstCause(errs); err != nil {
		return nil, err
	}
	var recs []Record
	for _, ans := range answers {
		recs = append(recs, ans.records(f.now(), func(found string) bool { return found == key })...)
	}
	if verdictBy(recs) != Verified { // a server that counts more matches than it gives, a lost next link, has not said "no"
		for i, ans := range answers {
			if ans.missing > 0 {
				return nil, oddAddress{fmt.Errorf("fhir: search %s: %d of the matches announced are not given", searches[i].resource, ans.missing)}
			}
		}
	}
	if len(recs) > maxRecords {
		return nil, oddAddress{fmt.Errorf("fhir: more than %d records for one address", maxRecords)}
	}
	return recs, nil
}

// firstCause prefers the fault that came first to those that follow from giving up.
func firstCause(errs []error) (cause error) {
	for _, err := range errs {
		if err != nil && (cause == nil || errors.Is(cause, context.Canceled)) {
			cause = err
		}
	}
	return cause
}
