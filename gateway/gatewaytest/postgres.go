package gatewaytest

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Postgres is a PostgreSQL server of its own on loopback, with TLS and a password, as Debian's package has it. It runs as a user that is not root,
// because it refuses root.
type Postgres struct {
	// Addr is its host and port; CAFile whom its certificate is believed by.
	Addr, CAFile string

	dir, bin, data, password string
	cmd                      *exec.Cmd
	ended                    chan error
	databases                int
}

// PostgresTool finds a program of the server's package, which Debian keeps out of the path.
func PostgresTool(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		sort.Strings(found)
		return found[len(found)-1], nil
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is needed: apt-get install postgresql", name)
	}
	return p, nil
}

// StartPostgres makes a new cluster and starts it; settings are lines of postgresql.conf. Close removes it.
func StartPostgres(ctx context.Context, settings ...string) (_ *Postgres, err error) {
	p := &Postgres{password: rand.Text()}
	initdb, err := PostgresTool("initdb")
	if err != nil {
		return nil, err
	}
	if p.bin, err = PostgresTool("postgres"); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "postgres"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(p.dir))
		}
	}()
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p.Addr, p.data = fmt.Sprint("127.0.0.1:", port), filepath.Join(p.dir, "data")
	ca, err := NewCA("postgres")
	if err != nil {
		return nil, err
	}
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "127.0.0.1"}, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	p.CAFile = filepath.Join(p.dir, "whom.pem")
	if err := errors.Join(ca.WriteDir(p.dir, leaf), os.WriteFile(p.CAFile, ca.CertPEM(), 0o644), os.WriteFile(filepath.Join(p.dir, "password"), []byte(p.password), 0o600)); err != nil {
		return nil, err
	}
	if err := p.give(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, initdb, "-D", p.data, "-U", "passerelle", "-A", "scram-sha-256", "--pwfile", filepath.Join(p.dir, "password"), "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
	p.as(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	conf := append([]string{"", "listen_addresses = '127.0.0.1'", "port = " + strconv.Itoa(port), "unix_socket_directories = ''", "ssl = on", "ssl_cert_file = '" + filepath.Join(p.dir, "cert.pem") + "'",
		"ssl_key_file = '" + filepath.Join(p.dir, "key.pem") + "'", "max_connections = 100", "shared_buffers = 16MB"}, settings...)
	f, err := os.OpenFile(filepath.Join(p.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(strings.Join(conf, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return p, p.Start(ctx)
}

// give hands the folder to the user that the server runs as.
func (p *Postgres) give() error {
	c, err := p.credential()
	if err != nil || c == nil {
		return err
	}
	return filepath.WalkDir(p.dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Chown(path, int(c.Uid), int(c.Gid))
		}
		return err
	})
}

func (p *Postgres) credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres") // of the package
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (p *Postgres) as(cmd *exec.Cmd) {
	cred, _ := p.credential() // asked already
	cmd.Dir, cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGQUIT}
}

// Start starts the server, again after Stop.
func (p *Postgres) Start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.bin, "-D", p.data)
	p.as(p.cmd)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	ended := make(chan error, 1)
	p.ended = ended
	go func() { ended <- p.cmd.Wait() }()
	if gone, err := started(ctx, "postgres", p.Addr, "", ended, p.Log); err != nil {
		if gone {
			p.cmd = nil
		}
		return errors.Join(err, p.Stop())
	}
	// It listens before it takes anybody: behind Stop it writes its whole folder to the disk first, which a busy one takes its time for.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		if err = p.SQL("SELECT 1"); err == nil {
			return nil
		}
	}
	return errors.Join(err, errors.New(p.Log()), p.Stop())
}

// Stop ends the server as a power cut of it would: every connection breaks, what was not committed is gone.
func (p *Postgres) Stop() error {
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.ended
	p.cmd = nil
	return err
}

// Freeze stops it from answering, its connections open; Thaw lets it go on. The first process is stopped first, so that no other
// begins meanwhile.
func (p *Postgres) Freeze() error {
	if err := freeze(p.cmd.Process.Pid); err != nil {
		return err
	}
	children, err := p.children()
	if err != nil {
		return err
	}
	return freeze(children...)
}

func (p *Postgres) Thaw() error {
	children, err := p.children()
	return errors.Join(err, thaw(append(children, p.cmd.Process.Pid)...))
}

func (p *Postgres) children() ([]int, error) {
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if err != nil {
		return nil, fmt.Errorf("list the processes of postgres: %w", err)
	}
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Close ends the server and removes its folder.
func (p *Postgres) Close() error { return errors.Join(p.Stop(), os.RemoveAll(p.dir)) }

// Disk is where all it keeps lies, its own log of changes included, after it has written what it held in memory.
func (p *Postgres) Disk() (string, error) { return p.data, p.SQL("CHECKPOINT") }

// Log is what the server said.
func (p *Postgres) Log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// URL is the connection string of a database; params as sslmode=disable.
func (p *Postgres) URL(database, params string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("passerelle", p.password), Host: p.Addr, Path: "/" + database, RawQuery: params}
	return u.String()
}

// NewDatabase makes an empty database and gives its connection string, without TLS.
func (p *Postgres) NewDatabase() (string, error) {
	p.databases++
	name := fmt.Sprint("test", p.databases)
	return p.URL(name, "sslmode=disable"), p.SQL("CREATE DATABASE " + name)
}

// SQL runs one statement as the operator would, with psql, in the database postgres.
func (p *Postgres) SQL(statement string) error {
	return p.SQLIn(p.URL("postgres", "sslmode=disable"), statement)
}

// SQLIn does the same in the database of a connection string.
func (p *Postgres) SQLIn(url, statement string) error {
	psql, err := PostgresTool("psql")
	if err != nil {
		return err
	}
	if out, err := exec.Command(psql, "-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement).CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}
