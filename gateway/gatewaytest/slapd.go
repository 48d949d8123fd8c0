package gatewaytest

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// SlapdOptions describe a private OpenLDAP server on 127.0.0.1 with the schemas core, cosine and inetOrgPerson.
type SlapdOptions struct {
	// CA signs the server's certificate, for StartTLS and for the LDAPS port. nil: neither, StartTLS is refused.
	CA *CA
	// Suffix is the base, "" is dc=region,dc=test. Its entry is made; SlapdAdmin may read and write all below it.
	Suffix string
	// LDIF is what the server holds (Entry writes some). Entries stand below Suffix.
	LDIF string
	// Conf are further lines of the database's part of slapd.conf: "sizelimit 10", "access to ...".
	Conf []string
}

// The administrator's name in front of the suffix, and his password.
const (
	SlapdAdmin    = "cn=admin"
	SlapdPassword = "mot de passe é()*\\"
)

// Slapd is a running server with its own folder and configuration.
type Slapd struct {
	Dir           string
	Suffix        string
	Port, TLSPort int // TLSPort 0 without a certificate

	cmd  *exec.Cmd
	done chan error
}

// SlapdTools are the programs that it needs. The error names the Debian package.
func SlapdTools() error {
	for _, p := range []string{"slapd", "slapadd"} {
		if _, err := sbin(p); err != nil {
			return fmt.Errorf("install the Debian package slapd: %w", err)
		}
	}
	return nil
}

// sbin finds a program of the administrator's, which may not be on everybody's path.
func sbin(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// Entry writes one entry as LDIF: attributes in pairs of name and value. Values that LDIF could take for its own signs go as base64.
func Entry(dn string, attributes ...string) string {
	var b strings.Builder
	var done []string
	line := func(name, value string) {
		plain := value != "" && !strings.ContainsAny(value[:1], " :<") && !strings.HasSuffix(value, " ") &&
			!strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
		if plain {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		} else {
			fmt.Fprintf(&b, "%s:: %s\n", name, base64.StdEncoding.EncodeToString([]byte(value)))
		}
	}
	line("dn", dn)
	for i := 0; i+1 < len(attributes); i += 2 { // one attribute's values together: slapadd -q takes the second group for another attribute
		for j := i; j+1 < len(attributes); j += 2 {
			if attributes[j] == attributes[i] && !slices.Contains(done, attributes[i]) {
				line(attributes[j], attributes[j+1])
			}
		}
		done = append(done, attributes[i])
	}
	return b.String() + "\n"
}

// StartSlapd configures a server in a folder of its own, loads the entries and runs it as a child until Close.
func StartSlapd(ctx context.Context, opt SlapdOptions) (*Slapd, error) {
	if err := SlapdTools(); err != nil {
		return nil, err
	}
	if opt.Suffix == "" {
		opt.Suffix = "dc=region,dc=test"
	}
	dir, err := os.MkdirTemp("", "slapd-")
	if err != nil {
		return nil, fmt.Errorf("make slapd folder: %w", err)
	}
	s := &Slapd{Dir: dir, Suffix: opt.Suffix}
	if err = s.configure(ctx, opt); err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Slapd) configure(ctx context.Context, opt SlapdOptions) (err error) {
	if s.Port, err = FreePort(); err != nil {
		return err
	}
	conf := []string{"include /etc/ldap/schema/core.schema", "include /etc/ldap/schema/cosine.schema", "include /etc/ldap/schema/inetorgperson.schema",
		"modulepath /usr/lib/ldap", "moduleload back_mdb"}
	if opt.CA != nil {
		if s.TLSPort, err = FreePort(); err != nil {
			return err
		}
		cert, err := opt.CA.IssueLocal(pkix.Name{CommonName: "annuaire.region.test"})
		if err != nil {
			return err
		}
		if err := opt.CA.WriteDir(filepath.Join(s.Dir, "tls"), cert); err != nil {
			return err
		}
		for _, f := range [][2]string{{"TLSCACertificateFile", "ca"}, {"TLSCertificateFile", "cert"}, {"TLSCertificateKeyFile", "key"}} {
			conf = append(conf, fmt.Sprintf("%s %s/tls/%s.pem", f[0], s.Dir, f[1]))
		}
	}
	conf = append(conf, "database mdb", "maxsize 67108864", "dbnosync", "directory "+s.Dir+"/db", fmt.Sprintf("suffix %q", s.Suffix),
		fmt.Sprintf("rootdn %q", SlapdAdmin+","+s.Suffix), fmt.Sprintf("rootpw %q", SlapdPassword), "index objectClass,mail eq")
	conf = append(conf, opt.Conf...)
	first, _, _ := strings.Cut(s.Suffix, ",")
	_, dc, _ := strings.Cut(first, "=")
	ldif := Entry(s.Suffix, "objectClass", "dcObject", "objectClass", "organization", "dc", dc, "o", dc) + opt.LDIF
	err = errors.Join(os.Mkdir(s.Dir+"/db", 0o700), os.WriteFile(s.Dir+"/slapd.conf", []byte(strings.Join(conf, "\n")+"\n"), 0o600),
		os.WriteFile(s.Dir+"/all.ldif", []byte(ldif), 0o600))
	if err != nil {
		return fmt.Errorf("write slapd configuration: %w", err)
	}
	slapadd, err := sbin("slapadd")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, slapadd, "-q", "-f", s.Dir+"/slapd.conf", "-l", s.Dir+"/all.ldif")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("slapadd: %w: %s", err, out.String())
	}
	return nil
}

