package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// cpuTime is what the process worked, so that others on the machine do not count.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLargeWhiteList holds a list of 100 000 domains, each with a DN of its own (the real one has 15 times fewer), against the limits of the
// issue: 3 s of work and 200 MB for the whole process, from the file to the list in force. It runs in a process of its own.
func TestLargeWhiteList(t *testing.T) {
	const domains = 100_000
	if dir := os.Getenv("PASSERELLE_LARGE_LIST"); dir != "" {
		largeList(t, dir)
		return
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) { // it costs ten times as much
		out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "^TestLargeWhiteList$", ".").CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	w := listedWorld(t)
	e := make([]gatewaytest.ListEntry, domains)
	for i := range e {
		e[i] = gatewaytest.ListEntry{Domain: fmt.Sprintf("etablissement-%06d.mssante.test", i), DN: dnOf(fmt.Sprintf("smtp%06d.etablissement.test", i))}
	}
	raw := sign(t, w.inter.signer(nil, nil), list(clock.Add(-time.Hour), e...))
	dir := t.TempDir()
	write(t, filepath.Join(dir, listName), raw)
	for _, f := range []string{"ca.pem", "cert.pem", "key.pem", "root.crl", "inter.crl"} {
		b, err := os.ReadFile(w.file(f))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, f), b)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLargeWhiteList$", "-test.v")
	cmd.Env = append(os.Environ(), "PASSERELLE_LARGE_LIST="+dir, fmt.Sprintf("PASSERELLE_CLOCK=%d", clock.Unix()))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var ms, mb, n int
	_, line, _ := bytes.Cut(out, []byte("LARGE "))
	if _, err := fmt.Sscanf(string(line), "%d %d %d", &n, &ms, &mb); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d octets, %d domains: %d ms, peak %d MB", len(raw), n, ms, mb)
	if n != domains || ms > 3000 || mb > 200 {
		t.Errorf("%d domains in %d ms with %d MB, want %d in under 3000 ms with under 200 MB", n, ms, mb, domains)
	}
}

func largeList(t *testing.T, dir string) {
	unix, err := strconv.ParseInt(os.Getenv("PASSERELLE_CLOCK"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	f := func(n string) string { return filepath.Join(dir, n) }
	before := cpuTime(t)
	s, err := New(Config{CA: []string{f("ca.pem")}, Cert: f("cert.pem"), Key: f("key.pem"), CRL: []string{f("root.crl"), f("inter.crl")},
		Now:       func() time.Time { return time.Unix(unix, 0) },
		WhiteList: &WhiteListConfig{URL: "https://127.0.0.1:1/", StateDir: dir, CN: signerCN, Issuer: "AC ORGANISATIONS", EKU: x509.ExtKeyUsageEmailProtection}})
	if err != nil {
		t.Fatal(err)
	}
	took := cpuTime(t) - before
	st := s.WhiteList()
	if st.Doubt != "" {
		t.Fatal(st.Doubt)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(peak)[0])
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("LARGE", st.Domains, took.Milliseconds(), kb/1024)
}
