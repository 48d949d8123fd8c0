package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// Submission is the submission server of the clinic's MSSanté operator. With it the clinic is that operator's client: everything for a
// listed domain goes there, as from one of the clinic's mailboxes, and no other server of the trust space is called.
type Submission struct {
	// Addr is host:port, 587 or 465; its certificate must name the host. "" is no client mode.
	Addr string `yaml:"addr"`
	// TLS is starttls (587) or implicit (465). Nothing is sent without it.
	TLS string `yaml:"tls"`
	// Auth is how we say who we are: external (a certificate, SASL EXTERNAL), certificate (the TLS certificate alone, no SASL), xoauth2 or
	// oauthbearer (an access token; of these two the other one where the server offers only that).
	Auth string `yaml:"auth"`
	// Mailbox is whose session it is. With external and certificate it may be empty: the certificate says it. Senders without an entry in
	// Mailboxes write through it.
	Mailbox string `yaml:"mailbox"`
	// Cert and Key are what we show, PEM files; trust.cert and trust.key where empty.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// TokenCommand prints an access token: a program with its arguments, run without a shell.
	TokenCommand []string `yaml:"token_command"`
	// Size is the largest message that the operator takes, on the wire (attachments grow by 37 % there); 0 is what its server says.
	Size Size `yaml:"size"`
	// MaxConns bounds the sessions of one mailbox at one time. A letter that finds none free waits.
	MaxConns int `yaml:"max_conns"`
	// Mailboxes are the senders with credentials of their own: address to certificate or token.
	Mailboxes map[string]SubmissionMailbox `yaml:"mailboxes"`
}

// SubmissionMailbox are the credentials of one mailbox.
type SubmissionMailbox struct {
	Cert         string   `yaml:"cert"`
	Key          string   `yaml:"key"`
	TokenCommand []string `yaml:"token_command"`
}

// ByToken tells whether an access token says who we are.
func (s Submission) ByToken() bool { return s.Auth == "xoauth2" || s.Auth == "oauthbearer" }

// Client tells whether the clinic is the client of an operator.
func (t TrustSpace) Client() bool { return t.Submission.Addr != "" }

// member tells whether the clinic speaks in the trust space itself, or names those who do.
func (t TrustSpace) member() bool { return len(t.Domains) > 0 || t.WhiteList.URL != "" }

// submission checks client mode. A mailbox that could not say who it is would make mail wait for days.
func (v *validator) submission() {
	const key = "trust.submission"
	t := v.c.Trust
	s := t.Submission
	v.oneOf(key+".tls", s.TLS, "starttls", "implicit")
	v.oneOf(key+".auth", s.Auth, "external", "certificate", "xoauth2", "oauthbearer")
	v.tls(key, "", s.Cert, s.Key)
	if s.Mailbox != "" {
		v.ownMailbox(key+".mailbox", s.Mailbox)
	}
	v.command(key+".token_command", s.TokenCommand)
	if s.MaxConns < 1 && v.ok(key+".max_conns") {
		v.fault(key+".max_conns", "must be 1 at least")
	}
	if !t.Client() {
		if v.ok(key+".addr") && (s.Mailbox != "" || s.Cert != "" || len(s.TokenCommand) > 0 || len(s.Mailboxes) > 0) {
			v.fault(key+".addr", "must be set (host:587 or host:465) where anything else of trust.submission is")
		}
		return
	}
	if v.hostport(key+".addr", s.Addr) {
		v.loop(key+".addr", s.Addr)
	}
	if len(t.Hosts) > 0 && v.ok("trust.hosts") {
		v.fault("trust.hosts", "has no meaning beside trust.submission.addr: everything goes to the operator")
	}
	for _, who := range sortedKeys(s.Mailboxes) {
		at, m := join(key+".mailboxes", who), s.Mailboxes[who]
		v.ownMailbox(at, who)
		v.tls(at, "", m.Cert, m.Key)
		v.command(at+".token_command", m.TokenCommand)
		switch {
		case !v.ok(at):
		case s.ByToken() && len(m.TokenCommand) == 0:
			v.fault(at+".token_command", "must be set: auth is %s", s.Auth)
		case !s.ByToken() && m.Cert == "":
			v.fault(at+".cert", "must be set: auth is %s", s.Auth)
		}
	}
	switch {
	case !v.ok(key):
	case s.ByToken() && (s.Mailbox == "") != (len(s.TokenCommand) == 0):
		v.fault(key+".token_command", "goes together with mailbox: a token is one mailbox's")
	case s.ByToken() && s.Mailbox == "" && len(s.Mailboxes) == 0:
		v.fault(key+".mailbox", "must be set with token_command, or mailboxes: auth is %s", s.Auth)
	case !s.ByToken() && s.Cert == "" && t.Cert == "" && len(s.Mailboxes) == 0:
		v.fault(key+".cert", "must be set with key (or trust.tls_dir), or mailboxes: auth is %s", s.Auth)
	}
}

func (v *validator) ownMailbox(key, address string) {
	v.address(key, address)
	if !v.ok(key) {
		return
	}
	domain := label(address[strings.LastIndexByte(address, '@')+1:])
	if !slices.ContainsFunc(v.c.Trust.OwnDomains, func(d string) bool { return label(d) == domain }) {
		v.fault(key, "%s is none of trust.own_domains", domain)
	}
}

func (v *validator) command(key string, argv []string) {
	if len(argv) == 0 || !v.ok(key) {
		return
	}
	if !filepath.IsAbs(argv[0]) {
		v.fault(key, "must begin with the program's whole path; its arguments are entries of their own, no shell runs")
		return
	}
	v.file(key, argv[0])
}