// Start runs the server on its ports, again after a Stop, and waits until it listens.
func (s *Slapd) Start(ctx context.Context) error {
	slapd, err := sbin("slapd")
	if err != nil {
		return err
	}
	listeners := "ldap://" + s.Addr()
	if s.TLSPort != 0 {
		listeners += " ldaps://" + s.TLSAddr()
	}
	log, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open slapd log: %w", err)
	}
	defer log.Close()
	// -d keeps it in the foreground, ours to end by its own pid; 256 notes each operation. Not under ctx: Stop ends it.
	s.cmd = exec.Command(slapd, "-d", "256", "-f", s.Dir+"/slapd.conf", "-h", listeners)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start slapd: %w", err)
	}
	s.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(s.cmd, s.done)
	gone, err := started(ctx, "slapd", s.Addr(), "", s.done, s.LogText)
	if gone {
		s.cmd = nil
	}
	return err
}

// Stop ends the server and keeps what it holds.
func (s *Slapd) Stop() error {
	if s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop slapd: %w", err)
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(10 * time.Second):
		err := cmd.Process.Kill()
		<-s.done
		return errors.Join(errors.New("slapd did not stop in 10 s"), err)
	}
}

// Close stops the server and removes its folder.
func (s *Slapd) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.Dir)) }

// Pause holds the running server, as a machine under too much load does, until Resume.
func (s *Slapd) Pause() error  { return freeze(s.cmd.Process.Pid) }
func (s *Slapd) Resume() error { return thaw(s.cmd.Process.Pid) }

// Addr is where it listens in clear, with StartTLS; TLSAddr for LDAPS.
func (s *Slapd) Addr() string    { return fmt.Sprintf("127.0.0.1:%d", s.Port) }
func (s *Slapd) TLSAddr() string { return fmt.Sprintf("127.0.0.1:%d", s.TLSPort) }

// CAFile verifies its certificate.
func (s *Slapd) CAFile() string { return filepath.Join(s.Dir, "tls", "ca.pem") }

// Log is the log file, LogText what it holds: each connection, bind and search.
func (s *Slapd) Log() string { return filepath.Join(s.Dir, "log") }
func (s *Slapd) LogText() string {
	b, err := os.ReadFile(s.Log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}
