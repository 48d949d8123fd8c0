package gatewaytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// PostfixOptions describe a private instance. Every port is on 127.0.0.1; 0 takes a free one.
type PostfixOptions struct {
	// Name tells instances of one test apart in the log: multi_instance_name is postfix-NAME. "" is "clinic".
	Name string
	// Port is the listener that stands for port 25, Submission the one that stands for port 587.
	Port, Submission int
	// Domains are its own (mydestination); mail for them goes to LocalHop (host:port, SMTP). Users, where set, are the only
	// addresses that exist there; others are refused at RCPT.
	Domains  []string
	LocalHop string
	Users    []string
	// Snippet is a folder of deploy/postfix, applied by the shipped script that lies beside it.
	Snippet string
	// Replace is the list of literal substitutions made in the snippet's files before they are applied, old to new, longest old
	// first. Always substituted: smtp/inet and submission/inet become this instance's own listeners.
	Replace map[string]string
	// Main and Master are further lines, appended after the snippet.
	Main, Master []string
}

// Postfix is a running private instance with its own configuration, queue and log.
type Postfix struct {
	Dir        string // holds etc, queue, data, maillog
	Port       int
	Submission int

	cmd  *exec.Cmd
	done chan error
}

// Queued is one message of the queue, as `postqueue -j` writes it.
type Queued struct {
	Queue      string `json:"queue_name"`
	ID         string `json:"queue_id"`
	Sender     string `json:"sender"`
	Size       int64  `json:"message_size"`
	Recipients []struct {
		Address string `json:"address"`
		Reason  string `json:"delay_reason"`
	} `json:"recipients"`
}

// PostfixTools are the programs that a private instance needs. The error names the Debian package.
func PostfixTools() error {
	for _, p := range []string{"postfix", "postconf", "postqueue"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("install the Debian package postfix: %w", err)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("a private Postfix instance needs root: its daemons change to the user postfix")
	}
	return nil
}

// StartPostfix configures an instance in a folder of its own, checks it and runs it as a child until Close.
func StartPostfix(ctx context.Context, opt PostfixOptions) (*Postfix, error) {
	p, err := ConfigurePostfix(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := p.Start(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// ConfigurePostfix writes the configuration, applies the snippet and runs `postfix check`, without starting anything.
func ConfigurePostfix(ctx context.Context, opt PostfixOptions) (*Postfix, error) {
	if err := PostfixTools(); err != nil {
		return nil, err
	}
	if opt.Name == "" {
		opt.Name = "clinic"
	}
	p := &Postfix{Port: opt.Port, Submission: opt.Submission}
	for _, port := range []*int{&p.Port, &p.Submission} {
		if *port != 0 {
			continue
		}
		free, err := FreePort()
		if err != nil {
			return nil, err
		}
		*port = free
	}
	dir, err := os.MkdirTemp("", "postfix-"+opt.Name+"-")
	if err != nil {
		return nil, fmt.Errorf("make instance folder: %w", err)
	}
	p.Dir = dir
	if err := p.configure(ctx, opt); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Postfix) configure(ctx context.Context, opt PostfixOptions) error {
	// The daemons run as user postfix and must be able to walk here.
	steps := []error{os.Chmod(p.Dir, 0o755), os.Mkdir(p.Config(), 0o755), os.Mkdir(filepath.Join(p.Dir, "queue"), 0o755), os.Mkdir(filepath.Join(p.Dir, "data"), 0o755)}
	if err := errors.Join(steps...); err != nil {
		return fmt.Errorf("make instance folders: %w", err)
	}
	if _, err := p.run(ctx, "chown", "postfix:postfix", filepath.Join(p.Dir, "data")); err != nil {
		return err
	}
	if err := p.write("main.cf", postfixMain(p, opt)); err != nil {
		return err
	}
	if err := p.write("master.cf", postfixMaster(p)); err != nil {
		return err
	}
	if opt.Snippet != "" {
		if err := p.apply(ctx, opt); err != nil {
			return err
		}
	}
	if err := errors.Join(p.add("main.cf", opt.Main), p.add("master.cf", opt.Master)); err != nil {
		return err
	}
	_, err := p.run(ctx, "postfix", "-c", p.Config(), "check")
	return err
}

// apply copies the shipped folder with the substitutions made and runs the shipped script on it.
func (p *Postfix) apply(ctx context.Context, opt PostfixOptions) error {
	source, name := filepath.Dir(filepath.Clean(opt.Snippet)), filepath.Base(opt.Snippet)
	shipped := filepath.Join(p.Dir, "shipped")
	if err := os.CopyFS(shipped, os.DirFS(source)); err != nil {
		return fmt.Errorf("copy snippets: %w", err)
	}
	olds := make([]string, 0, len(opt.Replace))
	for old := range opt.Replace {
		olds = append(olds, old)
	}
	sort.Slice(olds, func(i, j int) bool { return len(olds[i]) > len(olds[j]) })
	pairs := []string{"submission/inet", fmt.Sprintf("127.0.0.1:%d/inet", p.Submission), "smtp/inet", fmt.Sprintf("127.0.0.1:%d/inet", p.Port)}
	for _, old := range olds {
		pairs = append(pairs, old, opt.Replace[old])
	}
	replace := strings.NewReplacer(pairs...)
	for _, f := range []string{"main.cf", "master.cf", "services"} {
		path := filepath.Join(shipped, name, f)
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read snippet: %w", err)
		}
		if err := os.WriteFile(path, []byte(replace.Replace(string(b))), 0o644); err != nil {
			return fmt.Errorf("write snippet: %w", err)
		}
	}
	_, err := p.run(ctx, "sh", filepath.Join(shipped, "attach"), "in", name, p.Config())
	return err
}

// Detach runs the shipped script backwards.
func (p *Postfix) Detach(ctx context.Context, snippet string) error {
	_, err := p.run(ctx, "sh", filepath.Join(p.Dir, "shipped", "attach"), "out", filepath.Base(snippet), p.Config())
	return err
}

// Start runs the instance's master as a child in a process group of its own and waits until it greets.
func (p *Postfix) Start(ctx context.Context) error {
	daemons, err := p.Get(ctx, "daemon_directory")
	if err != nil {
		return err
	}
	// -d keeps master in the foreground, so that it is ours to end by its own pid. Not under ctx: Stop ends it.
	p.cmd = exec.Command(filepath.Join(daemons, "master"), "-c", p.Config(), "-d")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.done = make(chan error, 1)
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return fmt.Errorf("start postfix: %w", err)
	}
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(p.cmd, p.done)
	return p.greeted(ctx)
}

func (p *Postfix) greeted(ctx context.Context) error {
	gone, err := started(ctx, "postfix", p.Addr(), "220", p.done, p.LogText)
	if gone {
		p.cmd = nil
	}
	return err
}

// Stop ends the instance and keeps its queue; Start runs it again.
func (p *Postfix) Stop() error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop postfix: %w", err)
	}
	select {
	case <-p.done: // master ends by its own signal, which is no fault
		return nil
	case <-time.After(15 * time.Second):
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own process group
		<-p.done
		return errors.Join(errors.New("postfix did not stop in 15 s"), err)
	}
}

