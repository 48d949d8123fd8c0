// Package demo shows the main job on one machine. It starts the gateway as a child from a config that it prints, and around it a
// peer of the trust space with its own authority, an Internet hop, the clinic's server, an SMS provider and a directory, all on
// real sockets; it sends eight messages and checks what arrived. It takes the path of the binary, gives a table, and knows nothing
// of the gateway's rooms.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Config of a demo.
type Config struct {
	Binary string // of passerelle itself
	Once   bool   // stop after the table
	Out    io.Writer
}

// Run shows the demo; it gives an error unless every check held.
func Run(ctx context.Context, c Config) error {
	start := time.Now()
	dir, err := os.MkdirTemp("", "passerelle-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(dir)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer w.close()
	fmt.Fprintf(c.Out, "The gateway runs from this config:\n\n%s\n", indent(w.config))
	child, err := startChild(c.Binary, dir, w)
	if err != nil {
		return err
	}
	defer child.stop()
	if err := child.ready(ctx, w.metricsAddr); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Eight messages through it:\n\n")
	wctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	failed := 0
	t := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "#\trecipient\tway\twhy\twhat arrived")
	for n, s := range w.scenes() {
		for _, r := range w.play(wctx, n+1, s) {
			if r.err != nil {
				failed++
				r.arrived = "CHECK FAILED: " + r.err.Error()
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", n+1, r.to, r.way, r.why, r.arrived)
		}
	}
	t.Flush()
	if failed > 0 {
		return fmt.Errorf("%d checks failed; the gateway's log:\n%s", failed, child.log.String())
	}
	fmt.Fprintf(c.Out, "\nEvery arrival was checked (decrypted, opened, compared by SHA-256) in %s.\n", time.Since(start).Round(100*time.Millisecond))
	if c.Once {
		return nil
	}
	fmt.Fprintf(c.Out, "\nTry it as the patient: open %s\nThe code comes as an \"SMS\" here in this window. Ctrl-C ends the demo.\n", w.link)
	fmt.Fprintf(c.Out, "Why did a mail go where it went? In another window: %s trace --config %s mme.petit@courrier.example\n", c.Binary, filepath.Join(dir, "passerelle.yaml"))
	w.printTexts(ctx, c.Out)
	return nil
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") + "\n"
}

// child is the gateway as a process of its own.
type child struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

func startChild(binary, dir string, w *world) (*child, error) {
	path := filepath.Join(dir, "passerelle.yaml")
	if err := os.WriteFile(path, []byte(w.config), 0o600); err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(binary, "serve", "--config", path), done: make(chan error, 1)}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	go func() { c.done <- c.cmd.Wait() }()
	return c, nil
}

// ready waits until /readyz says so.
func (c *child) ready(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-c.done:
			c.done <- err
			return fmt.Errorf("the gateway stopped (%v):\n%s", err, c.log.String())
		case <-ctx.Done():
			return errors.New("the gateway did not become ready in 20 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *child) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(15 * time.Second):
		c.cmd.Process.Kill()
		<-c.done
	}
}
