package protect

import (
	"strings"

	"passerelle/gateway/message"
)

// What surrounds a sealed message, in bytes, with room to spare: the outer header with what the operator keeps, the cover text, keys and tags.
const (
	sizeEnvelope = 8 << 10
	sizeFont     = 128 << 10 // of a PDF, with its pages
	sizeEntry    = 512       // of an archive: both headers of an entry and its line in the list
)

// lined is n bytes as base64 in lines of 76 columns.
func lined(n int64) int64 { return n/57*78 + 80 }

// SealedSize is about how large a message will be as OpenPGP or S/MIME, rather more than less.
func SealedSize(b *message.Body) int64 {
	n := b.Size()
	return lined(n+n/1000) + sizeEnvelope // partial lengths and tags of the chunks
}

// ArchiveSize is how large a message will be as a ZIP at most: as if nothing in it could be made smaller.
func ArchiveSize(x *message.Index) int64 {
	return lined(archived(x, 0)) + sizeEnvelope
}

// PDFSize is about how large a message will be as PDF, rather more than less: a PDF that is rewritten may still surprise.
func PDFSize(x *message.Index) int64 {
	return ArchiveSize(x) + sizeFont + int64(len(x.Parts))<<10
}

// archived is what part i and its parts take in an archive.
func archived(x *message.Index, i int) int64 {
	p := x.Parts[i]
	n := p.Size()
	switch {
	case x.Unclear != "" || p.Opaque:
	case strings.HasPrefix(p.Type, "multipart/"):
		sum := int64(0)
		for _, c := range p.Children {
			sum += archived(x, c)
		}
		return sum + sizeEntry
	case p.Encoding == "base64":
		n = n / 4 * 3
	}
	if strings.HasPrefix(p.Type, "text/") && !strings.EqualFold(p.Params["charset"], "utf-8") && p.Params["charset"] != "" {
		n *= 3 // it becomes UTF-8
	}
	return n + n/1000 + sizeEntry + 3*int64(len(p.Name))
}
