package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"passerelle/gateway/gatewaytest"
)

// gateway is the built binary under one file of this folder.
type gateway struct {
	bin, config, log    string
	state               string // folder
	lmtp, smtp, console string
	env                 []string
	cmd                 *exec.Cmd
	done                chan struct{}
	sinkPort            string
}

// newGateway takes ports and folders below work; env is what the file wants beyond them.
func newGateway(bin, config, work, sink string, env ...string) (*gateway, error) {
	g := &gateway{bin: bin, config: config, log: filepath.Join(work, "gateway.log"), state: filepath.Join(work, "state")}
	g.sinkPort = sink[strings.LastIndexByte(sink, ':')+1:]
	var addrs [4]string
	for i := range addrs {
		port, err := gatewaytest.FreePort()
		if err != nil {
			return nil, err
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	g.lmtp, g.smtp, g.console = addrs[0], addrs[1], addrs[2]
	tmp := filepath.Join(work, "tmp")
	if err := errors.Join(os.MkdirAll(g.state, 0o700), os.MkdirAll(tmp, 0o700)); err != nil {
		return nil, fmt.Errorf("folders of the gateway: %w", err)
	}
	g.env = append(os.Environ(), "LMTP_ADDR="+g.lmtp, "SMTP_ADDR="+g.smtp, "METRICS_ADDR="+g.console, "PORTAL_ADDR="+addrs[3],
		"SINK="+sink, "STATE_DIR="+g.state, "TMPDIR="+tmp)
	g.env = append(g.env, env...)
	return g, nil
}

// start returns when /readyz says 200.
func (g *gateway) start(ctx context.Context) error {
	f, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of the gateway: %w", err)
	}
	defer f.Close()
	g.cmd = exec.Command(g.bin, "serve", "--config", g.config)
	g.cmd.Env, g.cmd.Stdout, g.cmd.Stderr = g.env, f, f
	if err := g.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", g.bin, err)
	}
	g.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(g.cmd, g.done)
	for {
		if r, err := http.Get("http://" + g.console + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-g.done:
			return fmt.Errorf("the gateway ended at its start: %s", g.lastWords())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastWords are the end of its log.
func (g *gateway) lastWords() []byte {
	text, _ := os.ReadFile(g.log)
	return text[max(0, len(text)-2000):]
}

// kill ends the process without any last word.
func (g *gateway) kill() error {
	err := g.cmd.Process.Kill()
	<-g.done
	return err
}

// stop ends it as systemd does.
func (g *gateway) stop() error {
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the gateway: %w", err)
	}
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("the gateway did not stop in 30 s"), g.kill())
	}
	if !g.cmd.ProcessState.Success() {
		return fmt.Errorf("the gateway stopped: %v", g.cmd.ProcessState)
	}
	return nil
}

// footprint is what a process holds: memory in KiB, descriptors, goroutines.
type footprint struct{ rss, peak, fds, goroutines int }

func (f footprint) String() string {
	return fmt.Sprintf("rss_kb=%d peak_kb=%d fds=%d goroutines=%d", f.rss, f.peak, f.fds, f.goroutines)
}

func (g *gateway) footprint() (f footprint, err error) {
	proc := fmt.Sprintf("/proc/%d", g.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return f, fmt.Errorf("footprint: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		switch k := strings.Fields(line); k[0] {
		case "VmRSS:":
			f.rss, _ = strconv.Atoi(k[1])
		case "VmHWM:":
			f.peak, _ = strconv.Atoi(k[1])
		}
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return f, fmt.Errorf("footprint: %w", err)
	}
	f.fds = len(fds)
	r, err := http.Get("http://" + g.console + "/metrics")
	if err != nil {
		return f, fmt.Errorf("footprint: %w", err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		return f, fmt.Errorf("footprint: %w", err)
	}
	_, after, ok := bytes.Cut(page, []byte("\ngo_goroutines "))
	if !ok {
		return f, errors.New("footprint: /metrics does not tell go_goroutines")
	}
	n, _, _ := bytes.Cut(after, []byte("\n"))
	f.goroutines, err = strconv.Atoi(string(n))
	return f, err
}

// toSink counts the sessions that are open from the gateway to the sink: no more deliveries than these can be under way.
func (g *gateway) toSink() (n int, err error) {
	port, err := strconv.Atoi(g.sinkPort)
	if err != nil {
		return 0, fmt.Errorf("port of the sink: %w", err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, fmt.Errorf("sessions to the sink: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local remote state ...; 01 is ESTABLISHED
		if len(f) > 3 && f[3] == "01" && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) {
			n++
		}
	}
	return n, nil
}

// listen is a free port that is listened on.
func listen() (net.Listener, error) {
	port, err := gatewaytest.FreePort()
	if err != nil {
		return nil, err
	}
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
