package addressbook

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"passerelle/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf stands in for the directory: an entry is found where each word begins one of its own.
type shelf struct {
	entries []Entry
	asOf    time.Time
	away    atomic.Bool
	asked   atomic.Int64
	hang    bool
}

func (s *shelf) Find(ctx context.Context, text string, limit int) (out []Entry, err error) {
	s.asked.Add(1)
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.away.Load() {
		return nil, errors.New("the mirror is missing")
	}
	for _, e := range s.entries {
		own := strings.Fields(fold(strings.Join([]string{e.FirstName, e.LastName, e.Structure, e.Service, e.Profession, e.Speciality, e.City, e.Address}, " ")))
		all := true
		for _, w := range strings.Fields(fold(text)) {
			all = all && slices.ContainsFunc(own, func(o string) bool { return strings.HasPrefix(o, w) })
		}
		if all && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (s *shelf) AsOf() time.Time { return s.asOf }

var today = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// newShelf has people worth finding and 50 of the name Martin.
func newShelf() *shelf {
	s := &shelf{asOf: today.Add(-50 * time.Hour), entries: []Entry{
		{Address: "jean.dupont@medecin.mssante.fr", FirstName: "Jean", LastName: "Dupont", Structure: "Cabinet des Lilas", Profession: "Médecin", Speciality: "Cardiologie", City: "Lyon", PostalCode: "69003"},
		{Address: "jean.dupont@medecin.mssante.fr", FirstName: "Jean", LastName: "Dupont", Structure: "Clinique du Parc", Profession: "Médecin", Speciality: "Cardiologie", City: "Villeurbanne", PostalCode: "69100"},
		{Address: "marie.dupond@infirmier.mssante.fr", FirstName: "Marie", LastName: "Dupond", Profession: "Infirmier", City: "Paris", PostalCode: "75011"},
		{Address: "helene.lefevre-noel@medecin.mssante.fr", FirstName: "Hélène", LastName: "Lefèvre-Noël", Structure: "Centre hospitalier de l’Œuvre", Service: "Maternité", Profession: "Sage-femme", City: "Besançon", PostalCode: "25000"},
		{Address: "urgences@chu-nantes.mssante.fr", Structure: "CHU de Nantes", Service: "Urgences", City: "Nantes", PostalCode: "44000"},
		{Address: "o'brien+x@medecin.mssante.fr", FirstName: "Sean (Dr)", LastName: "O'Brien, <script>alert(1)</script>", City: "Brest"},
	}}
	for i := range 50 {
		s.entries = append(s.entries, Entry{Address: fmt.Sprintf("martin%02d@medecin.mssante.fr", i), FirstName: fmt.Sprintf("Prénom%c%c", 'A'+i/26, 'a'+i%26), LastName: "Martin", Profession: "Médecin", City: "Lille"})
	}
	return s
}

func newBook(t *testing.T, f Finder, change ...func(*Config)) *Book {
	t.Helper()
	all := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}
	cfg := Config{Finder: f, Allow: func(netip.Addr, time.Time) bool { return true }, PageNetworks: all, LDAPNetworks: all, Clinic: "Clinique des Tilleuls",
		Now: func() time.Time { return today }, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, c := range change {
		c(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve opens the LDAP door and gives its address.
func serve(t *testing.T, b *Book, change ...func(*ServerConfig)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ServerConfig{Listener: l, Book: func() *Book { return b }}
	for _, c := range change {
		c(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// certificate makes one for localhost, and a file with its CA for the client to trust.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	ca, err := gatewaytest.NewCA("Clinic")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "localhost"}, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf.TLS()}}, file
}
