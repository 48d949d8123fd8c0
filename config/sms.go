package config

import (
	"encoding/json"
	"net/url"
	"regexp"
	"text/template"
)

// SMSCredit is where the provider tells how much is left; `passerelle doctor` asks.
type SMSCredit struct {
	// URL is asked by GET, with the headers of sms; "": nobody is asked.
	URL Secret `yaml:"url"`
	// Path are names and indices into the JSON of the answer, separated by dots: data.credits, or 0.left. "": the answer is the number.
	Path string `yaml:"path"`
	// Regex finds the number in any other answer, by its first group. It goes before Path.
	Regex string `yaml:"regex"`
	// Below: fewer are a warning, in the provider's unit.
	Below int `yaml:"below"`
}

func (v *validator) smsCredit() {
	c := v.c.SMS.Credit
	if c.URL != "" {
		v.weburl("sms.credit.url", c.URL.Reveal(), false)
	}
	if re, err := regexp.Compile(c.Regex); err != nil || c.Regex != "" && re.NumSubexp() == 0 {
		v.fault("sms.credit.regex", "%q is no regular expression with a group for the number, such as 'credits=([0-9.]+)'", c.Regex)
	}
	if c.Below < 0 && v.ok("sms.credit.below") {
		v.fault("sms.credit.below", "must not be negative")
	}
}

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
