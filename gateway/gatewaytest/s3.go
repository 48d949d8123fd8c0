package gatewaytest

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// S3 is versitygw, an S3 server over a folder, on loopback with TLS.
type S3 struct {
	Endpoint, Key, Secret string
	// CAFile is whom its certificate is believed by.
	CAFile string
	// Dir holds a folder for each bucket, with a file for each object.
	Dir string

	program, port, scratch string
	cmd                    *exec.Cmd
	ended                  chan error
	said                   bytes.Buffer
	buckets                int
}

// StartS3 starts the server on an empty folder. Close removes it.
func StartS3(ctx context.Context) (*S3, error) {
	program, err := goTool("versitygw", "github.com/versity/versitygw/cmd/versitygw@v1.8.0")
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &S3{Endpoint: fmt.Sprint("https://127.0.0.1:", port), Key: "clinic", Secret: "a+b/c=d secret", program: program, port: fmt.Sprint("127.0.0.1:", port)}
	if s.scratch, err = os.MkdirTemp("", "s3"); err != nil {
		return nil, err
	}
	s.Dir = filepath.Join(s.scratch, "buckets")
	if err := errors.Join(os.Mkdir(s.Dir, 0o700), os.Mkdir(filepath.Join(s.scratch, "meta"), 0o700)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.scratch))
	}
	ca, err := NewCA("s3")
	if err != nil {
		return nil, err
	}
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "127.0.0.1"}, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	s.CAFile = filepath.Join(s.scratch, "whom.pem")
	if err := errors.Join(ca.WriteDir(s.scratch, leaf), os.WriteFile(s.CAFile, ca.CertPEM(), 0o600)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.scratch))
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.scratch))
	}
	return s, nil
}

// Start starts it, again after Stop.
func (s *S3) Start(ctx context.Context) error {
	s.cmd = exec.Command(s.program, "--port", s.port, "--access", s.Key, "--secret", s.Secret, "--keep-alive", "--quiet", "--cert", filepath.Join(s.scratch, "cert.pem"), "--key", filepath.Join(s.scratch, "key.pem"), "posix", "--sidecar", filepath.Join(s.scratch, "meta"), s.Dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start versitygw: %w", err)
	}
	ended := make(chan error, 1)
	s.ended = ended
	cmd := s.cmd
	go func() { ended <- cmd.Wait() }()
	gone, err := started(ctx, "versitygw", s.port, "", ended, func() string { return "" })
	if gone {
		s.cmd = nil
	}
	if err != nil {
		err = errors.Join(err, s.Stop())
	}
	return err
}

// Stop kills it.
func (s *S3) Stop() error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Kill()
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		err = errors.Join(err, errors.New("versitygw does not end"))
	}
	s.cmd = nil
	return err
}

// Close ends it and removes its folder.
func (s *S3) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.scratch)) }

// NewBucket makes an empty bucket.
func (s *S3) NewBucket() (string, error) {
	s.buckets++
	name := fmt.Sprint("deposits-", s.buckets)
	return name, os.Mkdir(filepath.Join(s.Dir, name), 0o700)
}

// URL is the bucket as a config names it.
func (s *S3) URL(bucket string) string {
	return "s3://" + bucket + "?endpoint=" + url.QueryEscape(s.Endpoint) + "&region=us-east-1&key=" + s.Key + "&secret=" + url.PathEscape(s.Secret) + "&ca=" + s.CAFile
}
