package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

const (
	noTemp  = "452 4.3.1 Plus de place pour ce message, nouvel essai plus tard"
	noSpace = "452 4.3.1 Plus de place sur la passerelle, nouvel essai plus tard"
)

// fill takes what is left of a disk; give frees it.
func fill(t *testing.T, dir string) (give func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	benchCheck(t, err)
	defer f.Close()
	for size := int64(64 << 20); size >= 1024; size /= 2 {
		st, err := f.Stat()
		benchCheck(t, err)
		for off := st.Size(); syscall.Fallocate(int(f.Fd()), 0, off, size) == nil; off += size {
		}
	}
	return func() { benchCheck(t, os.Remove(ballast)) }
}

// TestFaultDiskFull: the disk of the state folder fills up under load and is freed. Nobody is told a permanent error, and what was
// answered 250 has arrived.
func TestFaultDiskFull(t *testing.T) {
	for _, route := range []string{"plain", "pickup"} {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, route, gatewaytest.Options{})
			mounted(t, f.state(), "24M")
			f.start(t)
			fds := f.fds(t)
			const clients, each = 4, 6
			var refused, others atomic.Int64
			var no [clients]atomic.Int64 // refusals of each; done is more than any
			const done = 1 << 40
			taken := make(chan struct{}, clients*each)
			full := make(chan struct{})
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					defer no[c].Add(done)
					for i := range each {
						if i == each/2 {
							<-full // half of them meet the fault
						}
						id := fmt.Sprint("m", c*each+i)
						for {
							got := replyText(f.send(c%2 == 0, f.small(id), "a@dest.test"))
							if got == "250" {
								break
							}
							if got == noLedger || got == noSpace {
								refused.Add(1)
								no[c].Add(1)
							} else if others.Add(1) < 5 {
								t.Errorf("%s: %s", id, got)
							}
							time.Sleep(50 * time.Millisecond)
							if f.ctx.Err() != nil {
								t.Errorf("%s was never taken: %s", id, got)
								return
							}
						}
						taken <- struct{}{}
					}
				})
			}
			benchUntil(t, f.ctx, "half of them are taken", func() bool { return len(taken) == clients*each/2 })
			give := fill(t, f.state())
			close(full)
			benchUntil(t, f.ctx, "clients are refused", func() bool { return refused.Load() > 2*clients })
			benchUntil(t, f.ctx, "the gate is shut", func() bool { return strings.HasPrefix(f.readyz(t), "503 ") })
			f.sees(t, `ledger.*(disk is full|SQLITE_FULL|no space left|disk I/O error)`, `ledger cannot be written, the gate answers 451`)
			for c := range no { // what went through the gate before it was shut has come
				was := no[c].Load()
				benchUntil(t, f.ctx, "each client is refused again", func() bool { return was >= done || no[c].Load() > was })
			}
			before := f.sink.Attempts()
			time.Sleep(300 * time.Millisecond)
			if n := f.sink.Attempts() - before; n > 0 {
				t.Errorf("%d messages reached a hop behind a shut gate", n)
			}
			give()
			wg.Wait()
			benchArrivals(t, f.sink, clients*each, clients*each, 2, clients)
			f.logged(t, `ledger can be written again`)
			f.recovers(t)
			f.sound(t, fds+8)
		})
	}
}

// TestFaultDepositsFull: the ledger has room and the vault has none, so that patients' mail alone waits.
func TestFaultDepositsFull(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "pickup", gatewaytest.Options{})
	dir := filepath.Join(f.state(), "deposits")
	benchCheck(t, os.Mkdir(dir, 0o700))
	mounted(t, dir, "4M")
	f.start(t)
	fds := f.fds(t)
	give := fill(t, dir)
	wants(t, "without room for a deposit", f.reply(t, f.large("m0"), "a@dest.test"), noSpace)
	wants(t, "mail for the clinic", f.reply(t, f.small("m1"), "colleague@clinic.test"), "550 5.7.1 Domaine de destination non desservi par cette passerelle (recipients.domains)")
	f.has(t, "a@dest.test", 0)
	f.logged(t, `no space left on device`)
	give()
	wants(t, "the repetition", f.reply(t, f.large("m0"), "a@dest.test"), "250")
	f.has(t, "a@dest.test", 1)
	if left, err := filepath.Glob(filepath.Join(dir, ".temp-*")); err != nil || len(left) > 0 {
		t.Errorf("unfinished deposits are left: %v %v", left, err)
	}
	f.sound(t, fds+8)
}

