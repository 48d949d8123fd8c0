package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"passerelle/gateway"
)

type previewCmd struct {
	configFlag
	Lang   string `enum:",fr,en" default:"" help:"Pages of one language alone: fr, en."`
	Out    string `placeholder:"DIR" type:"path" help:"Write them into this folder, which is made; open its index.html."`
	Listen string `placeholder:"ADDR" help:"Show them under this address of this machine until Ctrl-C: 127.0.0.1:8080."`
	Texts  bool   `help:"Print our texts instead, by key, as a file of pickup.brand.texts in the language of --lang (default fr)."`
}

func (previewCmd) Help() string {
	return "Every page that patients and senders meet, and every mail about a message that waits, in the clinic's look, with made-up people. Nothing is opened, " +
		"sent or listened to but --listen; it may run beside the gateway.\n\n" +
		"Examples:\n  passerelle preview --out /tmp/apercu\n  passerelle preview --listen 127.0.0.1:8080\n  passerelle preview --texts --lang fr > /etc/passerelle/textes/fr.yaml"
}

func (c previewCmd) Run(e *env) error {
	if c.Texts {
		_, err := e.stdout.Write(gateway.BrandTexts(c.Lang))
		return err
	}
	if (c.Out == "") == (c.Listen == "") {
		return &usageError{errors.New("name one of --out DIR and --listen ADDR")}
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if err := gateway.Preview(cfg, c.Lang, func(name string, content []byte) error { files[name] = content; return nil }); err != nil {
		return err
	}
	if c.Listen != "" {
		return c.serve(e, files)
	}
	for name, content := range files {
		to := filepath.Join(c.Out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.stdout, "%d files; open %s\n", len(files), filepath.Join(c.Out, "index.html"))
	return nil
}

// serve shows the files on loopback alone: they bear the clinic's name, and are no pages of its.
func (c previewCmd) serve(e *env, files map[string][]byte) error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return &usageError{fmt.Errorf("--listen %s: %w", c.Listen, err)}
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		return &usageError{fmt.Errorf("--listen %s: only an address of this machine (127.0.0.1:8080, [::1]:8080)", c.Listen)}
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		if name == "" {
			name = "index.html"
		}
		content, ok := files[name]
		if !ok {
			http.Error(w, fs.ErrNotExist.Error(), http.StatusNotFound)
			return
		}
		kind := mime.TypeByExtension(path.Ext(name))
		if path.Ext(name) == ".eml" {
			kind = "text/plain; charset=utf-8"
		}
		w.Header().Set("Content-Type", kind)
		w.Write(content)
	})}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-e.ctx.Done()
		s.Shutdown(context.WithoutCancel(e.ctx))
	}()
	fmt.Fprintf(e.stdout, "http://%s/ until Ctrl-C\n", l.Addr())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}
