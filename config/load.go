package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is far beyond any operator's file; it bounds what the parser may be given.
const maxFile = 4 << 20

// Option changes how Load looks at the world.
type Option func(*loader)

type loader struct{ files func(string) error }

// Files replaces the check that a file exists; check returns nil for one that does. `passerelle check` on another machine and tests
// use it.
func Files(check func(path string) error) Option { return func(l *loader) { l.files = check } }

// Load reads, expands, checks and completes the file at path. What is wrong with its content comes as Faults: a fault of syntax alone,
// everything else together. getenv answers ${VAR}, as os.LookupEnv does.
func Load(path string, getenv func(string) (string, bool), opts ...Option) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if len(src) > maxFile {
		return nil, fmt.Errorf("read config %s: longer than %d bytes", path, maxFile)
	}
	return Parse(path, src, getenv, opts...)
}

// Parse is Load for a file's content; name stands in the faults.
func Parse(name string, src []byte, getenv func(string) (string, bool), opts ...Option) (*Config, error) {
	l := loader{files: exists}
	for _, o := range opts {
		o(&l)
	}
	d := &decoder{file: name, getenv: getenv, at: map[string]pos{}, broken: map[string]bool{}}
	root, fault := d.parse(src)
	if fault != nil {
		return nil, Faults{*fault}
	}
	c := Default()
	if root != nil {
		d.value("", root, reflect.ValueOf(c).Elem(), 0)
	}
	c.complete(l.files)
	v := &validator{decoder: d, c: c, files: l.files}
	v.all()
	if len(d.faults) > 0 {
		return nil, d.faults.sorted()
	}
	c.normalize()
	return c, nil
}

// parse gives the tree, or the one fault of syntax.
func (d *decoder) parse(src []byte) (ast.Node, *Fault) {
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		fault := Fault{File: d.file, Line: 1, Col: 1, Text: err.Error()}
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			fault.Text = "not YAML: " + syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				fault.Line, fault.Col = t.Position.Line, t.Position.Column
			}
		}
		return nil, &fault
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			p := first(doc.Body).Position
			return nil, &Fault{File: d.file, Line: p.Line, Col: p.Column, Text: "a second document (---): the file holds one"}
		}
		root = doc.Body
	}
	return root, nil
}

// exists tells whether a path is there, with the reason where it is not.
func exists(path string) error {
	_, err := os.Stat(path)
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err // the path itself stands in the fault's own text
	}
	return err
}

// complete fills what follows from other settings: names from the clinic's domain, certificates from a folder of them.
func (c *Config) complete(files func(string) error) {
	if len(c.Clinic.Domains) > 0 {
		if c.Hostname == "" {
			c.Hostname = "passerelle." + c.Clinic.Domains[0]
		}
		if c.Clinic.Name == "" {
			c.Clinic.Name = c.Clinic.Domains[0]
		}
		if c.Clinic.Postmaster == "" {
			c.Clinic.Postmaster = "postmaster@" + c.Clinic.Domains[0]
		}
	}
	c.completeCollect()
	c.completeACME()
	if id := &c.Trust.Identities; id.On() && len(c.Trust.OwnDomains) > 0 {
		if id.Hostname == "" {
			id.Hostname = c.Trust.OwnDomains[0]
		}
		if id.Reports == "" {
			id.Reports = "postmaster@" + c.Trust.OwnDomains[0]
		}
		if len(id.Domains) == 0 {
			id.Domains = slices.Clone(c.Clinic.Domains[:min(1, len(c.Clinic.Domains))])
		}
	}
	// A certificate and its key must be in the folder; what is optional is taken where it is there.
	must := func(dir, name string, into *string) {
		if dir != "" && *into == "" {
			*into = filepath.Join(dir, name)
		}
	}
	may := func(dir, name string, into *string) {
		if dir != "" && *into == "" && files(filepath.Join(dir, name)) == nil {
			*into = filepath.Join(dir, name)
		}
	}
	l := &c.Listen
	must(l.LMTP.TLSDir, "cert.pem", &l.LMTP.Cert)
	must(l.LMTP.TLSDir, "key.pem", &l.LMTP.Key)
	must(l.SMTP.TLSDir, "cert.pem", &l.SMTP.Cert)
	must(l.SMTP.TLSDir, "key.pem", &l.SMTP.Key)
	must(l.Portal.TLSDir, "cert.pem", &l.Portal.Cert)
	must(l.Portal.TLSDir, "key.pem", &l.Portal.Key)
	must(l.Addressbook.TLSDir, "cert.pem", &l.Addressbook.Cert)
	must(l.Addressbook.TLSDir, "key.pem", &l.Addressbook.Key)
	must(l.LDAP.TLSDir, "cert.pem", &l.LDAP.Cert)
	must(l.LDAP.TLSDir, "key.pem", &l.LDAP.Key)
	if c.Trust.TLSDir != "" && len(c.Trust.CA) == 0 {
		c.Trust.CA = []string{filepath.Join(c.Trust.TLSDir, "ca.pem")}
	}
	own := must
	if c.Listen.Trust.Addr == "" && (c.Trust.Client() || c.Collects() && !c.Trust.member()) { // a token may be all that its operator wants
		own = may
	}
	own(c.Trust.TLSDir, "cert.pem", &c.Trust.Cert)
	own(c.Trust.TLSDir, "key.pem", &c.Trust.Key)
	may(c.Trust.TLSDir, "crl.pem", &c.Trust.CRL)
}
