package protect

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"passerelle/gateway/message"
)

// ErrNotBeside: nothing may be added to this message: it is signed, encrypted, a report, or its parts cannot be read unambiguously.
var ErrNotBeside = errors.New("nothing is laid beside the parts of such a message")

// Place is where further parts go into a message.
type Place struct {
	// Boundary stands before each of them.
	Boundary string
	at       int64  // offset of the final boundary's line; 0: the message is wrapped
	moved    []byte // fields that go down into the first part, with the empty line
}

// NewPlace finds the place behind the last part of a multipart/mixed, and wraps any other message into one: every byte of it stays as it
// is. start is the offset of the message's body, boundary is taken where it has to be wrapped.
func NewPlace(body *message.Body, x *message.Index, start int64, boundary string) (*Place, error) {
	if x.Unclear != "" || x.Check(body) != nil {
		return nil, ErrNotBeside
	}
	for _, p := range x.Parts {
		if p.Opaque || p.Type == "multipart/report" {
			return nil, ErrNotBeside
		}
	}
	root := x.Parts[0]
	if root.Type != "multipart/mixed" {
		if slices.ContainsFunc(x.Parts, func(p message.Part) bool { return p.Params["boundary"] == boundary }) {
			return nil, ErrNotBeside
		}
		pl := &Place{Boundary: boundary}
		for _, f := range x.Header.Fields() {
			if IsContent(f.Name) {
				pl.moved = append(pl.moved, f.Raw...)
			}
		}
		pl.moved = append(pl.moved, "\r\n"...)
		return pl, nil
	}
	pl := &Place{Boundary: root.Params["boundary"]}
	end := x.Parts[root.Children[len(root.Children)-1]].End
	want := "--" + pl.Boundary + "--"
	line := make([]byte, len(want)+2)
	n, err := body.ReadAt(line, end)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("find the final boundary: %w", err)
	}
	got := string(line[:n])
	pl.at = end + int64(len(got)-len(strings.TrimPrefix(got, "\r\n"))) // the line end before a boundary belongs to it
	if !strings.HasPrefix(strings.TrimPrefix(got, "\r\n"), want) {
		return nil, ErrNotBeside
	}
	return pl, nil
}

// IsContent tells whether a field says something of the body (RFC 2045 section 9).
func IsContent(name string) bool { return len(name) > 8 && strings.EqualFold(name[:8], "Content-") }

// WithoutContent is a header's fields but those.
func WithoutContent(h message.Header) []message.Field {
	return slices.DeleteFunc(slices.Clone(h.Fields()), func(f message.Field) bool { return IsContent(f.Name) })
}

// Write writes the message with further parts, each from its boundary's line to its own line end. h is the message's header; where it
// changes Write gives the new one, and what it writes is the body behind it alone.
func (pl *Place) Write(w io.Writer, body *message.Body, h message.Header, start int64, parts *message.Body) (out message.Header, wrapped bool, err error) {
	pieces := []io.Reader{body.Section(0, pl.at), parts.Section(0, -1), body.Section(pl.at, -1)}
	if pl.moved != nil {
		out.AppendRaw(WithoutContent(h)...)
		if h.Get("MIME-Version") == "" {
			if err := out.Append("MIME-Version", "1.0"); err != nil {
				return out, false, err
			}
		}
		if err := out.Append("Content-Type", `multipart/mixed; boundary="`+pl.Boundary+`"`); err != nil {
			return out, false, err
		}
		pieces = []io.Reader{strings.NewReader("--" + pl.Boundary + "\r\n" + string(pl.moved)), body.Section(start, -1), strings.NewReader("\r\n"),
			parts.Section(0, -1), strings.NewReader("--" + pl.Boundary + "--\r\n")}
	} else {
		out = h
	}
	if _, err := io.Copy(w, io.MultiReader(pieces...)); err != nil {
		return out, false, fmt.Errorf("lay parts beside: %w", err)
	}
	return out, pl.moved != nil, nil
}
