package protect

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"passerelle/crypto/lines"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// TestMemory: a message of 100 MB is sealed in every form by a process of its own that never holds more than 64 MB, from one encrypted temp
// file to another: what the Go runtime ever asked for, and what lay in memory at its peak. The race detector has memory of its own and
// takes minutes: make test runs it without.
func TestMemory(t *testing.T) {
	const limit = 64 << 20
	if form := os.Getenv("SEAL_FORM"); form != "" {
		sealLarge(t, form)
		return
	}
	if raced() {
		t.Skip("with the race detector")
	}
	k := newRing(t)
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key"), k.rsa.CertFile
	if err := os.WriteFile(key, k.key, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range k.forms(t) {
		if strings.Contains(f.name, "P-256") { // only the wrapping of the key differs
			continue
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$", "-test.v")
		cmd.Env = append(os.Environ(), "SEAL_FORM="+f.name, "SEAL_KEY="+key, "SEAL_CERT="+cert)
		out, err := cmd.CombinedOutput()
		var sys, peak, size int64
		at := bytes.Index(out, []byte("sys="))
		if err != nil || at < 0 {
			t.Fatalf("%s: %v\n%s", f.name, err, out)
		}
		if _, err := fmt.Sscanf(string(out[at:]), "sys=%d peak=%d size=%d", &sys, &peak, &size); err != nil || size < 100<<20 {
			t.Fatalf("%s: %v\n%s", f.name, err, out)
		}
		t.Logf("%s: %d MB sealed; the runtime asked for %d MB, %d MB lay in memory at the peak", f.name, size>>20, sys>>20, peak>>20)
		if sys > limit || peak > limit {
			t.Errorf("%s: %d bytes asked for, %d at the peak", f.name, sys, peak)
		}
	}
}

func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// sealLarge is the process.
func sealLarge(t *testing.T, name string) {
	key, err := os.ReadFile(os.Getenv("SEAL_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	k := &ring{key: key}
	block, err := os.ReadFile(os.Getenv("SEAL_CERT"))
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := pem.Decode(block)
	c, err := x509.ParseCertificate(cert.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	k.rsa = &gatewaytest.Correspondent{Certificate: c}
	k.ec = k.rsa
	o := options(t)
	o.Budget = message.NewBudget(0, t.TempDir())
	w := o.Budget.NewWriter(0)
	io.WriteString(w, crlf(head+"Content-Type: multipart/mixed; boundary=m\n\n--m\n\n"+marker+"\n--m\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"))
	var in [57 << 10]byte
	rand.NewChaCha8([32]byte{1}).Read(in[:])
	text := lines.NewWriter(w)
	for w.Size() < 100<<20 {
		text.Write(in[:])
	}
	text.Close()
	io.WriteString(w, "--m--\r\n")
	b, err := w.Body()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil || x.Unclear != "" {
		t.Fatal(err, x.Unclear)
	}
	for _, f := range k.forms(t) {
		if f.name != name {
			continue
		}
		sealed, err := f.seal(b, x, o)
		if err != nil {
			t.Fatal(err)
		}
		if sealed.Peek(0) != nil || sealed.Size() < b.Size() && name != "zip" {
			t.Errorf("the result lies in memory, or is %d bytes of %d", sealed.Size(), b.Size())
		}
		sealed.Close()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kb int64
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Sscan(after, &kb)
	fmt.Printf("sys=%d peak=%d size=%d\n", m.Sys, kb<<10, b.Size())
}