// TestFaultReadOnly: the kernel sets a disk with errors to read-only. That ends with a repair, and so with a start.
func TestFaultReadOnly(t *testing.T) { // not beside others: a mount namespace of theirs would keep the broken file system alive behind umount
	f := newFaulty(t, "plain", gatewaytest.Options{})
	image := mounted(t, f.state(), "16M")
	f.start(t)
	wants(t, "before", f.reply(t, f.small("m0"), "a@dest.test"), "250")
	device := strings.Fields(tool(t, "util-linux", "findmnt", "-no", "SOURCE", f.state()))[0]
	benchCheck(t, os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error"), []byte("1"), 0))
	time.Sleep(1100 * time.Millisecond) // the last proof of a writable ledger counts for a second
	wants(t, "on a read-only disk", f.reply(t, f.small("m1"), "b@dest.test"), noLedger)
	f.sees(t, `ledger.*(read-only|readonly|disk I/O error)`, `ledger cannot be written, the gate answers 451`)
	benchCheck(t, f.cmd.Process.Signal(syscall.SIGTERM))
	<-f.ended
	if out := f.refusesToStart(t); !strings.Contains(strings.ToLower(out), "read-only") {
		t.Errorf("a start on a read-only disk says %q", out)
	}
	tool(t, "mount", "umount", f.state())
	tool(t, "e2fsprogs", "sh", "-c", `e2fsck -fy "$0" >/dev/null; [ $? -le 1 ]`, image)
	mount(t, image, f.state())
	f.start(t)
	wants(t, "the repetition", f.reply(t, f.small("m1"), "b@dest.test"), "250")
	f.has(t, "b@dest.test", 1)
	f.recovers(t)
	f.sound(t, 0)
}

// TestFaultTempFolder: messages that memory does not hold wait, the others go; no half of one stays anywhere.
func TestFaultTempFolder(t *testing.T) {
	for name, breaks := range map[string]func(t *testing.T, tmp string) (mends func()){
		"gone": func(t *testing.T, tmp string) func() {
			benchCheck(t, os.Remove(tmp))
			return func() { benchCheck(t, os.Mkdir(tmp, 0o700)) }
		},
		"full": func(t *testing.T, tmp string) func() {
			mounted(t, tmp, "4M")
			return fill(t, tmp)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, "plain", gatewaytest.Options{})
			f.start(t)
			fds := f.fds(t)
			tmp := filepath.Join(f.root, "tmp")
			mends := breaks(t, tmp)
			for i := range 5 {
				wants(t, "a large message", f.reply(t, f.large(fmt.Sprint("m", i)), "a@dest.test"), noTemp)
			}
			wants(t, "a small message", f.reply(t, f.small("m9"), "b@dest.test"), "250")
			f.has(t, "a@dest.test", 0)
			f.logged(t, `neither memory nor the temp folder takes it.*no (space left|such file)`)
			if !strings.Contains(f.metrics(t), `passerelle_smtpd_replied_total{code="452",listener="lmtp"} 5`) {
				t.Error("/metrics: five replies of 452 are not counted")
			}
			mends()
			os.Remove(filepath.Join(tmp, "lost+found"))
			f.recovers(t)
			wants(t, "the repetition", f.reply(t, f.large("m0"), "a@dest.test"), "250")
			f.has(t, "a@dest.test", 1)
			f.sound(t, fds+8)
		})
	}
}

// TestFaultDiskStalls: the disk answers nothing for a while, as storage in a network does. Nobody waits long for his "later", what a hop
// had taken is known once the disk goes on, and nobody has it twice.
func TestFaultDiskStalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	asked := make(chan struct{}, 10)
	f := newFaulty(t, "plain", gatewaytest.Options{Stall: &gatewaytest.Stall{At: "dot", Go: release}, Rcpt: func(string, string) gatewaytest.Reply {
		asked <- struct{}{}
		return gatewaytest.Reply{}
	}})
	mounted(t, f.state(), "16M")
	f.start(t)
	fds := f.fds(t)
	inHand := make(chan string, 1)
	go func() { inHand <- replyText(f.send(true, f.small("m0"), "a@dest.test")) }()
	<-asked
	thaw := sync.OnceFunc(func() { exec.Command("fsfreeze", "-u", f.state()).Run() })
	t.Cleanup(thaw) // before it is unmounted
	defer time.AfterFunc(30*time.Second, thaw).Stop()
	tool(t, "util-linux", "fsfreeze", "-f", f.state())
	close(release)
	time.Sleep(1100 * time.Millisecond) // the last proof of a writable ledger counts for a second
	replies := make(chan string, 3)
	for i := range 3 {
		go func() { replies <- f.reply(t, f.small(fmt.Sprint("n", i)), "b@dest.test") }()
	}
	for range 3 {
		wants(t, "on a disk that stalls", <-replies, noLedger)
	}
	wants(t, "behind the shut gate", f.reply(t, f.small("n4"), "b@dest.test"), noLedger)
	f.sees(t, `ledger.*the disk stalls`, `ledger cannot be written, the gate answers 451.*the disk stalls`)
	f.has(t, "b@dest.test", 0)
	thaw()
	wants(t, "handed on before", <-inHand, "250")
	f.has(t, "a@dest.test", 1)
	f.recovers(t)
	wants(t, "the repetition", f.reply(t, f.small("n0"), "b@dest.test"), "250")
	f.has(t, "b@dest.test", 1)
	f.sound(t, fds+8)
}
