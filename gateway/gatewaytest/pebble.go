package gatewaytest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Pebble is Let's Encrypt's own ACME server for tests, on loopback. It proves names by connecting to the ports that it was given.
type Pebble struct {
	URL    string // of the directory
	CAFile string // PEM: whom its https is believed by
	Roots  *x509.CertPool

	dir  string
	cmd  *exec.Cmd
	done chan error
	said bytes.Buffer
}

// PebbleTool finds the program; the error says how it is installed.
func PebbleTool() (string, error) {
	return goTool("pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1")
}

// StartPebble asks names for addresses, and proves at httpPort and tlsPort.
func StartPebble(names *NameServer, httpPort, tlsPort int) (*Pebble, error) {
	program, err := PebbleTool()
	if err != nil {
		return nil, err
	}
	ca, err := NewCA("pebble")
	if err != nil {
		return nil, err
	}
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "127.0.0.1"}, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	p := &Pebble{done: make(chan error, 1)}
	if p.dir, err = os.MkdirTemp("", "pebble"); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	admin, err := FreePort()
	if err != nil {
		return nil, err
	}
	p.CAFile, p.URL = filepath.Join(p.dir, "ca.pem"), fmt.Sprintf("https://127.0.0.1:%d/dir", port)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": fmt.Sprintf("127.0.0.1:%d", port), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", admin),
		"certificate": filepath.Join(p.dir, "cert.pem"), "privateKey": filepath.Join(p.dir, "key.pem"), "httpPort": httpPort, "tlsPort": tlsPort}})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ca.WriteDir(p.dir, leaf), os.WriteFile(p.CAFile, ca.CertPEM(), 0o600), os.WriteFile(filepath.Join(p.dir, "pebble.json"), conf, 0o600)); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, "-config", filepath.Join(p.dir, "pebble.json"), "-dnsserver", names.Addr())
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}}
	root := fmt.Sprintf("https://127.0.0.1:%d/roots/0", admin)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		resp, err := client.Get(root)
		if err != nil {
			continue
		}
		pem, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		p.Roots = x509.NewCertPool()
		if err != nil || !p.Roots.AppendCertsFromPEM(pem) {
			return nil, errors.Join(errors.New("pebble shows no root"), err, p.Close())
		}
		return p, nil
	}
	return nil, errors.Join(errors.New("pebble does not answer"), p.Close())
}

// Close ends it; a second one does nothing.
func (p *Pebble) Close() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		p.done <- <-p.done
	}
	return os.RemoveAll(p.dir)
}
