package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"passerelle/gateway/console"
)

// page is what get asks for.
type page struct {
	method, address string
	header          map[string]string
	roots           *x509.CertPool // nil: the system's
	proxy           bool           // of the environment
	follow          bool           // redirects
	clock           bool           // the server's clock is not ours: it is compared
}

// get asks for a page and gives its beginning. An error never shows the address, which may hold a key.
func (d *doctor) get(ctx context.Context, p page) (*http.Response, []byte, error) {
	if p.method == "" {
		p.method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, p.method, p.address, nil)
	if err != nil {
		return nil, nil, errors.New("the address cannot be read")
	}
	for k, v := range p.header {
		r.Header.Set(k, v)
	}
	dial := &net.Dialer{Resolver: d.o.Resolver}
	t := &http.Transport{DialContext: dial.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}}
	if p.proxy {
		t.Proxy = http.ProxyFromEnvironment
	}
	c := &http.Client{Transport: t}
	if !p.follow {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	began := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	if p.clock {
		d.clocks.note(r.URL.Hostname(), resp.Header.Get("Date"), began, time.Now())
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	return resp, body, err
}

// reach asks the server of a list for its header, with the authorities of a PEM file where one is named.
func (d *doctor) reach(ctx context.Context, s *sheet, about, address, ca string) {
	p := page{method: http.MethodHead, address: address, proxy: true, clock: true}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		p.roots = x509.NewCertPool()
		if err != nil || !p.roots.AppendCertsFromPEM(pem) {
			s.fail(about, ca+" has no certificate that can be read", "put the authority's PEM there")
			return
		}
	}
	const remedy = "is the way out open for it (firewall, HTTPS_PROXY)? what is kept counts until it is too old"
	resp, _, err := d.get(ctx, p)
	switch {
	case err != nil:
		s.warn(about, "its server cannot be reached: "+err.Error(), remedy)
	case resp.StatusCode >= 400 && resp.StatusCode != http.StatusMethodNotAllowed:
		s.warn(about, fmt.Sprintf("its server answers %d", resp.StatusCode), remedy)
	default:
		s.ok(about, "its server answers %d", resp.StatusCode)
	}
}

// process asks the running gateway whether it can work.
func (d *doctor) process(ctx context.Context, s *sheet) {
	addr := d.cfg.Listen.Metrics.Addr
	if addr == "" {
		s.warn("", "not asked: listen.metrics is shut", "open listen.metrics on loopback, else nobody sees how the gateway is")
		return
	}
	resp, body, err := d.get(ctx, page{address: "http://" + dialable(addr) + "/readyz"})
	if err != nil {
		s.fail("", fmt.Sprintf("no gateway answers at %s: %v", addr, err), "start it (systemctl start passerelle) and read its log (journalctl -u passerelle)")
		return
	}
	var said console.Readiness
	if err := json.Unmarshal(body, &said); err != nil {
		s.fail("", fmt.Sprintf("%s answers %d, but not as a gateway does", addr, resp.StatusCode), "something else listens there: look at listen.metrics")
		return
	}
	if said.Ready {
		s.ok("", "runs and is ready")
		return
	}
	for _, c := range said.Checks {
		if !c.OK {
			s.fail(c.Name, "the running gateway is not ready: "+c.Reason, "its log says since when and why")
		}
	}
	if len(s.list) == 0 {
		s.fail("", "the running gateway is not ready", "its log says why")
	}
}

// dialable is an address that a listener has, as one to connect to.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// patientsPage asks for the pickup page as a patient does: by its public address, believing the public authorities.
func (d *doctor) patientsPage(ctx context.Context, s *sheet) {
	if d.cfg.Pickup.URL == "" {
		s.ok("", "not configured: nothing goes to pickup")
		return
	}
	fail := s.fail
	if d.cfg.Mode == "observe" { // no patient has a link yet
		fail = s.warn
	}
	address, err := url.Parse(d.cfg.Pickup.URL)
	if err != nil {
		fail("", "pickup.url cannot be read", "mend pickup.url")
		return
	}
	about := address.Host
	resp, body, err := d.get(ctx, page{address: strings.TrimSuffix(d.cfg.Pickup.URL, "/") + "/", roots: d.o.Roots, follow: true})
	if err != nil {
		fail(about, fmt.Sprintf("patients cannot open it: %v", err),
			"look at the proxy, its certificate and the DNS; where the clinic cannot reach its own public address, ask from outside too")
		return
	}
	// Our page for "there is nothing here" has the clinic's name or the security headers of all our pages.
	if resp.StatusCode >= 500 || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		fail(about, fmt.Sprintf("answers %d (%d octets), but it is not the gateway's page", resp.StatusCode, len(body)), "the proxy must hand / on to listen.portal")
		return
	}
	s.ok(about, "the gateway's page answers")
	if resp.TLS == nil {
		if host := net.ParseIP(address.Hostname()); host == nil || !host.IsLoopback() {
			fail(about, "is reached without TLS", "put a certificate before it")
		}
		return
	}
	judge(s, about, "certificate of the page", resp.TLS.PeerCertificates[0].NotAfter.Sub(d.now()), public)
}

