package gatewaytest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Nginx is a private nginx with its own folder; its logs and temporary files lie below Dir.
type Nginx struct {
	Dir  string
	cmd  *exec.Cmd
	done chan error
	said strings.Builder
}

// NginxTools is nil where nginx is installed; the error names the Debian package.
func NginxTools() error {
	if _, err := sbin("nginx"); err != nil {
		return fmt.Errorf("install the Debian package nginx-light: %w", err)
	}
	return nil
}

// StartNginx runs nginx with conf in its http block, and waits until addr answers. conf may name {dir}.
func StartNginx(conf, addr string) (*Nginx, error) {
	path, err := sbin("nginx")
	if err != nil {
		return nil, err
	}
	n := &Nginx{done: make(chan error, 1)}
	if n.Dir, err = os.MkdirTemp("", "nginx"); err != nil {
		return nil, err
	}
	main := "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log debug;\nevents {}\nhttp {\n" +
		"access_log {dir}/access.log;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n" + conf + "}\n"
	if os.Geteuid() == 0 {
		main = "user root;\n" + main // its workers read a test's folder
	}
	file := filepath.Join(n.Dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(main, "{dir}", n.Dir)), 0o600); err != nil {
		return nil, err
	}
	n.cmd = exec.Command(path, "-p", n.Dir, "-c", file, "-e", filepath.Join(n.Dir, "error.log"))
	n.cmd.Stdout, n.cmd.Stderr = &n.said, &n.said
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { n.done <- n.cmd.Wait() }()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-n.done:
			n.done <- err
			return nil, errors.Join(fmt.Errorf("nginx ended: %v: %s", err, n.said.String()), n.Close())
		default:
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			c.Close()
			return n, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("nginx does not answer at %s", addr), n.Close())
}

// Logs are all files below its folder, by name, but its configuration.
func (n *Nginx) Logs() (map[string]string, error) {
	out := map[string]string{}
	err := filepath.Walk(n.Dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || fi.IsDir() || filepath.Base(path) == "nginx.conf" {
			return err
		}
		b, err := os.ReadFile(path)
		out[filepath.Base(path)] = string(b)
		return err
	})
	return out, err
}

// Close ends nginx and removes its folder.
func (n *Nginx) Close() error {
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(10 * time.Second):
		n.cmd.Process.Kill()
		<-n.done
	}
	return os.RemoveAll(n.Dir)
}