// Close stops the instance and removes its folder.
func (p *Postfix) Close() error { return errors.Join(p.Stop(), os.RemoveAll(p.Dir)) }

// Addr stands for port 25, SubmissionAddr for port 587.
func (p *Postfix) Addr() string           { return fmt.Sprintf("127.0.0.1:%d", p.Port) }
func (p *Postfix) SubmissionAddr() string { return fmt.Sprintf("127.0.0.1:%d", p.Submission) }

// Config is the folder for `-c`, Log the log file.
func (p *Postfix) Config() string { return filepath.Join(p.Dir, "etc") }
func (p *Postfix) Log() string    { return filepath.Join(p.Dir, "maillog") }

// LogText is the log so far, for a failing test's message.
func (p *Postfix) LogText() string {
	b, err := os.ReadFile(p.Log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Get is the value of a main.cf parameter.
func (p *Postfix) Get(ctx context.Context, name string) (string, error) {
	out, err := p.run(ctx, "postconf", "-c", p.Config(), "-xh", name)
	return strings.TrimSpace(out), err
}

// Queue lists what the instance keeps.
func (p *Postfix) Queue(ctx context.Context) ([]Queued, error) {
	out, err := p.run(ctx, "postqueue", "-c", p.Config(), "-j")
	if err != nil {
		return nil, err
	}
	var all []Queued
	for line := range strings.Lines(out) {
		var q Queued
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			return nil, fmt.Errorf("read queue: %w: %q", err, line)
		}
		all = append(all, q)
	}
	return all, nil
}

// WaitQueue polls the queue until ok holds.
func (p *Postfix) WaitQueue(ctx context.Context, ok func([]Queued) bool) ([]Queued, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		q, err := p.Queue(ctx)
		if err == nil && ok(q) {
			return q, nil
		}
		select {
		case <-ctx.Done():
			return q, fmt.Errorf("wait for the queue of %s: %w", p.Dir, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// Flush asks for another attempt at once for everything deferred.
func (p *Postfix) Flush(ctx context.Context) error {
	_, err := p.run(ctx, "postqueue", "-c", p.Config(), "-f")
	return err
}

func (p *Postfix) write(name string, lines []string) error {
	return os.WriteFile(filepath.Join(p.Config(), name), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (p *Postfix) add(name string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(p.Config(), name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}

func (p *Postfix) run(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}
