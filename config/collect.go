package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Collect is one folder of a mailbox at the clinic's MSSanté operator, fetched by IMAP.
type Collect struct {
	// Name stands in logs and metrics in the place of the address; "" is box1 and so on, by the place in the list.
	Name string `yaml:"name"`
	// Mailbox is the address at the operator, and who logs in.
	Mailbox string `yaml:"mailbox"`
	// Addr is host:port of the IMAP server; with "" the entry is off.
	Addr string `yaml:"addr"`
	// TLS is starttls (port 143) or implicit (993). There is no session without it.
	TLS string `yaml:"tls"`
	// Auth is external (the client certificate), xoauth2 or oauthbearer (a token).
	Auth string `yaml:"auth"`
	// Cert and Key are the mailbox's own certificate; "" is that of trust.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// TokenCommand prints the access token: a program with its whole path and its arguments, no shell.
	TokenCommand []string `yaml:"token_command"`
	// Folder is what is looked through.
	Folder string `yaml:"folder"`
	// After is what becomes of a message there once Postfix has it: flag, move (to MoveTo) or delete.
	After  string `yaml:"after"`
	MoveTo string `yaml:"move_to"`
	// Every is from one look to the next; with IDLE new mail comes at once.
	Every Duration `yaml:"every"`
	// DeliverTo is whom Postfix gets it for; "" is the mailbox's own address.
	DeliverTo string `yaml:"deliver_to"`
}

// completeCollect fills what an entry leaves out: a list has no defaults of its own.
func (c *Config) completeCollect() {
	for i := range c.Collect {
		b := &c.Collect[i]
		for _, d := range []struct {
			field *string
			value string
		}{{&b.Name, fmt.Sprint("box", i+1)}, {&b.TLS, "starttls"}, {&b.Auth, "external"}, {&b.Folder, "INBOX"}, {&b.After, "flag"}, {&b.MoveTo, "Passerelle"}, {&b.DeliverTo, b.Mailbox}} {
			if *d.field == "" {
				*d.field = d.value
			}
		}
		if strings.EqualFold(b.Folder, "INBOX") { // RFC 3501 section 5.1: in any case one folder
			b.Folder = "INBOX"
		}
		if b.Every == 0 {
			b.Every = Duration(5 * time.Minute)
		}
	}
}

// Collects tells whether any mailbox is collected.
func (c *Config) Collects() bool {
	return slices.ContainsFunc(c.Collect, func(b Collect) bool { return b.Addr != "" })
}

func (v *validator) collect() {
	t := v.c.Trust
	if v.c.Collects() && len(t.CA) == 0 && !t.member() && !t.Client() && v.c.Listen.Trust.Addr == "" && v.ok("trust.ca") {
		v.fault("trust.ca", "must be set (or tls_dir) where collect is: the operator is verified by it")
	}
	for i, b := range v.c.Collect {
		if b.Addr == "" {
			continue
		}
		key := index("collect", i)
		if v.hostport(key+".addr", b.Addr) {
			v.loop(key+".addr", b.Addr)
		}
		if b.Mailbox == "" {
			v.fault(key+".mailbox", "must be set: the mailbox's address at the operator")
		} else {
			v.address(key+".mailbox", b.Mailbox)
		}
		if b.DeliverTo != "" {
			v.address(key+".deliver_to", b.DeliverTo)
		}
		v.oneOf(key+".tls", b.TLS, "starttls", "implicit")
		v.oneOf(key+".auth", b.Auth, "external", "xoauth2", "oauthbearer")
		v.oneOf(key+".after", b.After, "flag", "move", "delete")
		v.file(key+".cert", b.Cert)
		v.file(key+".key", b.Key)
		if (b.Cert == "") != (b.Key == "") && v.ok(key) {
			v.fault(key+".cert", "cert and key belong together")
		}
		if b.Auth == "external" && b.Cert == "" && t.Cert == "" && v.ok(key+".cert") {
			v.fault(key+".cert", "must be set with key (or trust.tls_dir): auth is external")
		}
		if b.Auth != "external" {
			v.command(key+".token_command", b.TokenCommand)
		}
		if b.Auth != "external" && len(b.TokenCommand) == 0 && v.ok(key+".auth") {
			v.fault(key+".token_command", "must be set where auth is %s", b.Auth)
		}
		if b.Auth == "external" && len(b.TokenCommand) > 0 {
			v.fault(key+".token_command", "is not asked where auth is external")
		}
		if (b.Every < Duration(10*time.Second) || b.Every > Duration(25*time.Minute)) && v.ok(key+".every") {
			v.fault(key+".every", "must be between 10s and 25m: a server may hang up after 30 minutes of silence")
		}
		if b.After == "delete" && v.c.Inbound.seals() && v.ok(key+".after") {
			v.fault(key+".after", "delete would leave the sealed copy alone, which ends at pickup.expiry also if nobody opened it: flag or move where inbound.mailboxes says vault")
		}
		if b.After == "move" && strings.EqualFold(b.MoveTo, b.Folder) {
			v.fault(key+".move_to", "is the folder that is looked through")
		}
		for name, s := range map[string]string{"folder": b.Folder, "move_to": b.MoveTo, "name": b.Name} {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				v.fault(key+"."+name, "holds a control character")
			}
		}
		if strings.ContainsAny(b.Name, "@ ") {
			v.fault(key+".name", "%q stands in metrics and logs: one word, no address", b.Name)
		}
		for j, o := range v.c.Collect[:i] {
			switch {
			case o.Addr == "":
			case o.Name == b.Name:
				v.fault(key+".name", "%s is %s already", b.Name, index("collect", j))
			case strings.EqualFold(o.Mailbox, b.Mailbox) && o.Folder == b.Folder:
				v.fault(key+".mailbox", "this folder of it is %s already", index("collect", j))
			}
		}
	}
}
