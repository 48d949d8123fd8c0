package trust

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync"
	"testing"
	"time"
)

// kept is a session with a peer of valide.test in both directions, and a clock that the test turns.
type kept struct {
	*world
	space *Space
	cs    tls.ConnectionState
	now   time.Time
}

// keepSession makes the session and finds it good; change alters the peer's certificate, listUntil is the leaf issuer's list's NextUpdate.
func keepSession(t *testing.T, change func(*x509.Certificate), listUntil time.Time, config ...func(*kept)) *kept {
	t.Helper()
	k := &kept{world: newWorld(t), now: clock}
	k.cfg.Now = func() time.Time { return k.now }
	k.inter.crl(k.file("inter.crl"), listUntil)
	for _, f := range config {
		f(k)
	}
	k.space = k.world.space()
	peer := k.inter.issue(peerName, change, nil) // serial 102
	_, k.cs, _, _ = shake(t, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{peer}}, k.space.ServerTLS())
	k.want("at the beginning", "")
	return k
}

// want asks for both roles.
func (k *kept) want(when, want string) {
	k.t.Helper()
	_, check, err := k.space.ClientTLS("valide.test")
	if err != nil {
		k.t.Fatal(err)
	}
	if got := reason(check(k.cs)); got != want {
		k.t.Errorf("%s: check gives %q, want %q", when, got, want)
	}
	for _, domain := range []string{"valide.test", ""} {
		if got := reason(k.space.AdmitPeer(k.cs, domain)); got != want {
			k.t.Errorf("%s: AdmitPeer of %q gives %q, want %q", when, domain, got, want)
		}
	}
}

// proofs gives what is remembered, for both roles.
func (k *kept) proofs() (both [2]*proof) {
	p := &k.space.state.Load().proofs
	for i := range both {
		both[i] = p.good[proofKey{shown(k.cs.PeerCertificates), role(i)}]
	}
	return both
}

// TestProofEnds: what the remembered proof said is refused at the first question after it ceased to be so, the session still open.
func TestProofEnds(t *testing.T) {
	far := clock.Add(24 * time.Hour)
	soon := func(c *x509.Certificate) { c.NotAfter = clock.Add(20 * time.Second) }
	for title, c := range map[string]struct {
		change  func(*x509.Certificate)
		list    time.Time
		grace   time.Duration
		then    func(k *kept)
		want    string
		atFirst bool // before the time has come: the same proofs
	}{
		"leaf expires":                        {change: soon, list: far, then: func(k *kept) { k.now = clock.Add(21 * time.Second) }, want: Expired},
		"leaf at its last second":             {change: soon, list: far, then: func(k *kept) { k.now = clock.Add(20 * time.Second) }, atFirst: true},
		"list is stale":                       {list: clock.Add(20 * time.Second), then: func(k *kept) { k.now = clock.Add(21 * time.Second) }, want: Unproven + " later"},
		"list is stale, in grace":             {list: clock.Add(20 * time.Second), grace: 10 * time.Second, then: func(k *kept) { k.now = clock.Add(30 * time.Second) }, atFirst: true},
		"list is stale, past grace":           {list: clock.Add(20 * time.Second), grace: 10 * time.Second, then: func(k *kept) { k.now = clock.Add(31 * time.Second) }, want: Unproven + " later"},
		"clock set back before it was issued": {list: far, then: func(k *kept) { k.now = clock.Add(-2 * time.Hour) }, want: Expired},
		"revoked in a new list": {list: far, then: func(k *kept) {
			k.inter.crl(k.file("inter.crl"), far, k.cs.PeerCertificates[0].SerialNumber)
			k.reload()
		}, want: Revoked},
		"intermediate revoked": {list: far, then: func(k *kept) {
			k.root.crl(k.file("root.crl"), far, k.inter.cert.SerialNumber)
			k.reload()
		}, want: Revoked},
		"stale list swapped in": {list: far, then: func(k *kept) {
			k.inter.crl(k.file("inter.crl"), clock.Add(-time.Hour))
			k.reload()
		}, want: Unproven + " later"},
		"another authority": {list: far, then: func(k *kept) {
			other := newCA(k.t, "AC AUTRE", nil)
			other.crl(k.file("root.crl"), far)
			other.crl(k.file("inter.crl"), far)
			writePEM(k.t, k.file("ca.pem"), "CERTIFICATE", other.cert.Raw)
			k.reload()
		}, want: Chain},
		"new config without the lists": {list: far, then: func(k *kept) {
			os.Remove(k.file("inter.crl"))
			k.space = k.world.space()
		}, want: Unproven + " later"},
		"new config, the list of domains names another": {list: far, then: func(k *kept) {
			k.cfg.Domains = Domains{"valide.test": {dnOf("autre.test")}}
			k.space = k.world.space()
		}, want: WrongName},
	} {
		t.Run(title, func(t *testing.T) {
			k := keepSession(t, c.change, c.list, func(k *kept) { k.cfg.CRLGrace = c.grace })
			before := k.proofs()
			if before[0] == nil || before[1] == nil {
				t.Fatal("nothing is remembered")
			}
			c.then(k)
			k.want("then", c.want)
			k.want("again", c.want)
			if same := k.proofs() == before; same != c.atFirst {
				t.Errorf("the same proofs: %v, want %v", same, c.atFirst)
			}
		})
	}
}

