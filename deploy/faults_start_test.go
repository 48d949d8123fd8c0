package deploy_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestFaultPortTaken: a port that another process has ends the start with words that name it, and no other door was open meanwhile.
func TestFaultPortTaken(t *testing.T) {
	for _, key := range []string{"portal", "metrics", "lmtp"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, "pickup", gatewaytest.Options{})
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			benchCheck(t, err)
			defer taken.Close()
			for i, v := range f.env {
				if strings.HasPrefix(v, strings.ToUpper(key)+"_ADDR=") {
					f.env[i] = strings.ToUpper(key) + "_ADDR=" + taken.Addr().String()
				}
			}
			out := f.refusesToStart(t)
			if !strings.Contains(out, "listen."+key) || !strings.Contains(out, "address already in use") {
				t.Errorf("it says %q", out)
			}
			if strings.Contains(out, `"listening"`) {
				t.Errorf("a door was open: %q", out)
			}
			taken.Close() // the next start needs nothing else
			for i, v := range f.env {
				if strings.HasPrefix(v, "METRICS_ADDR=") {
					f.env[i] = "METRICS_ADDR=" + f.console
				}
			}
			if key != "lmtp" {
				f.start(t)
				f.recovers(t)
				f.sound(t, 0)
			}
		})
	}
}

// under has the binary started by another program of util-linux.
func (f *faulty) under(t *testing.T, arg ...string) {
	t.Helper()
	tool(t, "util-linux", arg[0], "--version")
	f.wrap = arg
}

const nobody = 65534

// TestFaultOwner: the state folder belongs to another user, at the start and while the gateway runs.
func TestFaultOwner(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "plain", gatewaytest.Options{})
	if os.Getuid() != 0 {
		t.Fatal("only root gives a folder to another user")
	}
	for _, dir := range []string{filepath.Dir(f.bin), filepath.Dir(f.root), f.root} {
		benchCheck(t, os.Chmod(dir, 0o755))
	}
	benchCheck(t, os.Chmod(f.config, 0o644))
	f.under(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
	if out := f.refusesToStart(t); !strings.Contains(out, f.state()) || !strings.Contains(out, "permission denied") {
		t.Errorf("it says %q", out)
	}
	for _, dir := range []string{f.state(), filepath.Join(f.root, "tmp")} {
		benchCheck(t, os.Chown(dir, nobody, nobody))
	}
	f.start(t)
	fds := f.fds(t)
	wants(t, "before", f.reply(t, f.small("m0"), "a@dest.test"), "250")
	benchCheck(t, os.Chown(f.state(), 0, 0))
	time.Sleep(1100 * time.Millisecond) // the last proof of a writable ledger counts for a second
	wants(t, "the folder is another's", f.reply(t, f.small("m1"), "b@dest.test"), noLedger)
	f.has(t, "b@dest.test", 0)
	f.sees(t, `ledger.*permission denied`, `ledger cannot be written, the gate answers 451.*permission denied`)
	benchCheck(t, os.Chown(f.state(), nobody, nobody))
	f.recovers(t)
	wants(t, "the repetition", f.reply(t, f.small("m1"), "b@dest.test"), "250")
	f.has(t, "b@dest.test", 1)
	f.sound(t, fds+8)
}

// TestFaultDescriptors: silent clients take every file descriptor. Who has a session is told "later", who has none waits; when they go
// it goes on by itself.
func TestFaultDescriptors(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "plain", gatewaytest.Options{})
	f.under(t, "prlimit", "--nofile=64:64")
	f.start(t)
	fds := f.fds(t)
	early, err := f.dial(true)
	benchCheck(t, err)
	defer early.Close()
	benchCheck(t, early.Noop())
	var silent []net.Conn
	for range 60 {
		c, err := net.Dial("tcp", f.smtp)
		benchCheck(t, err)
		silent = append(silent, c)
		defer c.Close()
	}
	benchUntil(t, f.ctx, "the process has no descriptor left", func() bool { return f.fds(t) >= 63 })
	time.Sleep(100 * time.Millisecond)
	for i, c := range []struct {
		letter []byte
		want   string
	}{
		{f.small("m0"), "451 4.3.1 Relais internet: trop de connexions ouvertes sur la passerelle, nouvel essai plus tard"},
		{f.large("m1"), noTemp},
		{f.small("m0"), "451 4.3.1 Relais internet: trop de connexions ouvertes sur la passerelle, nouvel essai plus tard"},
	} {
		if got := replyText(early.send(c.letter, "a@dest.test")); got != c.want {
			t.Errorf("message %d: got %q, want %q", i, got, c.want)
		}
		benchCheck(t, early.Reset())
	}
	f.has(t, "a@dest.test", 0)
	for _, c := range silent {
		c.Close()
	}
	f.recovers(t)
	f.logged(t, `too many open files`)
	wants(t, "the repetition", replyText(early.send(f.small("m0"), "a@dest.test")), "250")
	f.has(t, "a@dest.test", 1)
	early.Close()
	f.sound(t, fds+8)
}

// nameServer answers every question for an address with 127.0.0.1, unless it is silent.
func nameServer(t *testing.T, addr string) (silent func(bool)) {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatalf("%v: port 53 takes root", err)
	}
	t.Cleanup(func() { c.Close() })
	answers := make(chan bool, 1)
	answers <- false
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			up := <-answers
			answers <- up
			if !up || n < 12 {
				continue
			}
			end := 12
			for end < n && buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			end += 5
			if end > n {
				continue
			}
			// RFC 1035 section 4: the question again, an answer for type A; others get none.
			out := append([]byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buf[12:end]...)
			if buf[end-3] == 1 {
				out[7] = 1
				out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
			}
			c.WriteTo(out, from)
		}
	}()
	return func(s bool) { <-answers; answers <- !s }
}

// TestFaultDNS: the hop is given by name, and who could resolve it is silent.
func TestFaultDNS(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "plain", gatewaytest.Options{})
	silent := nameServer(t, "127.0.0.53:53")
	resolv := filepath.Join(f.root, "resolv.conf")
	benchCheck(t, os.WriteFile(resolv, []byte("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n"), 0o644))
	f.under(t, "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolv)
	for i, v := range f.env {
		if strings.HasPrefix(v, "SINK=") {
			_, port, err := net.SplitHostPort(f.sink.Addr())
			benchCheck(t, err)
			f.env[i] = "SINK=relais.clinic.test:" + port
		}
	}
	silent(true)
	f.start(t)
	fds := f.fds(t)
	wants(t, "nobody answers", f.reply(t, f.small("m0"), "a@dest.test"), "451 4.4.3 Relais internet: nom du relais suivant introuvable (DNS), nouvel essai plus tard")
	f.logged(t, `lookup relais.clinic.test`)
	if r := f.readyz(t); !strings.HasPrefix(r, "200 ") {
		t.Errorf("/readyz: %s; a hop that is away is not the gateway's fault", r)
	}
	if m := f.metrics(t); !strings.Contains(m, `passerelle_relay_handed_on_total{hop="internet",result="deferred"} 1`) {
		t.Error("/metrics: the deferred recipient is not counted")
	}
	silent(false)
	wants(t, "the repetition", f.reply(t, f.small("m0"), "a@dest.test"), "250")
	f.has(t, "a@dest.test", 1)
	f.recovers(t)
	f.sound(t, fds+8)
}
