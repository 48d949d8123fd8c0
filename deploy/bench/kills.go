package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"passerelle/gateway/gatewaytest"
)

// killing is a clinic's Postfix, the gateway and a far side that misbehaves (fault_sink.py), and how often the gateway died.
type killing struct {
	work      string
	gateway   *gateway
	postfix   *gatewaytest.Postfix
	mailbox   *gatewaytest.NextHop // the clinic's people
	disk      *gatewaytest.Disk    // nil: a kill of the process alone
	log       string               // of the sink
	kills     int
	underWay  int // sessions to the sink at the kills, all together
	submitted int // answered 250 by Postfix
}

// kills ends the gateway again and again in the midst of its work and asks then where each message is.
func kills(ctx context.Context, f *flag.FlagSet, args []string) (err error) {
	bin := f.String("bin", "bin/passerelle", "the gateway")
	checks := f.String("checks", "../shared/checks", "folder of fault_sink.py")
	n := f.Int("messages", 10000, "handed to Postfix")
	times := f.Int("kills", 20, "SIGKILLs")
	faults := f.String("faults", "eod_4xx=0.1,eod_drop=0.05,eod_hang=0.05,eod_5xx=0.01", "of the sink, see there")
	power := f.Bool("power", false, "each kill is a power cut: the state folder comes back as it was on its disk (needs loop devices)")
	settle := f.Duration("settle", 5*time.Minute, "patience with Postfix's queue after the last kill")
	if err := f.Parse(args); err != nil {
		return err
	}
	k := &killing{}
	if k.work, err = os.MkdirTemp("", "passerelle-kills-"); err != nil {
		return err
	}
	defer os.RemoveAll(k.work)
	sink, err := k.startSink(*checks, *faults)
	if err != nil {
		return err
	}
	defer func() { sink.Process.Kill(); sink.Wait() }()
	if err := k.startGateway(ctx, *bin, *power); err != nil {
		return err
	}
	if k.disk != nil {
		defer k.disk.Close()
	}
	defer func() { err = errors.Join(err, k.gateway.stop()) }()
	if err := k.startPostfix(ctx); err != nil {
		return err
	}
	defer k.mailbox.Close()
	defer k.postfix.Close()

	loaded := make(chan error, 1)
	go func() { loaded <- k.load(*n) }()
	for range *times {
		select {
		case <-time.After(time.Duration(500+rand.IntN(2500)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := k.die(ctx); err != nil {
			return err
		}
	}
	if err := <-loaded; err != nil {
		return err
	}
	quiet, cancel := context.WithTimeout(ctx, *settle)
	defer cancel()
	if err := k.settle(quiet); err != nil {
		return err
	}
	return k.verdict(ctx)
}

func (k *killing) startSink(checks, faults string) (*exec.Cmd, error) {
	port, err := gatewaytest.FreePort()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(k.work, "sink")
	k.log = filepath.Join(dir, "log.jsonl")
	cmd := exec.Command("python3", filepath.Join(checks, "fault_sink.py"), fmt.Sprintf("SINK_PORT=%d", port), "SINK_DIR="+dir, "STORE=0",
		"FAULTS="+faults, "HANG_S=3", "MAX_S=7200")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start fault_sink.py: %w", err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			k.gateway = &gateway{sinkPort: fmt.Sprint(port)}
			return cmd, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("%s/fault_sink.py does not listen", checks), cmd.Process.Kill())
}

func (k *killing) startGateway(ctx context.Context, bin string, power bool) (err error) {
	g, err := newGateway(bin, "deploy/bench/plain.yaml", filepath.Join(k.work, "gateway"), "127.0.0.1:"+k.gateway.sinkPort)
	if err != nil {
		return err
	}
	k.gateway = g
	if power {
		if k.disk, err = gatewaytest.NewDisk(g.state, filepath.Join(k.work, "disk")); err != nil {
			return err
		}
	}
	return g.start(ctx)
}

func (k *killing) startPostfix(ctx context.Context) (err error) {
	if k.mailbox, err = gatewaytest.StartNextHop(gatewaytest.Options{}); err != nil {
		return err
	}
	back := make([]string, 2)
	for i := range back {
		port, err := gatewaytest.FreePort()
		if err != nil {
			return err
		}
		back[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	k.postfix, err = gatewaytest.StartPostfix(ctx, gatewaytest.PostfixOptions{Name: "kills", Domains: []string{"clinic.test"}, LocalHop: k.mailbox.Addr(),
		Snippet: "deploy/postfix/lmtp", Main: []string{"delay_warning_time = 0"},
		Replace: gatewaytest.Wiring{LMTP: k.gateway.lmtp, SMTP: k.gateway.smtp, In: back[0], Out: back[1]}.Replace()})
	return err
}

// load hands n messages to Postfix, each with a name and a recipient of its own.
func (k *killing) load(n int) error {
	const sessions = 4
	letter := body(4 << 10)
	counts, errs := make(chan int), make(chan error, sessions)
	for s := range sessions {
		go func() {
			done := 0
			defer func() { counts <- done }()
			c, err := dial(k.postfix.SubmissionAddr())
			if err != nil {
				errs <- err
				return
			}
			defer c.close()
			for i := s; i < n; i += sessions {
				to := recipient(i)
				if err := c.send(to, append(head(to, to), letter...), nil); err != nil {
					errs <- fmt.Errorf("submit %s: %w", to, err)
					return
				}
				done++
			}
		}()
	}
	for range sessions {
		k.submitted += <-counts
	}
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func recipient(i int) string { return fmt.Sprintf("k%d@dest.test", i) }

// die ends the gateway, or the machine, and starts it again. Nothing is flushed before.
func (k *killing) die(ctx context.Context) error {
	n, err := k.gateway.toSink()
	if err != nil {
		return err
	}
	k.kills, k.underWay = k.kills+1, k.underWay+n
	if err := k.gateway.kill(); err != nil {
		return err
	}
	if k.disk != nil {
		if err := k.disk.Cut(); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := k.gateway.start(ctx); err != nil {
		return fmt.Errorf("after kill %d: %w", k.kills, err)
	}
	fmt.Printf("kill %d: %d sessions to the sink, ready again after %d ms\n", k.kills, n, time.Since(began).Milliseconds())
	return nil
}

// settle waits until Postfix has nothing left. showq may miss a message that moves meanwhile: empty is what was empty three times.
func (k *killing) settle(ctx context.Context) error {
	empty, looks := 0, 0
	q, err := k.postfix.WaitQueue(ctx, func(q []gatewaytest.Queued) bool {
		if looks++; looks%50 == 0 {
			k.postfix.Flush(ctx)
		}
		if empty++; len(q) > 0 {
			empty = 0
		}
		return empty >= 3
	})
	if err != nil {
		return fmt.Errorf("%d messages stay in Postfix's queue, the first %+v: %w", len(q), q[:min(1, len(q))], err)
	}
	return nil
}
