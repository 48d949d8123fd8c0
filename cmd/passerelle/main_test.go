package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"passerelle/gateway/gatewaytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"passerelle": main})
}

// TestScripts runs testdata/script against the real binary: what an operator types, and what he reads.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "../../testdata/script", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "", Setup: setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ports": ports, "await": await, "sigterm": sigterm, "serve-files": serveFiles, "sign-list": signList,
			"hops": hops, "letter": letter, "mailed": mailed, "found": found, "form": form, "days": days}})
}

// ports puts a free address of loopback where a file says METRICS, and into the variable of that name.
func ports(ts *testscript.TestScript, _ bool, args []string) {
	port, err := gatewaytest.FreePort()
	ts.Check(err)
	addr := "127.0.0.1:" + strconv.Itoa(port)
	ts.Setenv("METRICS", addr)
	for _, f := range args {
		b := bytes.ReplaceAll([]byte(ts.ReadFile(f)), []byte("METRICS"), []byte(addr))
		ts.Check(os.WriteFile(ts.MkAbs(f), b, 0o600))
	}
}

// await asks a page until it answers 200.
func await(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		resp, err := http.Get(args[0])
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
	ts.Fatalf("%s did not answer 200 in time", args[0])
}

// sigterm stops the gateway of a state folder as systemd does; its process id stands in the lock (testscript's kill knows INT and KILL).
func sigterm(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0] + "/passerelle.db.lock")))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGTERM))
}

// serveFiles serves a folder over TLS until the script ends: where a file says FILES its address is put, and the authority that signed its
// certificate lies in ca.pem.
func serveFiles(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewTLSServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o600))
	for _, f := range args[1:] {
		b := bytes.ReplaceAll([]byte(ts.ReadFile(f)), []byte("FILES"), []byte(srv.URL))
		ts.Check(os.WriteFile(ts.MkAbs(f), b, 0o600))
	}
}

// TestExitCodes: 2 for the command line and the config, 1 for what fails or does not hold.
func TestExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("bad.yaml", []byte("mode: sometimes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := "state_dir: state\nclinic: {domains: [clinic.test]}\nlisten: {portal: {addr: \"\"}}\nhops: {clinic: {addr: \"127.0.0.1:9\"}, internet: {addr: \"127.0.0.1:9\"}}\nrules: [{name: rest, route: plain}]\n"
	if err := os.WriteFile("good.yaml", []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{0, nil}, {0, []string{"--help"}}, {0, []string{"version"}}, {2, []string{"serv"}}, {2, []string{"explain"}}, {2, []string{"directory"}},
		{2, []string{"serve", "--config", "bad.yaml"}}, {2, []string{"check", "--config", "bad.yaml"}}, {2, []string{"doctor", "--config", "bad.yaml"}}, {2, []string{"explain", "--config", "bad.yaml", "--from", "a@b.test", "--to", "c@d.test"}},
		{2, []string{"serve", "--config", "missing.yaml"}}, {2, []string{"explain", "--config", "good.yaml", "--from", "a", "--to", "c@d.test"}}, {2, []string{"deposits", "unblock", "--sender", "a@b.test"}},
		{2, []string{"deposits", "extend", "0", "--by", "0s"}}, {1, []string{"trace", "--config", "good.yaml"}}, {2, []string{"trace", "--config", "good.yaml", "-n", "0"}},
		{1, []string{"directory", "status", "--state-dir", "."}}, {1, []string{"directory", "import", "--state-dir", ".", "bad.yaml"}},
	} {
		var out, errs bytes.Buffer
		if got := run(t.Context(), c.args, &out, &errs); got != c.want {
			t.Errorf("%q: exit code %d, want %d: %s", c.args, got, c.want, errs.String())
		}
	}
}