func (k *kept) reload() {
	k.t.Helper()
	if err := k.space.Reload(); err != nil {
		k.t.Fatal(err)
	}
}

// TestProofClock: a proof lasts for proofAge, and not beyond any step back of the clock. An old list beside the fresh one shortens nothing.
func TestProofClock(t *testing.T) {
	k := keepSession(t, nil, clock.Add(24*time.Hour), func(k *kept) {
		k.inter.crl(k.file("old.crl"), clock.Add(-time.Hour))
		k.cfg.CRL = append(k.cfg.CRL, k.file("old.crl"))
	})
	first := k.proofs()
	for _, step := range []struct {
		at   time.Duration
		same bool
	}{{0, true}, {proofAge - 1, true}, {proofAge, false}, {proofAge + 30*time.Second, true}, {proofAge + 29*time.Second, false}, {proofAge + 30*time.Second, true}, {-time.Second, false}} {
		k.now = clock.Add(step.at)
		k.want(step.at.String(), "")
		now := k.proofs()
		if same := now == first; same != step.same {
			t.Errorf("at %s: the same proofs %v, want %v", step.at, same, step.same)
		}
		first = now
	}
}

// TestProofIsNarrow: a proof is for one role and for what was shown, and faults leave none.
func TestProofIsNarrow(t *testing.T) {
	k := keepSession(t, nil, clock.Add(24*time.Hour))
	chain := func(c tls.Certificate) tls.ConnectionState {
		cs := tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{c.Leaf}}
		for _, der := range c.Certificate[1:] {
			up, _ := x509.ParseCertificate(der)
			cs.PeerCertificates = append(cs.PeerCertificates, up)
		}
		return cs
	}
	clientOnly := chain(k.inter.issue(peerName, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil))
	_, check, _ := k.space.ClientTLS("valide.test")
	for range 2 {
		if err := k.space.AdmitPeer(clientOnly, "valide.test"); err != nil {
			t.Error(err)
		}
		if got := reason(check(clientOnly)); got != Chain {
			t.Errorf("what is good for a client passes for a server: %q", got)
		}
	}
	old := k.cs
	old.Version = tls.VersionTLS11
	if got := reason(check(old)); got != OldTLS {
		t.Errorf("known certificate under TLS 1.1: %q", got)
	}
	_, autre, _ := k.space.ClientTLS("autre.test")
	if got := reason(autre(k.cs)); got != WrongName {
		t.Errorf("known certificate for another's domain: %q", got)
	}
	before := len(k.space.state.Load().proofs.good)
	for _, bad := range []tls.Certificate{
		newCA(t, "X", nil).issue(peerName, nil, nil),
		k.inter.issue(peerName, func(c *x509.Certificate) { c.NotAfter = clock.Add(-time.Second) }, nil),
	} {
		check(chain(bad))
		k.space.AdmitPeer(chain(bad), "valide.test")
	}
	if after := len(k.space.state.Load().proofs.good); after != before {
		t.Errorf("faults were remembered: %d proofs, before %d", after, before)
	}
	p := &k.space.state.Load().proofs
	for i := range 3 * maxProofs {
		p.keep(proofKey{shown: [32]byte{byte(i), byte(i >> 8)}}, &proof{})
		if len(p.good) > maxProofs {
			t.Fatalf("%d proofs are remembered", len(p.good))
		}
	}
}

// TestProofRevokedUnderLoad: once Reload has returned no question gets the old answer, however many are asked meanwhile.
func TestProofRevokedUnderLoad(t *testing.T) {
	k := keepSession(t, nil, clock.Add(24*time.Hour))
	_, check, _ := k.space.ClientTLS("valide.test")
	k.inter.crl(k.file("inter.crl"), clock.Add(24*time.Hour), k.cs.PeerCertificates[0].SerialNumber)
	reloaded := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for last := false; !last; {
				select {
				case <-reloaded:
					last = true
				default:
				}
				if got := reason(check(k.cs)); last && got != Revoked {
					t.Errorf("after the reload: %q", got)
				}
			}
		})
	}
	k.reload()
	close(reloaded)
	wg.Wait()
}

func BenchmarkCheckKept(b *testing.B) {
	w := newWorld(b)
	s := w.space()
	peer := w.inter.issue(peerName, nil, nil)
	cs := tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{peer.Leaf, w.inter.cert}}
	for b.Loop() {
		_, check, err := s.ClientTLS("valide.test")
		if err != nil {
			b.Fatal(err)
		}
		if err := check(cs); err != nil {
			b.Fatal(err)
		}
	}
}
