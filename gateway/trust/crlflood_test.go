package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"
)

// forgedList is a list of an authority's name with n entries, with a signature of nobody.
func forgedList(t *testing.T, ca *authority, n int) []byte {
	t.Helper()
	entry, err := asn1.Marshal(pkix.RevokedCertificate{SerialNumber: big.NewInt(1), RevocationTime: clock})
	if err != nil {
		t.Fatal(err)
	}
	alg := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	tbs, err := asn1.Marshal(struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		From, Till time.Time
		Entries    asn1.RawValue
	}{1, alg, asn1.RawValue{FullBytes: ca.cert.RawSubject}, clock, clock.Add(time.Hour), asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Repeat(entry, n)}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, alg, asn1.BitString{Bytes: make([]byte, 64), BitLength: 512}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Lists come over HTTP: whoever stands in the way can send any bytes. Those that no authority signed cost no more memory than they have.
func TestForgedListCostsLittle(t *testing.T) {
	ca := newCA(t, "AC", nil)
	raw := forgedList(t, ca, 200_000) // the largest would have 3 million
	if _, err := x509.ParseRevocationList(raw); err != nil {
		t.Fatalf("the test proves nothing: %v", err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := parseCRL(raw, "forged", []*x509.Certificate{ca.cert})
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "no known CA signed it") {
		t.Errorf("got %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(raw)) {
		t.Errorf("%d octets of memory for %d of a list", used, len(raw))
	}
}
