package gatewaytest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// StatusServer tells by HTTP what a CA revoked: its list at /crl and an OCSP responder at /ocsp. It is safe for concurrent use.
type StatusServer struct {
	ca     *CA
	url    string
	server *http.Server
	ended  chan struct{}

	mu   sync.Mutex
	how  Status
	crl  int
	ocsp int
}

// Status is how a StatusServer answers.
type Status struct {
	// Down: nothing is answered but 503. Silent: nothing at all, until the client goes.
	Down, Silent bool
	// Valid is how long from now a list or an answer is good; 0 is 24 h, a negative time makes stale ones.
	Valid time.Duration
	// NoCRL and NoOCSP shut one of the two.
	NoCRL, NoOCSP bool
	// CRL, where set, is served instead of the CA's list.
	CRL []byte
	// Delegate, where set, answers by OCSP for the CA.
	Delegate *Issued
}

// Serve listens on a free port of 127.0.0.1 until Close.
func (ca *CA) Serve() (*StatusServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as status server: %w", err)
	}
	s := &StatusServer{ca: ca, url: "http://" + l.Addr().String(), ended: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /crl", s.serveCRL)
	mux.HandleFunc("POST /ocsp", s.serveOCSP)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { defer close(s.ended); s.server.Serve(l) }()
	return s, nil
}

// Close cuts all sessions.
func (s *StatusServer) Close() error {
	err := s.server.Close()
	<-s.ended
	return err
}

// CRLURL and OCSPURL are what certificates name.
func (s *StatusServer) CRLURL() string  { return s.url + "/crl" }
func (s *StatusServer) OCSPURL() string { return s.url + "/ocsp" }

// Set changes how it answers.
func (s *StatusServer) Set(how Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.how = how
}

// Asked is how often each was asked.
func (s *StatusServer) Asked() (crl, ocsp int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crl, s.ocsp
}

// name puts the server's addresses into a certificate.
func (s *StatusServer) name(t *x509.Certificate) {
	if s != nil {
		t.CRLDistributionPoints, t.OCSPServer = []string{s.CRLURL()}, []string{s.OCSPURL()}
	}
}

// begin counts a question and gives how it is to be answered; false: it was.
func (s *StatusServer) begin(w http.ResponseWriter, r *http.Request, count *int, shut func(Status) bool) (Status, bool) {
	s.mu.Lock()
	*count++
	how := s.how
	s.mu.Unlock()
	if how.Silent {
		<-r.Context().Done()
		return how, false
	}
	if how.Down || shut(how) {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return how, false
	}
	if how.Valid == 0 {
		how.Valid = 24 * time.Hour
	}
	return how, true
}

func (s *StatusServer) serveCRL(w http.ResponseWriter, r *http.Request) {
	how, ok := s.begin(w, r, &s.crl, func(h Status) bool { return h.NoCRL })
	if !ok {
		return
	}
	raw := how.CRL
	if raw == nil {
		list, err := s.ca.CRL(how.Valid)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		block, _ := pem.Decode(list)
		raw = block.Bytes
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Write(raw)
}

func (s *StatusServer) serveOCSP(w http.ResponseWriter, r *http.Request) {
	how, ok := s.begin(w, r, &s.ocsp, func(h Status) bool { return h.NoOCSP })
	if !ok {
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(raw)
	if err != nil {
		w.Write(ocsp.MalformedRequestErrorResponse)
		return
	}
	answer, err := s.ca.OCSP(q, how.Valid, how.Delegate)
	if err != nil {
		w.Write(ocsp.InternalErrorErrorResponse)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Write(answer)
}

// OCSP signs an answer that is good for valid, by the CA itself or its delegate.
func (ca *CA) OCSP(q *ocsp.Request, valid time.Duration, by *Issued) ([]byte, error) {
	next := ca.now().Add(valid)
	this := ca.now().Add(-time.Minute)
	if next.Before(this) {
		this = next.Add(-time.Hour)
	}
	t := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: this, NextUpdate: next, IssuerHash: crypto.SHA1}
	if ca.has(q.SerialNumber) {
		t.Status, t.RevokedAt = ocsp.Revoked, this.Add(-time.Minute)
	}
	cert, key := ca.Cert, ca.key
	if by != nil {
		cert, key, t.Certificate = by.Cert, by.Key, by.Cert
	}
	return ocsp.CreateResponse(ca.Cert, cert, t, key)
}

// WriteOpenSSL writes what `openssl ocsp -index index.txt -CA ca.pem -rsigner signer.pem -rkey signer-key.pem` answers from.
func (ca *CA) WriteOpenSSL(dir string, signer *Issued, issued ...*Issued) error {
	key, err := signer.KeyPEM()
	if err != nil {
		return err
	}
	var index bytes.Buffer
	for _, i := range issued {
		state, revoked := "V", ""
		if ca.has(i.Cert.SerialNumber) {
			state, revoked = "R", ca.now().Add(-time.Hour).UTC().Format("060102150405Z")
		}
		hex := fmt.Sprintf("%X", i.Cert.SerialNumber)
		hex = strings.Repeat("0", len(hex)%2) + hex
		fmt.Fprintf(&index, "%s\t%s\t%s\t%s\tunknown\t/CN=%s\n", state, i.Cert.NotAfter.UTC().Format("060102150405Z"), revoked, hex, i.Cert.Subject.CommonName)
	}
	for name, b := range map[string][]byte{"index.txt": index.Bytes(), "index.txt.attr": []byte("unique_subject = no\n"), "ca.pem": ca.CertPEM(), "signer.pem": signer.CertPEM(), "signer-key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Responder issues the certificate of an OCSP responder of this authority.
func (ca *CA) Responder() (*Issued, error) {
	return ca.Issue(Leaf{Subject: pkix.Name{CommonName: "OCSP of " + ca.Cert.Subject.CommonName}, Change: func(t *x509.Certificate) {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	}})
}
