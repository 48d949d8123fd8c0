package gatewaytest

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DovecotOptions describe a private IMAP server on 127.0.0.1: an MSSanté operator's.
type DovecotOptions struct {
	// CA signs the server's certificate, and those of the clients: the CN of one is its mailbox.
	CA *CA
	// Capability, where set, is all that the server says it can.
	Capability string
}

// DovecotPassword opens every mailbox for a test's own hands (PLAIN). A mailbox exists once it is used.
const DovecotPassword = "geheim"

// Dovecot is a running server with its own folder, configuration and token service.
type Dovecot struct {
	Dir           string
	Port, TLSPort int // STARTTLS, and TLS from the first byte

	opt    DovecotOptions
	tokens *http.Server
	mu     sync.Mutex
	valid  map[string]string // token -> mailbox
	asked  int
	cmd    *exec.Cmd
	done   chan error
}

// DovecotTools are the programs that it needs. The error names the Debian package.
func DovecotTools() error {
	if _, err := sbin("dovecot"); err != nil {
		return fmt.Errorf("install the Debian package dovecot-imapd: %w", err)
	}
	if _, err := os.Stat("/usr/lib/dovecot/imap"); err != nil {
		return fmt.Errorf("install the Debian package dovecot-imapd: %w", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("a private Dovecot needs root: its processes change to the users dovecot and dovenull")
	}
	return nil
}

// StartDovecot configures a server in a folder of its own and runs it as a child until Close.
func StartDovecot(ctx context.Context, opt DovecotOptions) (*Dovecot, error) {
	if err := DovecotTools(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dovecot-")
	if err != nil {
		return nil, fmt.Errorf("make dovecot folder: %w", err)
	}
	d := &Dovecot{Dir: dir, opt: opt, valid: map[string]string{}}
	if err = d.configure(); err == nil {
		err = d.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dovecot) configure() (err error) {
	if d.Port, err = FreePort(); err != nil {
		return err
	}
	if d.TLSPort, err = FreePort(); err != nil {
		return err
	}
	cert, err := d.opt.CA.IssueLocal(pkix.Name{CommonName: "imap.operateur.test"}, "imap.operateur.test")
	if err != nil {
		return err
	}
	if err := d.opt.CA.WriteDir(filepath.Join(d.Dir, "tls"), cert); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for tokens: %w", err)
	}
	d.tokens = &http.Server{Handler: http.HandlerFunc(d.token)}
	go d.tokens.Serve(l)
	capability := ""
	if d.opt.Capability != "" {
		capability = "imap_capability = " + d.opt.Capability
	}
	conf := strings.NewReplacer("{dir}", d.Dir, "{port}", fmt.Sprint(d.Port), "{tls}", fmt.Sprint(d.TLSPort), "{capability}", capability, "{password}", DovecotPassword).Replace(dovecotConf)
	oauth := fmt.Sprintf("tokeninfo_url = http://%s/tokeninfo?oauth=\nusername_attribute = email\n", l.Addr())
	err = errors.Join(os.Chmod(d.Dir, 0o755), os.Mkdir(d.Dir+"/mail", 0o700), os.Chown(d.Dir+"/mail", dovecotUID, dovecotUID),
		os.WriteFile(d.Conf(), []byte(conf), 0o600), os.WriteFile(d.Dir+"/oauth2.conf", []byte(oauth), 0o600))
	if err != nil {
		return fmt.Errorf("write dovecot configuration: %w", err)
	}
	return nil
}

const dovecotUID = 8 // Debian's user mail, who owns the mailboxes

const dovecotConf = `
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{dir}/tls/cert.pem
ssl_key = <{dir}/tls/key.pem
ssl_ca = <{dir}/tls/ca.pem
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
auth_mechanisms = plain external xoauth2 oauthbearer
auth_failure_delay = 0
auth_cache_size = 0
first_valid_uid = 8
mail_location = maildir:~/Maildir
mail_max_userip_connections = 50
maildir_very_dirty_syncs = no
{capability}
service imap-login {
  chroot =
  inet_listener imap {
    port = {port}
  }
  inet_listener imaps {
    port = {tls}
    ssl = yes
  }
  process_min_avail = 1
}
service anvil {
  chroot =
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
passdb {
  driver = static
  args = nopassword=y
  mechanisms = external
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {dir}/oauth2.conf
}
passdb {
  driver = static
  args = password={password}
  mechanisms = plain
}
userdb {
  driver = static
  args = uid=8 gid=8 home={dir}/mail/%u
}
`

// token is the operator's token service: who holds this one?
func (d *Dovecot) token(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.asked++
	box, ok := d.valid[r.URL.Query().Get("oauth")]
	d.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"email": box, "expires_in": 300, "scope": "mail"})
}

// Grant makes a token good for a mailbox; with "" it is good no more.
func (d *Dovecot) Grant(token, mailbox string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.valid, token); mailbox != "" {
		d.valid[token] = mailbox
	}
}

// Asked is how often a token was looked at.
func (d *Dovecot) Asked() int { d.mu.Lock(); defer d.mu.Unlock(); return d.asked }

// Start runs the server on its ports, again after a Stop, and waits until it greets.
func (d *Dovecot) Start(ctx context.Context) error {
	dovecot, err := sbin("dovecot")
	if err != nil {
		return err
	}
	// -F keeps it in the foreground, ours to end by its own pid. Not under ctx: Stop ends it.
	d.cmd = exec.Command(dovecot, "-F", "-c", d.Conf())
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return fmt.Errorf("start dovecot: %w", err)
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(d.cmd, d.done)
	gone, err := started(ctx, "dovecot", d.Addr(), "* OK", d.done, d.LogText)
	if gone {
		d.cmd = nil
	}
	return err
}

// Stop ends the server with all its processes and keeps what it holds.
func (d *Dovecot) Stop() error {
	if d.cmd == nil {
		return nil
	}
	cmd := d.cmd
	d.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop dovecot: %w", err)
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(15 * time.Second):
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own process group
		<-d.done
		return errors.Join(errors.New("dovecot did not stop in 15 s"), err)
	}
}

// Close stops the server and removes its folder.
func (d *Dovecot) Close() error {
	var err error
	if d.tokens != nil {
		err = d.tokens.Close()
	}
	return errors.Join(err, d.Stop(), os.RemoveAll(d.Dir))
}

// NewValidity gives the INBOX of a mailbox new UIDs, as a restore from a backup does: what the server noted of them is removed.
func (d *Dovecot) NewValidity(mailbox string) error {
	files, err := filepath.Glob(filepath.Join(d.Maildir(mailbox), "dovecot*"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no index of %s: %w", mailbox, err)
	}
	for _, f := range files {
		err = errors.Join(err, os.RemoveAll(f))
	}
	return err
}

// Maildir is where the mail of a mailbox lies.
func (d *Dovecot) Maildir(mailbox string) string {
	return filepath.Join(d.Dir, "mail", mailbox, "Maildir")
}

// Addr is for STARTTLS, TLSAddr for TLS from the first byte.
func (d *Dovecot) Addr() string    { return fmt.Sprintf("127.0.0.1:%d", d.Port) }
func (d *Dovecot) TLSAddr() string { return fmt.Sprintf("127.0.0.1:%d", d.TLSPort) }

// Conf is its configuration, LogText its log.
func (d *Dovecot) Conf() string { return filepath.Join(d.Dir, "dovecot.conf") }
func (d *Dovecot) LogText() string {
	b, err := os.ReadFile(filepath.Join(d.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
