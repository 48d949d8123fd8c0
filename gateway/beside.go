package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/trust"
)

// weighXDM is what the directory of an archive and the tables of inflate take at most.
const weighXDM = 8 << 20

// errTooLargeBeside: the message with its documents would be larger than limits.message.
var errTooLargeBeside = errors.New("the message with its documents would be larger than limits.message")

// layBeside adds the documents of an IHE_XDM.ZIP as plain attachments (inbound.unpack_xdm), for people whose software opens none. It is a
// convenience: what stands against it leaves the message as it came and never keeps it waiting. All documents are added, or none.
func (g *Gateway) layBeside(ctx context.Context, m *mail) error {
	if !g.set.inbound.unpackXDM {
		return nil
	}
	x, err := m.parts()
	if err != nil {
		return err
	}
	archives := xdmParts(x)
	if len(archives) == 0 {
		return nil
	}
	n, err := g.unpack(ctx, m, x, archives)
	switch {
	case errors.Is(err, protect.ErrNotBeside):
		m.beside = ", documents not laid beside: signed, encrypted or unclear"
	case err != nil:
		m.beside = ", documents not laid beside"
		g.log.Warn("documents of "+trust.XDMName+" are not laid beside it, the message stays as it came", "id", m.env.ID, "err", err)
	default:
		m.beside = fmt.Sprintf(", %d documents laid beside", n)
	}
	return nil
}

// xdmParts are the archives that are the message's own, not those of a message attached to it.
func xdmParts(x *message.Index) (found []message.Part) {
next:
	for _, p := range x.Parts {
		if !strings.EqualFold(p.Name, trust.XDMName) || len(p.Children) > 0 {
			continue
		}
		for i := p.Parent; i >= 0; i = x.Parts[i].Parent {
			if strings.HasPrefix(x.Parts[i].Type, "message/") {
				continue next
			}
		}
		found = append(found, p)
	}
	return found
}

// unpack makes the message anew with the documents in it, and tells how many there are.
func (g *Gateway) unpack(ctx context.Context, m *mail, x *message.Index, archives []message.Part) (n int, err error) {
	place, err := protect.NewPlace(m.body, x, m.start, "=_passerelle-"+m.env.ID)
	if err != nil {
		return 0, err
	}
	release, err := g.budget.Reserve(ctx, min(weighXDM, g.budget.HalfWork()))
	if err != nil {
		return 0, err
	}
	defer release()
	const wrapping = 1024
	out := &boundedWriter{w: g.budget.NewWriter(0), left: g.set.inbound.limit - m.body.Size() - wrapping}
	names := map[string]bool{}
	for _, p := range archives {
		var file *message.Body
		if file, err = decoded(g.budget, m.body, p); err != nil {
			break
		}
		err = trust.UnpackXDM(file, file.Size(), names, func(name, mediaType string, r io.Reader) error {
			n++
			return writePart(out, place.Boundary, name, mediaType, r)
		})
		file.Close()
		if err != nil {
			break
		}
	}
	if err != nil || n == 0 {
		out.w.Abort()
		return n, err
	}
	parts, err := out.w.Body()
	if err != nil {
		return 0, err
	}
	defer parts.Close()
	w := g.budget.NewWriter(m.body.Size() + parts.Size() + wrapping)
	h, wrapped, err := place.Write(w, m.body, m.header, m.start, parts)
	if err != nil {
		w.Abort()
		return 0, err
	}
	body, err := w.Body()
	if err != nil {
		return 0, err
	}
	m.asCame = &asCame{body: m.body, header: m.header, start: m.start}
	m.body, m.own, m.index = body, body, nil
	if wrapped {
		m.header, m.start, m.rewritten = h, 0, true
	}
	return n, nil
}

// asCame is a message as it came, without the documents beside it.
type asCame struct {
	body   *message.Body
	header message.Header
	start  int64
}

// sendAsCame hands the message on as it came to those whose server refused it with its documents for its size: a convenience loses no mail.
func (g *Gateway) sendAsCame(ctx context.Context, m *mail, ways []way, group []int) {
	if m.asCame == nil || m.phones.taken {
		return
	}
	refused := refusedFor(ways, group, large)
	if len(refused) == 0 {
		return
	}
	var h message.Header
	h.AppendRaw(protect.WithoutContent(m.header)...)
	for _, f := range m.asCame.header.Fields() {
		if protect.IsContent(f.Name) {
			h.AppendRaw(f)
		}
	}
	protect.Strip(&h)
	g.log.Warn("the clinic's server takes the message without the documents laid beside alone: raise its message_size_limit", "id", m.env.ID)
	l := m.letter(slices.Concat(m.trace, m.marks, h.Bytes()), m.asCame.body, m.asCame.start)
	l.Pledge = g.pledges.another(m.pledge) // what was refused is another letter's; m is the other lanes' too
	g.send(ctx, m, ways, refused, g.set.hopClinic, l)
	for _, i := range refused {
		ways[i].decision.Reason += ", but too large for the clinic's server with them"
	}
}

// writePart writes one document as a part, base64 in lines of 76.
func writePart(w io.Writer, boundary, name, mediaType string, r io.Reader) error {
	if _, err := fmt.Fprintf(w, "--%s\r\nContent-Type: %s; name=\"%s\"\r\nContent-Description: copie tiree de %s par la passerelle\r\n"+
		"Content-Disposition: attachment; filename=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, mediaType, name, trust.XDMName, name); err != nil {
		return err
	}
	in, line := make([]byte, 57*256), make([]byte, 0, 78*256)
	for {
		n, err := io.ReadFull(r, in)
		line = line[:0]
		for p := in[:n]; len(p) > 0; p = p[min(57, len(p)):] {
			line = append(base64.StdEncoding.AppendEncode(line, p[:min(57, len(p))]), '\r', '\n')
		}
		if _, werr := w.Write(line); werr != nil {
			return werr
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("document of %s: %w", trust.XDMName, err)
		}
	}
}

// boundedWriter refuses what would make a message too large.
type boundedWriter struct {
	w    *message.BodyWriter
	left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errTooLargeBeside
	}
	return b.w.Write(p)
}
