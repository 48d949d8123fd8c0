package config

import (
	"encoding/json"
	"net/url"
	"text/template"
)

// Template gives the body as a template over .To and .Text, with the functions json (quoted for JSON) and query (escaped for a URL or
// a form).
func (s SMS) Template() (*template.Template, error) {
	return template.New("sms.body").Option("missingkey=error").Funcs(template.FuncMap{
		"query": url.QueryEscape,
		"json": func(s string) (string, error) {
			b, err := json.Marshal(s)
			return string(b), err
		},
	}).Parse(s.Body.Reveal())
}
