package gatewaytest

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// KeyDirectory is a web server with Web Key Directories of several domains, over HTTPS on loopback. What it serves is laid out as gpg-wks-server
// does.
type KeyDirectory struct {
	Port int

	server *http.Server
	ended  chan error
	mu     sync.Mutex
	files  map[string][]byte // by host and path
	answer http.HandlerFunc  // in the place of the files
	asked  []string          // host, path and query
}

// ServeKeys starts one whose certificate, by ca, is good for hosts.
func ServeKeys(ca *CA, hosts ...string) (*KeyDirectory, error) {
	cert, err := ca.IssueLocal(pkix.Name{CommonName: "keys"}, hosts...)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("key directory: %w", err)
	}
	k := &KeyDirectory{Port: l.Addr().(*net.TCPAddr).Port, files: map[string][]byte{}, ended: make(chan error, 1)}
	k.server = &http.Server{Handler: k, TLSConfig: ca.ServerTLS(cert, false), ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { k.ended <- k.server.ServeTLS(l, "", "") }()
	return k, nil
}

// Close ends it.
func (k *KeyDirectory) Close() error {
	err := k.server.Close()
	if end := <-k.ended; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// Publish serves a key for an address, whose hash is GnuPG's own, at host: the domain itself (direct method) or openpgpkey in front of it
// (advanced). Without a key nothing is there any more.
func (k *KeyDirectory) Publish(host, hash, domain string, key []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := host + "/.well-known/openpgpkey/hu/" + hash
	if host != domain {
		at = host + "/.well-known/openpgpkey/" + domain + "/hu/" + hash
	}
	k.files[at] = key
	if key == nil {
		delete(k.files, at)
	}
}

// Answer sets who answers in the place of the files, nil: they.
func (k *KeyDirectory) Answer(how http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = how
}

// Asked gives what was asked for since the last call: host, path and query.
func (k *KeyDirectory) Asked() (asked []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked, k.asked = k.asked, nil
	return asked
}

func (k *KeyDirectory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	k.mu.Lock()
	k.asked = append(k.asked, host+r.URL.RequestURI())
	answer, key := k.answer, k.files[host+path.Clean(r.URL.Path)]
	k.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case key == nil:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(key)
	}
}

// GnuPG is a home of its own for keys without a passphrase.
type GnuPG struct{ dir string }

// NewGnuPG makes an empty one. The error names the Debian package where gpg is missing.
func NewGnuPG() (*GnuPG, error) {
	if _, err := exec.LookPath("gpg"); err != nil {
		return nil, fmt.Errorf("install the Debian package gnupg: %w", err)
	}
	dir, err := os.MkdirTemp("", "g") // a short path: the agent's socket lies in it
	if err != nil {
		return nil, fmt.Errorf("make gpg home: %w", err)
	}
	return &GnuPG{dir}, nil
}

// Run gives what gpg writes.
func (g *GnuPG) Run(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("gpg", append([]string{"--homedir", g.dir, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gpg %v: %w\n%s", args, err, errs.String())
	}
	return out.Bytes(), nil
}

// Hash is the name of the address's file in a Web Key Directory, for one of the home's keys.
func (g *GnuPG) Hash(address string) (string, error) {
	out, err := g.Run(nil, "--with-wkd-hash", "--list-keys", address)
	if err != nil {
		return "", err
	}
	local, domain, _ := strings.Cut(address, "@")
	own := false
	for line := range strings.Lines(string(out)) { // its user ID, and below it hash@domain
		hash, of, found := strings.Cut(strings.TrimSpace(line), "@")
		if own && found && len(hash) == 32 && strings.EqualFold(of, domain) {
			return hash, nil
		}
		own = strings.HasPrefix(line, "uid") && strings.Contains(strings.ToLower(line), strings.ToLower(local+"@"))
	}
	return "", fmt.Errorf("gpg names no hash of %s:\n%s", address, out)
}

// Revoke takes the key of an address back, by the certificate that GnuPG laid aside when it made the key.
func (g *GnuPG) Revoke(address string) error {
	out, err := g.Run(nil, "--with-colons", "--list-keys", address)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(out), "\nfpr:::::::::")
	fingerprint, _, _ := strings.Cut(rest, ":")
	raw, err := os.ReadFile(filepath.Join(g.dir, "openpgp-revocs.d", fingerprint+".rev"))
	if err != nil {
		return fmt.Errorf("read revocation of %s: %w", address, err)
	}
	_, err = g.Run(bytes.Replace(raw, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), "--import") // the colon guards against a slip
	return err
}

// Close ends its agent and removes it.
func (g *GnuPG) Close() error {
	exec.Command("gpgconf", "--homedir", g.dir, "--kill", "all").Run()
	return os.RemoveAll(g.dir)
}
