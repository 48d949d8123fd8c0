package config

import (
	"io/fs"
	"testing"
)

// By token a mailbox needs no certificate of ours, and tls_dir may hold none.
func TestCollectByToken(t *testing.T) {
	c := parse(t, small+`
trust: {ca: /ok/ca.pem}
collect: [{addr: "imap.op.test:143", mailbox: a@op.test, folder: Inbox, auth: xoauth2, token_command: [/ok/jeton]}]
`, noenv)
	if c.Trust.Cert != "" || c.Collect[0].Folder != "INBOX" {
		t.Errorf("%q, %q", c.Trust.Cert, c.Collect[0].Folder)
	}
	onlyCA := Files(func(p string) error {
		if p == "/trust/ca.pem" || p == "/ok/jeton" {
			return nil
		}
		return fs.ErrNotExist
	})
	dir := "trust: {tls_dir: /trust}\ncollect: [{addr: \"imap.op.test:143\", mailbox: a@op.test, auth: xoauth2, token_command: [/ok/jeton]}]\n"
	if _, err := Parse("test.yaml", []byte(small+dir), noenv, onlyCA); err != nil {
		t.Error(err)
	}
	if _, err := Parse("test.yaml", []byte(small+"listen: {trust: {addr: \":25\"}}\n"+dir), noenv, onlyCA); err == nil {
		t.Error("a server in the trust space without a certificate")
	}
}