// smsCredit asks the provider how much is left.
func (d *doctor) smsCredit(ctx context.Context, s *sheet) {
	c := d.cfg.SMS.Credit
	if c.URL == "" || d.cfg.SMS.URL == "" {
		s.ok("", "not configured")
		return
	}
	header := make(map[string]string, len(d.cfg.SMS.Headers))
	for k, v := range d.cfg.SMS.Headers {
		header[k] = v.Reveal()
	}
	const remedy = "ask the provider; sms.credit says where and how it is read"
	resp, body, err := d.get(ctx, page{address: c.URL.Reveal(), header: header, roots: d.o.Roots, proxy: true, clock: true})
	switch {
	case err != nil:
		s.warn("", "could not be asked: "+err.Error(), remedy)
		return
	case resp.StatusCode != http.StatusOK:
		s.warn("", fmt.Sprintf("could not be asked: the provider answers %d", resp.StatusCode), remedy)
		return
	}
	left, err := creditIn(body, c.Path, c.Regex)
	switch {
	case err != nil:
		s.warn("", err.Error(), remedy)
	case left <= 0:
		s.fail("", fmt.Sprintf("%g left: no code reaches a patient", left), "buy credit now")
	case left < float64(c.Below):
		s.warn("", fmt.Sprintf("%g left, fewer than %d", left, c.Below), "buy credit")
	default:
		s.ok("", "%g left", left)
	}
}

// creditIn finds the number in the provider's answer: by a regular expression's first group, or by names and indices into JSON, separated by dots.
func creditIn(body []byte, path, expr string) (float64, error) {
	if expr != "" {
		re, err := regexp.Compile(expr)
		if err != nil {
			return 0, errors.New("sms.credit.regex cannot be read")
		}
		m := re.FindSubmatch(body)
		if len(m) < 2 {
			return 0, errors.New("the provider's answer does not have what sms.credit.regex looks for")
		}
		return number(string(m[1]))
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return 0, errors.New("the provider's answer is no JSON")
	}
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return 0, fmt.Errorf("the provider's answer has no %q of sms.credit.path", name)
			}
			v = in[i]
		default:
			if name != "" || path != "" {
				return 0, fmt.Errorf("the provider's answer has no %q of sms.credit.path", name)
			}
		}
	}
	switch n := v.(type) {
	case float64:
		return n, nil
	case string:
		return number(n)
	}
	return 0, errors.New("what sms.credit.path leads to is no number")
}

func number(text string) (float64, error) {
	n, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(text), ",", "."), 64)
	if err != nil {
		return 0, errors.New("the provider's credit is no number")
	}
	return n, nil
}

// clocks are how far others' clocks are from ours, as HTTP answers tell by the second.
type clocks struct {
	mu   sync.Mutex
	seen []offClock
}

type offClock struct {
	who string
	off time.Duration // theirs less ours; 0 where the difference may be none
}

func (c *clocks) note(who, date string, began, ended time.Time) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return
	}
	off := time.Duration(0)
	switch { // it was told within its second, between the question and the answer
	case theirs.After(ended):
		off = theirs.Sub(ended)
	case theirs.Add(time.Second).Before(began):
		off = theirs.Add(time.Second).Sub(began)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, offClock{who, off})
}

const (
	clockWarns = 30 * time.Second
	clockFails = 5 * time.Minute // the revocation lists' own tolerance
)

// clock compares with the servers that were asked over HTTP anyway (not with the patients' page, which may run on our own clock), and asks the kernel whether something keeps its clock. Limit: a server's
// clock may be wrong itself, and its answer tells seconds; where two disagree, the nearer to ours counts.
func (d *doctor) clock(_ context.Context, s *sheet) {
	kept, known := clockKept()
	const remedy = "have chrony or systemd-timesyncd keep the clock: certificates, revocation lists and links are judged by it"
	d.clocks.mu.Lock()
	defer d.clocks.mu.Unlock()
	if len(d.clocks.seen) == 0 {
		switch {
		case known && !kept:
			s.warn("", "nothing keeps it (the kernel says so), and no server was asked that tells the time", remedy)
		case known:
			s.ok("", "something keeps it (the kernel says so); no server was asked that tells the time")
		default:
			s.ok("", "not compared: no server was asked that tells the time")
		}
		return
	}
	best := d.clocks.seen[0]
	for _, c := range d.clocks.seen[1:] {
		if c.off.Abs() < best.off.Abs() {
			best = c
		}
	}
	said := fmt.Sprintf("differs by %s from the clock of %s (%d asked, by the second)", best.off.Abs().Round(time.Second), best.who, len(d.clocks.seen))
	switch {
	case best.off.Abs() >= clockFails:
		s.fail("", said, remedy)
	case best.off.Abs() >= clockWarns:
		s.warn("", said, remedy)
	case known && !kept:
		s.warn("", said+", but nothing keeps it (the kernel says so)", remedy)
	default:
		s.ok("", "%s", said)
	}
}

// clockKept asks the kernel whether its clock is synchronised (adjtimex(2)).
func clockKept() (kept, known bool) {
	const unsync = 0x40 // STA_UNSYNC
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unsync == 0, true
}
