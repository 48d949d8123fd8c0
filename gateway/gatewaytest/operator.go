package gatewaytest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// OperatorOptions describe an MSSanté operator as its clients see it.
type OperatorOptions struct {
	// CA issues the clients' certificates, whose CN is the mailbox. Cert is what the operator shows.
	CA   *CA
	Cert *Issued
	// Relay (host:port) is the rest of the trust space: it gets all mail. Without it there is Dovecot alone, and no mail goes further.
	Relay string
	// Size is the largest message in octets, 0 is no limit.
	Size int
	// Mechanisms are what Dovecot offers, "external xoauth2 oauthbearer" where empty.
	Mechanisms string
}

// Operator is a real submission service twice over: Dovecot's own (STARTTLS and implicit TLS; EXTERNAL, XOAUTH2, OAUTHBEARER) in front of a
// Postfix, and that Postfix's with SASL by the same Dovecot, which knows no EXTERNAL: Postfix does not tell Dovecot of the certificate.
type Operator struct {
	Dir     string
	Postfix *Postfix
	// The ports of 127.0.0.1: Dovecot's with STARTTLS and with implicit TLS, and Postfix's with STARTTLS.
	Submission, Submissions, PostfixSubmission int

	cmd  *exec.Cmd
	done chan error
}

// OperatorTools are the programs that an operator needs. The error names the Debian packages.
func OperatorTools() error {
	for _, p := range []string{"/usr/sbin/dovecot", "/usr/lib/dovecot/submission-login"} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("install the Debian packages dovecot-core and dovecot-submissiond: %w", err)
		}
	}
	return PostfixTools()
}

// tokenSecret signs the access tokens, HS256.
const tokenSecret = "a secret of a test, 32 octets long"

