package main

import (
	"crypto/x509/pkix"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"passerelle/gateway/gatewaytest"
)

// space is the trust space of a script: its folder of certificates and its list's signer.
type space struct {
	ca     *gatewaytest.CA
	signer *gatewaytest.ListSigner
	lists  int
}

var spaces sync.Map // by the script's folder

// signList writes a signed white list: file, its age, and its domains, each DOMAIN=DN. The certificates lie in the folder trust.
func signList(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := spaces.Load(ts.MkAbs("."))
	if !ok {
		ca, err := gatewaytest.NewCA("AC test")
		ts.Check(err)
		own, err := ca.IssueLocal(pkix.Name{CommonName: "mss.clinic.test"})
		ts.Check(err)
		ts.Check(ca.WriteDir(ts.MkAbs("trust"), own))
		signer, err := ca.ListSigner()
		ts.Check(err)
		v = &space{ca: ca, signer: signer}
		spaces.Store(ts.MkAbs("."), v)
	}
	age, err := time.ParseDuration(args[1])
	ts.Check(err)
	var entries []gatewaytest.ListEntry
	for _, e := range args[2:] {
		domain, dn, _ := strings.Cut(e, "=")
		entries = append(entries, gatewaytest.ListEntry{Domain: domain, DN: dn})
	}
	s := v.(*space)
	raw, err := s.signer.Sign(gatewaytest.WhiteList(time.Now().Add(-age), entries...))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o600))
	s.lists++
	changed := time.Now().Add(time.Duration(s.lists-10) * time.Minute) // the server tells seconds
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), changed, changed))
}
