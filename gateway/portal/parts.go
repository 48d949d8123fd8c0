package portal

import (
	"io"
	"mime/multipart"
	"net/http"
)

const (
	maxParts    = 100
	maxPartHead = 64 << 10 // octets of the header of one part, and of what stands before the first
)

// parts reads a form part by part. The library would hold a header of 10 MiB for each that it reads, whoever sends it.
type parts struct {
	mr   *multipart.Reader
	body *headed
	part *multipart.Part // the last one given
}

func newParts(r *http.Request) (*parts, error) {
	body := &headed{ReadCloser: r.Body}
	r.Body = body
	mr, err := r.MultipartReader()
	if err != nil {
		return nil, errNoForm
	}
	return &parts{mr: mr, body: body}, nil
}

// next throws away what is left of the last part and gives the one behind it; io.EOF behind them all.
func (p *parts) next() (*multipart.Part, error) {
	if p.part != nil {
		if _, err := io.Copy(io.Discard, p.part); err != nil {
			return nil, err
		}
	}
	var err error
	p.body.head, p.body.left = true, maxPartHead
	p.part, err = p.mr.NextPart()
	p.body.head = false
	return p.part, err
}

// headed is a body of which, while a header is read, so many octets are left.
type headed struct {
	io.ReadCloser
	head bool
	left int
}

func (h *headed) Read(b []byte) (int, error) {
	if !h.head {
		return h.ReadCloser.Read(b)
	}
	if h.left <= 0 {
		return 0, errNoForm
	}
	n, err := h.ReadCloser.Read(b[:min(len(b), h.left)])
	h.left -= n
	return n, err
}