// StartOperator runs the two as children until Close.
func StartOperator(ctx context.Context, opt OperatorOptions) (*Operator, error) {
	if err := OperatorTools(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "operator-")
	if err != nil {
		return nil, fmt.Errorf("make operator folder: %w", err)
	}
	o := &Operator{Dir: dir}
	if err = o.configure(ctx, opt); err == nil {
		err = o.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *Operator) configure(ctx context.Context, opt OperatorOptions) (err error) {
	for _, port := range []*int{&o.Submission, &o.Submissions, &o.PostfixSubmission} {
		if *port, err = FreePort(); err != nil {
			return err
		}
	}
	keys := filepath.Join(o.Dir, "keys", "default", "HS256")
	err = errors.Join(os.Chmod(o.Dir, 0o755), os.MkdirAll(keys, 0o755), opt.CA.WriteDir(filepath.Join(o.Dir, "tls"), opt.Cert),
		os.WriteFile(filepath.Join(keys, "default"), []byte(base64.StdEncoding.EncodeToString([]byte(tokenSecret))), 0o644),
		os.WriteFile(filepath.Join(o.Dir, "oauth2.conf"), []byte("introspection_mode = local\nusername_attribute = sub\nlocal_validation_key_dict = fs:posix:prefix="+o.Dir+"/keys/\n"), 0o644),
		os.WriteFile(filepath.Join(o.Dir, "own"), []byte("/^(.*)$/ ${1}\n"), 0o644),
		os.Mkdir(filepath.Join(o.Dir, "home"), 0o777))
	if err != nil {
		return fmt.Errorf("write operator folder: %w", err)
	}
	relay := 1 // nobody
	if opt.Relay != "" {
		if err := o.startPostfix(ctx, opt); err != nil {
			return err
		}
		relay = o.Postfix.Port
	}
	mechanisms := opt.Mechanisms
	if mechanisms == "" {
		mechanisms = "external xoauth2 oauthbearer"
	}
	conf := strings.NewReplacer("{dir}", o.Dir, "{starttls}", fmt.Sprint(o.Submission), "{implicit}", fmt.Sprint(o.Submissions),
		"{relay}", fmt.Sprint(relay), "{mechanisms}", mechanisms, "{size}", fmt.Sprint(opt.Size)).Replace(operatorConf)
	return os.WriteFile(filepath.Join(o.Dir, "dovecot.conf"), []byte(conf), 0o644)
}

// startPostfix runs what lies behind Dovecot, and has a submission service of its own.
func (o *Operator) startPostfix(ctx context.Context, opt OperatorOptions) (err error) {
	host, port, _ := strings.Cut(opt.Relay, ":")
	main := []string{fmt.Sprintf("relayhost = [%s]:%s", host, port), fmt.Sprintf("message_size_limit = %d", opt.Size), "smtpd_authorized_xclient_hosts = 127.0.0.1"}
	o.Postfix, err = StartPostfix(ctx, PostfixOptions{Name: "operator", Main: main, Master: []string{
		fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd", o.PostfixSubmission),
		" -o smtpd_tls_security_level=encrypt -o smtpd_tls_auth_only=yes",
		" -o smtpd_tls_cert_file=" + o.Dir + "/tls/cert.pem -o smtpd_tls_key_file=" + o.Dir + "/tls/key.pem",
		" -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_type=dovecot -o smtpd_sasl_path=" + o.Dir + "/auth",
		" -o smtpd_relay_restrictions=permit_sasl_authenticated,reject",
		" -o smtpd_sender_login_maps=regexp:" + o.Dir + "/own -o smtpd_sender_restrictions=reject_sender_login_mismatch",
	}})
	return err
}

const operatorConf = `base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
auth_verbose = yes
auth_failure_delay = 0
protocols = submission
listen = 127.0.0.1
hostname = smtp.operateur.test
ssl = required
ssl_cert = <{dir}/tls/cert.pem
ssl_key = <{dir}/tls/key.pem
ssl_ca = <{dir}/tls/ca.pem
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
auth_mechanisms = {mechanisms}
passdb {
  driver = static
  mechanisms = external
  args = nopassword=y
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {dir}/oauth2.conf
}
userdb {
  driver = static
  args = uid=mail gid=mail home={dir}/home/%u
}
first_valid_uid = 1
mail_location = maildir:{dir}/home/%u
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
submission_relay_trusted = yes
submission_max_mail_size = {size}
service submission-login {
  inet_listener submission {
    port = {starttls}
  }
  inet_listener submissions {
    port = {implicit}
    ssl = yes
  }
}
service auth {
  unix_listener {dir}/auth {
    mode = 0666
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
`

// start runs Dovecot in a process group of its own and waits until it greets.
func (o *Operator) start(ctx context.Context) error {
	// -F keeps it in the foreground, ours to end by its own pid. Not under ctx: Close ends it.
	o.cmd = exec.Command("/usr/sbin/dovecot", "-F", "-c", filepath.Join(o.Dir, "dovecot.conf"))
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	o.done = make(chan error, 1)
	if err := o.cmd.Start(); err != nil {
		o.cmd = nil
		return fmt.Errorf("start dovecot: %w", err)
	}
	go func() { o.done <- o.cmd.Wait() }()
	gone, err := started(ctx, "dovecot", fmt.Sprint("127.0.0.1:", o.Submission), "220", o.done, o.LogText)
	if gone {
		o.cmd = nil
	}
	return err
}

// LogText is Dovecot's log and Postfix's, for a failing test's message.
func (o *Operator) LogText() string {
	b, err := os.ReadFile(filepath.Join(o.Dir, "dovecot.log"))
	if err != nil {
		b = []byte(err.Error())
	}
	if o.Postfix == nil {
		return string(b)
	}
	return string(b) + o.Postfix.LogText()
}

// Close ends both and removes their folders.
func (o *Operator) Close() (err error) {
	if o.cmd != nil {
		err = o.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-o.done:
		case <-time.After(15 * time.Second):
			err = errors.Join(errors.New("dovecot did not stop in 15 s"), syscall.Kill(-o.cmd.Process.Pid, syscall.SIGKILL)) // its own process group
			<-o.done
		}
		o.cmd = nil
	}
	if o.Postfix != nil {
		err = errors.Join(err, o.Postfix.Close())
	}
	return errors.Join(err, os.RemoveAll(o.Dir))
}

// Token is an access token (JWT, HS256) for a mailbox, good for life from now; a negative one has expired.
func (o *Operator) Token(mailbox string, life time.Duration) string {
	now := time.Now()
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		part(fmt.Appendf(nil, `{"sub":%q,"iat":%d,"exp":%d}`, mailbox, now.Add(-time.Hour).Unix(), now.Add(life).Unix()))
	h := hmac.New(sha256.New, []byte(tokenSecret))
	h.Write([]byte(signed))
	return signed + "." + part(h.Sum(nil))
}
