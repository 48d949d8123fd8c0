package portal

import (
	"io"
	"net/http"
	"strings"
)

// tunnel breaks the next download off behind n octets, in the midst of its connection; or all answers, for Chromium tries one again that broke off on
// a kept connection, until n is 0.
func (s *site) tunnel(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut, s.ranged = n, nil
}

// ranges are the Range fields of the downloads that were asked for after a tunnel.
func (s *site) ranges() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ranged
}

func (s *site) tunnelled(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/reponse") && s.cut > 0 {
		io.CopyN(io.Discard, r.Body, int64(s.cut))
		panic(http.ErrAbortHandler)
	}
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/f/") {
		return w
	}
	if s.cut == 0 {
		if asked := r.Header.Get("Range"); asked != "" {
			s.ranged = append(s.ranged, asked)
		}
		return w
	}
	left := s.cut
	s.cut = 0
	return &cutWriter{w, left}
}

// cutWriter lets so many octets through and then ends the connection.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}
