package deploy_test

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
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/gatewaytest"
)

// faulty is the real binary in a world that a test breaks, with the hop behind it.
type faulty struct {
	*benchGateway
	sink *gatewaytest.NextHop
	ctx  context.Context
	s    searcher
	mark string
}

// noLedger is what every recipient reads while the ledger cannot be written.
const noLedger = "451 4.3.0 Registre de la passerelle indisponible, nouvel essai plus tard"

// newFaulty prepares the binary under the route's bench file with little memory for messages, so that a common one needs a temp file.
func newFaulty(t *testing.T, route string, opt gatewaytest.Options) *faulty {
	t.Helper()
	if testing.Short() {
		t.Skip("drives the real binary into faults")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	sink, env := benchSink(t, route, opt)
	f := &faulty{benchGateway: benchNew(t, binary(t), route, sink.Addr(), env), sink: sink, ctx: ctx, mark: benchMark()}
	f.s = newSearcher(f.mark)
	f.config = filepath.Join(f.root, "passerelle.yaml")
	f.write(t, "limits: {memory: 256KiB}\n")
	return f
}

// write makes the config: the bench file and what comes on top.
func (f *faulty) write(t *testing.T, more string) {
	t.Helper()
	benchCheck(t, os.WriteFile(f.config, append(bytes.Replace(read(t, "bench", f.route+".yaml"), []byte("level: warn"), []byte("level: info"), 1), more...), 0o600))
}

// reply is what a client that hands one message in is told, "250" or the whole reply.
func (f *faulty) reply(t *testing.T, letter []byte, to ...string) string {
	t.Helper()
	began := time.Now()
	err := f.send(true, letter, to...)
	if d := time.Since(began); d > 12*time.Second {
		t.Errorf("the reply took %v: Postfix would hold a delivery process so long", d)
	}
	return replyText(err)
}

func replyText(err error) string {
	var no *smtp.SMTPError
	var many smtp.LMTPDataError
	switch {
	case err == nil:
		return "250"
	case errors.As(err, &many):
		for _, no := range many {
			return replyText(no)
		}
	case errors.As(err, &no):
		return fmt.Sprintf("%d %d.%d.%d %s", no.Code, no.EnhancedCode[0], no.EnhancedCode[1], no.EnhancedCode[2], no.Message)
	}
	return err.Error()
}

// wants checks a reply word by word.
func wants(t *testing.T, when, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

// small is a letter that fits in memory, large one that needs a temp file.
func (f *faulty) small(id string) []byte { return benchLetter(id, f.mark, 4<<10) }
func (f *faulty) large(id string) []byte { return benchLetter(id, f.mark, 1<<20) }

// readyz is what the operator reads there, with the status in front.
func (f *faulty) readyz(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.console+"/readyz", nil)
	benchCheck(t, err)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	benchCheck(t, err)
	return fmt.Sprint(r.StatusCode, " ", string(page))
}

// sees checks what the operator sees while the fault lasts: /readyz 503 with that reason, the gauge at 0, and a line in the log.
func (f *faulty) sees(t *testing.T, reason, line string) {
	t.Helper()
	if r := f.readyz(t); !strings.HasPrefix(r, "503 ") || !regexp.MustCompile(reason).MatchString(r) {
		t.Errorf("/readyz: %s, want 503 and %q", r, reason)
	}
	for _, m := range []string{"passerelle_ledger_ready 0", "passerelle_gateway_ready 0"} {
		if !strings.Contains(f.metrics(t), m) {
			t.Errorf("/metrics: no %q", m)
		}
	}
	f.logged(t, line)
}

func (f *faulty) log(t *testing.T) string { t.Helper(); return string(read(t, f.root, "log")) }

// logged waits for a line of the log: what is probed each second may be late on a busy machine.
func (f *faulty) logged(t *testing.T, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	benchUntil(t, ctx, fmt.Sprintf("the log says %q", line), func() bool { return regexp.MustCompile(line).MatchString(f.log(t)) })
}

// recovers waits until the gateway is ready by itself, then has a new message delivered once.
func (f *faulty) recovers(t *testing.T) {
	t.Helper()
	benchUntil(t, f.ctx, "/readyz is 200 again", func() bool { return strings.HasPrefix(f.readyz(t), "200 ") })
	if !strings.Contains(f.metrics(t), "passerelle_ledger_ready 1") {
		t.Error("/metrics: the ledger is not ready")
	}
	wants(t, "afterwards", f.reply(t, f.large("after"), "after@dest.test"), "250")
	f.has(t, "after@dest.test", 1)
}

func (f *faulty) has(t *testing.T, to string, n int) {
	t.Helper()
	if got := len(f.sink.To(to)); got != n {
		t.Errorf("%s has %d copies, want %d", to, got, n)
	}
}

// sound ends every test: nothing in clear lies about, no temp file has a name, no descriptor is left over, and the log has no panic.
func (f *faulty) sound(t *testing.T, fds int) {
	t.Helper()
	searchGateway(t, "after the fault", f.benchGateway, f.s, true)
	left, err := os.ReadDir(filepath.Join(f.root, "tmp"))
	if err == nil && len(left) > 0 {
		t.Errorf("temp files are left: %v", left)
	}
	if fds > 0 {
		ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
		defer cancel()
		benchUntil(t, ctx, fmt.Sprintf("the process has no more than %d descriptors", fds), func() bool { return f.fds(t) <= fds })
	}
	if strings.Contains(f.log(t), "panic") {
		t.Error("the log has a panic")
	}
	f.stop(t)
}

// fds counts the descriptors of the process.
func (f *faulty) fds(t *testing.T) int {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.cmd.Process.Pid))
	benchCheck(t, err)
	return len(names)
}

// tool runs a program of the system.
func tool(t *testing.T, pkg string, arg ...string) string {
	t.Helper()
	if _, err := exec.LookPath(arg[0]); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", arg[0], pkg)
	}
	out, err := exec.CommandContext(t.Context(), arg[0], arg[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(arg, " "), err, out)
	}
	return string(out)
}

// mounted lays a file system of its own over a folder, an ext4 in a file, so that its disk can fill up and fail.
func mounted(t *testing.T, dir, size string) (image string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a full or failing disk is a file system of its own: run as root, or -short")
	}
	image = filepath.Join(t.TempDir(), "disk")
	tool(t, "coreutils", "truncate", "-s", size, image)
	tool(t, "e2fsprogs", "mkfs.ext4", "-q", "-m", "0", "-E", "root_owner=0:0", image)
	mount(t, image, dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() }) // t.Context is over by now
	return image
}

func mount(t *testing.T, image, dir string) {
	t.Helper()
	tool(t, "mount", "mount", "-o", "loop,errors=remount-ro", image, dir)
	benchCheck(t, os.Chmod(dir, 0o700))
}
