package portal

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"passerelle/gateway/vault"
)

// counted counts what is read of payloads.
type countedBlob struct {
	vault.Blob
	read *atomic.Int64
}

func (b countedBlob) ReadAt(p []byte, off int64) (int, error) {
	b.read.Add(int64(len(p)))
	return b.Blob.ReadAt(p, off)
}

// A request for thousands of single octets, a segment of 64 KiB unsealed for each, gets the file once: some hundred megabytes would be read and
// unsealed, or as many requests sent to a bucket, for a header of 32 kB.
func TestManyRanges(t *testing.T) {
	var read atomic.Int64
	s := newSite(t, func(s *site) { s.opened = func(b vault.Blob) vault.Blob { return countedBlob{b, &read} } })
	d, b := s.deposit(), &browser{s: s}
	b.login(d)
	var ranges strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&ranges, ",%d-%d", i%2*200_000, i%2*200_000)
	}
	for _, path := range []string{"/f/0", "/v/0"} {
		read.Store(0)
		r, body := b.do("GET", d.Link+path, nil, "Range", "bytes="+ranges.String()[1:])
		if r.StatusCode != http.StatusOK || body != report || read.Load() > 4<<20 {
			t.Errorf("%s: %s, %d octets for %d read", path, r.Status, len(body), read.Load())
		}
		if r, body := b.do("GET", d.Link+path, nil, "Range", "bytes=5-9"); r.StatusCode != http.StatusPartialContent || body != report[5:10] {
			t.Errorf("%s: one range: %s %q", path, r.Status, body)
		}
	}
}
