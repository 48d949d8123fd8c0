package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// SMS brings a text to a telephone. The number is in E.164 form. An error must hold neither number nor text.
type SMS interface {
	Send(ctx context.Context, phone, text string) error
}

// SMSConfig describes a provider's HTTP API.
type SMSConfig struct {
	URL     string
	Method  string // "" means POST
	Headers map[string]string
	// Body is a text/template with {{.To}} and {{.Text}}. Both are escaped for the ContentType (JSON strings, form values);
	// {{json .Text}} writes a JSON string with its quotes, {{query .Text}} a form value whatever the ContentType.
	Body        string
	ContentType string        // "" means application/json
	Timeout     time.Duration // over all attempts; 0 means 10 s
}

// HTTPSMS sends through a provider's HTTP API.
type HTTPSMS struct {
	cfg    SMSConfig
	body   *template.Template
	client *retryablehttp.Client
}

// smsValue writes itself as the content type needs it.
type smsValue struct{ raw, contentType string }

func (s smsValue) String() string {
	switch {
	case strings.Contains(s.contentType, "json"):
		q := jsonString(s)
		return q[1 : len(q)-1]
	case strings.Contains(s.contentType, "x-www-form-urlencoded"):
		return queryString(s)
	}
	return s.raw
}

func queryString(s smsValue) string { return url.QueryEscape(s.raw) }

func jsonString(s smsValue) string {
	b, err := json.Marshal(s.raw)
	if err != nil { // a string always marshals
		panic("vault: " + err.Error())
	}
	return string(b)
}

// NewSMS checks the settings: the template is filled in once, and must give JSON where it says so.
func NewSMS(cfg SMSConfig) (*HTTPSMS, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("sms: url must be http(s)://host/path")
	}
	if cfg.Method == "" {
		cfg.Method = http.MethodPost
	}
	if cfg.ContentType == "" {
		cfg.ContentType = "application/json"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	t, err := template.New("body").Option("missingkey=error").Funcs(template.FuncMap{"json": jsonString, "query": queryString}).Parse(cfg.Body)
	if err != nil {
		return nil, fmt.Errorf("sms: body: %w", err)
	}
	c := retryablehttp.NewClient()
	c.Logger = nil                                         // it would print the URL
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler // else the last status is lost and the URL is in the error
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = 2, 200*time.Millisecond, time.Second
	c.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &HTTPSMS{cfg: cfg, body: t, client: c}
	probe, err := s.fill("+33600000000", "«\"\\\n</é>»")
	if err != nil {
		return nil, fmt.Errorf("sms: body: %w", err)
	}
	if strings.Contains(cfg.ContentType, "json") && !json.Valid(probe) {
		return nil, errors.New("sms: body: does not give JSON")
	}
	return s, nil
}

func (s *HTTPSMS) fill(phone, text string) ([]byte, error) {
	var b bytes.Buffer
	err := s.body.Execute(&b, map[string]smsValue{"To": {phone, s.cfg.ContentType}, "Text": {text, s.cfg.ContentType}})
	return b.Bytes(), err
}

// Send hands the text to the provider and returns when it was taken. A passing failure is tried again twice: a patient may get the
// same code twice, which does no harm.
func (s *HTTPSMS) Send(ctx context.Context, phone, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	body, err := s.fill(phone, text)
	if err != nil {
		return errors.New("send sms: the body's template does not fill in")
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, s.cfg.Method, s.cfg.URL, body)
	if err != nil {
		return errors.New("send sms: the request cannot be made")
	}
	req.Header.Set("Content-Type", s.cfg.ContentType)
	for k, v := range s.cfg.Headers {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		for { // every layer that quotes the URL goes: it may hold the account's key
			var ue *url.Error
			if !errors.As(err, &ue) {
				break
			}
			err = ue.Err
		}
		return fmt.Errorf("send sms: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // to keep the connection; what it says may repeat the number
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("send sms: the provider answered %d", resp.StatusCode)
	}
	return nil
}

// Close ends the connections that are kept.
func (s *HTTPSMS) Close() { s.client.HTTPClient.CloseIdleConnections() }
