package portal

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/vault"
	"passerelle/gateway/web"
)

// sniffed are the types that are shown in place, each by its first octets: what a file calls itself decides nothing. There is no type among
// them that a browser takes scripts from for our pages: no HTML, no SVG, no XML.
var sniffed = []struct{ mediaType, magic string }{
	{"image/jpeg", "\xff\xd8\xff"},
	{"image/png", "\x89PNG\r\n\x1a\n"},
	{"image/gif", "GIF87a"},
	{"image/gif", "GIF89a"},
	{"application/pdf", "%PDF-"},
}

// inlineType gives the type under which a file is shown in place, "" where it is a download alone.
func inlineType(r io.ReaderAt) string {
	head := make([]byte, 12)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return ""
	}
	head = head[:n]
	for _, s := range sniffed {
		if bytes.HasPrefix(head, []byte(s.magic)) {
			return s.mediaType
		}
	}
	if n == 12 && string(head[:4]) == "RIFF" && string(head[8:]) == "WEBP" {
		return "image/webp"
	}
	return ""
}

// How a file in place is shut in. Browsers refuse a PDF under "sandbox"; their reader runs apart from the page and reaches nothing of it.
const (
	pictureCSP = "sandbox; default-src 'none'; frame-ancestors 'none'"
	pdfCSP     = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

// inPlace gives one file to be shown inside of the message's page.
func (p *Portal) inPlace(w http.ResponseWriter, r *http.Request) {
	c, ok := p.open(w, r)
	if !ok {
		return
	}
	defer c.Close()
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(c.Files) {
		p.fail(w, r, &vault.Error{Reason: vault.NotFound})
		return
	}
	mediaType := inlineType(c.File(n))
	if mediaType == "application/pdf" && !p.calm(r.Context(), c, n) {
		mediaType = ""
	}
	h := w.Header()
	switch mediaType {
	case "":
		p.fail(w, r, &vault.Error{Reason: vault.NotFound})
		return
	case "application/pdf":
		h.Set("Content-Security-Policy", pdfCSP)
		h.Set("X-Frame-Options", "SAMEORIGIN")
	default:
		h.Set("Content-Security-Policy", pictureCSP)
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", "inline"+strings.TrimPrefix(disposition(c.Files[n].Name), "attachment"))
	serve(w, r, "inplace", c.File(n))
}

// archive gives text, layout and all files as one ZIP, as it is made: nothing is packed, so its length is known before and nothing of it is held
// in memory. A browser that got less than that length knows that the download broke.
func (p *Portal) archive(w http.ResponseWriter, r *http.Request) {
	c, ok := p.open(w, r)
	if !ok {
		return
	}
	defer c.Close()
	l, _ := web.Language(r)
	lang := page{Lang: l}
	var length counter
	if err := p.pack(&length, c, lang, false); err != nil {
		p.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", disposition(lang.T("zip.name")+" "+c.Date.Format(time.DateOnly)+".zip"))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Length", strconv.FormatInt(int64(length), 10))
	count("archive", http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if err := p.pack(w, c, lang, true); err != nil {
		p.cfg.Log.Warn("archive broke off", "deposit", c.ID, "err", err)
		panic(http.ErrAbortHandler) // the browser must not take it for whole
	}
}

// pack writes the archive; without body it writes as many octets, none of them the patient's.
func (p *Portal) pack(w io.Writer, c *vault.Content, lang page, body bool) error {
	z := zip.NewWriter(w)
	taken := map[string]bool{}
	add := func(name string, size int64, content io.Reader) error {
		f, err := z.CreateHeader(&zip.FileHeader{Name: free(taken, fileName(name)), Method: zip.Store, Modified: c.Date})
		if err != nil {
			return err
		}
		if !body {
			content = io.LimitReader(zeros{}, size)
		}
		n, err := io.Copy(f, content)
		if err == nil && n != size {
			err = fmt.Errorf("file has %d octets in the place of %d", n, size)
		}
		return err
	}
	if c.Text != "" {
		text := "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(c.Text, "\r\n", "\n"), "\n", "\r\n") // as old editors on Windows want it
		if err := add(lang.T("msg.text")+".txt", int64(len(text)), strings.NewReader(text)); err != nil {
			return err
		}
	}
	if c.HTML != "" { // as the page shows it: it may be all that was written
		page := mailPage(c.HTML)
		if err := add(lang.T("msg.text")+".html", int64(len(page)), strings.NewReader(page)); err != nil {
			return err
		}
	}
	for i, f := range c.Files {
		if err := add(f.Name, f.Size, c.File(i)); err != nil {
			return err
		}
	}
	return z.Close()
}

// free gives a name that no file of the archive has yet, nor one that differs from it in capitals alone.
func free(taken map[string]bool, name string) string {
	ext := path.Ext(name)
	one := name
	for i := 2; taken[strings.ToLower(one)]; i++ {
		one = strings.TrimSuffix(name, ext) + " (" + strconv.Itoa(i) + ")" + ext
	}
	taken[strings.ToLower(one)] = true
	return one
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
