package keyring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// webGetter asks strangers' web servers: by HTTPS alone, in the public Internet alone, for little.
type webGetter struct{ client *retryablehttp.Client }

// denial is a server's answer that holds no key.
type denial struct {
	text    string
	refused bool
}

var errInside = errors.New("the address is not of the public Internet")

// newWebGetter: no proxy is asked. It would look up names itself, where nobody sees whether they lead inside.
func newWebGetter(cfg WKDConfig) (webGetter, error) {
	var allowed []netip.Prefix
	for _, s := range cfg.Networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return webGetter{}, fmt.Errorf("read network: %w", err)
		}
		allowed = append(allowed, p)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return webGetter{}, fmt.Errorf("read ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return webGetter{}, fmt.Errorf("read ca: no certificate in %s", cfg.CA)
		}
	}
	dial := &net.Dialer{Timeout: cfg.Timeout, Resolver: cfg.Resolver, Control: func(_, address string, _ syscall.RawConn) error {
		// The address that is really connected to: what the name gave a moment ago says nothing.
		if at, err := netip.ParseAddrPort(address); err != nil || !reachable(at.Addr(), allowed) {
			return errInside
		}
		return nil
	}}
	c := retryablehttp.NewClient()
	c.Logger = nil                                         // it would print the URL, which names the address
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler // else the last status is lost
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = 1, 100*time.Millisecond, 500*time.Millisecond
	c.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if errors.Is(err, errInside) {
			return false, nil
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	c.HTTPClient = &http.Client{
		Transport: &http.Transport{TLSClientConfig: t, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
			TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return dial.DialContext(ctx, network, net.JoinHostPort(host+".", port)) // no search list
			}},
		// The draft is silent on redirections. Within the server they are its own affair; another host was not named by the domain's DNS, and would
		// learn who is written to.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Scheme != "https" || r.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	return webGetter{c}, nil
}

// get gives the body of the answer, or why there is none. An error says that there was no answer; no text of it holds the URL.
func (g webGetter) get(ctx context.Context, from string) ([]byte, denial, error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, denial{"its domain makes no URL", true}, nil
	}
	req.Header.Set("User-Agent", "passerelle")
	resp, err := g.client.Do(req)
	if errors.Is(err, errInside) {
		return nil, denial{"its server is not in the public Internet: encrypt.wkd.networks", true}, nil
	}
	if err != nil {
		for ue := (*url.Error)(nil); errors.As(err, &ue); {
			err = ue.Err
		}
		return nil, denial{}, err
	}
	defer resp.Body.Close()
	switch s := resp.StatusCode; {
	case s == http.StatusOK:
	case s >= 500, s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests:
		return nil, denial{}, fmt.Errorf("status %d", s)
	case s >= 300 && s < 400:
		return nil, denial{"its server sends us on to another one", true}, nil
	default:
		return nil, denial{fmt.Sprintf("status %d", s), false}, nil
	}
	if resp.ContentLength > wkdLargest {
		return nil, denial{"the answer is over 64 KiB", true}, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, wkdLargest+1))
	switch {
	case err != nil:
		return nil, denial{}, fmt.Errorf("read answer: %w", err)
	case len(body) > wkdLargest:
		return nil, denial{"the answer is over 64 KiB", true}, nil
	case len(body) == 0:
		return nil, denial{"the answer is empty", true}, nil
	}
	return body, denial{}, nil
}

// notPublic are the networks of RFC 6890 and its successors that netip has no word for.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("::/96"),
}

// reachable tells whether an address may be connected to: a name that strangers gave must not lead to the clinic's own servers.
func reachable(a netip.Addr, allowed []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	for _, p := range allowed {
		if p.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
